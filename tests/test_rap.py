"""RAP: each token against full forward passes with and without [CLS], through the gate's automaton in plain Python."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
import test_decoder_oracle as oracle
from oracle import GrowingForward
from test_attack_command import BEHAVIORS, BUNDLE
from test_decoder_oracle import (
    CONFIG,
    CONTINUED,
    EOS,
    GATES,
    LAYOUT,
    NEW_TOKENS,
    REFUSAL,
    make_params,
    make_rows,
    to_batch,
)

from safety_align.attacks import Rap, TargetModel
from safety_align.attacks.rap import OPENINGS, best_of_top, refusal_tokens, write
from safety_align.decoding import Generator
from safety_align.decoding.decoder import Decoder
from safety_align.decoding.state import Stop
from safety_align.errors import InputError


def ungated_logits(params, prompt, response) -> np.ndarray:
    """[V]: of the token behind `response`, from a causal forward pass without [CLS]."""
    forward = GrowingForward(CONFIG, params, size=64)
    entries: list[int] = []
    for i, token in enumerate([*prompt, *response]):
        entries.append(forward.add(int(token), i + 1, set(entries)))
    return forward.run()[0][entries[-1]]


def top_then_best(gated, ungated, k: int, avoided=()) -> int:
    """By sorting in numpy."""
    top = np.argsort(-np.asarray(gated), kind="stable")[:k].tolist()
    wanted = [t for t in top if t not in avoided] or top
    return max(wanted, key=lambda t: ungated[t])


CASES = [
    ("low", -3.0, 0, ()),
    pytest.param("medium_rewind", -1.0, 1, (), marks=pytest.mark.slow),
    pytest.param("medium_insert", 0.5, 2, (), marks=pytest.mark.slow),
    pytest.param("hidden", -1.0, 1, (), marks=pytest.mark.slow),
    pytest.param("off", 0.0, 3, (), marks=pytest.mark.slow),
    pytest.param("periodic", -1.0, 4, "first", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("name, bias, seed, avoid", CASES)
def test_every_token_is_the_one_that_the_ungated_model_likes_best_of_the_gated_ones_top(name, bias, seed, avoid):
    """Tokens, stops, windows and verdicts; half of the rows ask for sampling, and are steered all the same."""
    k, gate, params = 5, GATES[name], make_params(seed, bias)
    rows = make_rows(seed, 4, max_prompt=9, max_prefill=11)
    decoder = Decoder(CONFIG, gate, REFUSAL, CONTINUED, EOS, LAYOUT)
    batch = to_batch(rows, LAYOUT, NEW_TOKENS, gate)
    avoided: tuple[int, ...] = ()
    if avoid:  # what would be written first otherwise, and EOS
        free = write(k, (), decoder, params, batch)
        firsts = {int(free.tokens[i, LAYOUT.prefill]) for i in range(len(rows))}
        avoided = tuple(sorted(firsts | set(EOS)))
    state = write(k, avoided, decoder, params, batch)
    changed = 0
    for i, row in enumerate(rows):

        def choose(values, row, step, greedy, response):
            nonlocal changed
            if greedy:
                return int(np.argmax(values))
            ungated = ungated_logits(params, row[0], response)
            chosen = top_then_best(values, ungated, k, avoided if step == 0 else ())
            changed += chosen != int(np.argmax(values))
            return chosen

        ids, auto, stop, checks = oracle.simulate(params, gate, row, NEW_TOKENS, choose)
        assert np.asarray(state.tokens[i])[np.asarray(state.rank[i]) >= 0].tolist() == ids
        assert Stop.NAMES[int(state.stop[i])] == stop
        if gate is None:
            continue
        columns = np.flatnonzero(~np.isnan(state.trace.probability[i]))
        assert columns.tolist() == sorted(checks)
        for column in columns:
            assert state.trace.probability[i, column] == pytest.approx(checks[column][0], abs=2e-4)
        assert int(state.verdict.released[i]) == auto.released
    assert changed if gate and gate.visible else avoided or not changed  # else the two models are one


@pytest.mark.parametrize("k", [1, 4, 20])
def test_the_choice_by_brute_force(k):
    rng = np.random.default_rng(k)
    gated, ungated = rng.normal(size=(2, 30, 16)).astype(np.float32)
    some = tuple(range(0, 16, 2))
    for avoided in ((), some, tuple(range(16))):
        found = best_of_top(jnp.asarray(gated), jnp.asarray(ungated), k, avoided)
        expected = [top_then_best(a, b, k, avoided) for a, b in zip(gated, ungated)]
        assert found.tolist() == expected, (k, avoided)
    assert best_of_top(jnp.asarray(gated), jnp.asarray(ungated), 1).tolist() == gated.argmax(-1).tolist()


def test_refusals_are_known_by_their_first_tokens():
    generator = Generator(BUNDLE, BUNDLE.gate)
    found = refusal_tokens(generator)
    texts = [generator.tokenizer.decode([token]) for token in found]
    assert found and all(text.strip() and any(o.startswith(text.strip()) for o in OPENINGS) for text in texts)
    assert not {int(generator.template.encode_response(generator.tokenizer, "Here")[0])} & set(found)


@pytest.mark.slow
def test_the_attack_steers_what_the_generator_writes_and_leaves_the_generator_as_it_was():
    generator = Generator(BUNDLE, dataclasses.replace(BUNDLE.gate, dependence="low"))
    target = TargetModel(generator, 8, 2)
    requests = [request for (request,) in Rap().requests(BEHAVIORS, BUNDLE)]
    plain = target.answer(requests)
    one = Rap(k=1).answers(requests, target)
    assert [r.token_ids for r in one] == [r.token_ids for r in plain]  # the best of one is the greedy token
    own = [r.token_ids for r in Generator(BUNDLE, "off").generate(requests, 8, 2)]
    every = Rap(k=BUNDLE.model_config.vocab_size).answers(requests, target)
    assert [r.token_ids for r in every] == own != [r.token_ids for r in plain]  # and of all the ungated model's
    assert [r.token_ids for r in target.answer(requests)] == [r.token_ids for r in plain]
    assert all(r.checks for r in every)


@pytest.mark.slow
def test_what_is_steered_is_read_again_too():
    """By the best of one token, which is the greedy one: as the generator itself."""
    watched = Generator(BUNDLE, dataclasses.replace(BUNDLE.gate, dependence="low", reread=True, threshold=0.9999))
    requests = [request for (request,) in Rap().requests(BEHAVIORS, BUNDLE)]
    scores = [(r.query_score, r.reread_score) for r in watched.generate(requests, 24, 2)]
    query, again = max(scores, key=lambda pair: pair[1] - pair[0])
    assert query < again
    gate = dataclasses.replace(BUNDLE.gate, reread=True, schedule="first", threshold=(query + again) / 2)
    target = TargetModel(Generator(BUNDLE, gate), 24, 2)
    plain, steered = target.answer(requests), Rap(k=1).answers(requests, target)
    assert [r.token_ids for r in steered] == [r.token_ids for r in plain]
    assert [r.refused for r in steered] == [r.refused for r in plain]
    assert any(r.refused and r.query_score < gate.threshold for r in steered)


def test_fields_are_checked():
    with pytest.raises(InputError, match="k must be at least 1"):
        Rap(k=0)
