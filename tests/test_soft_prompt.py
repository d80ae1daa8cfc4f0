"""Soft prompts: vectors in a request are what their tokens are; Adam on the attack's loss against Adam in numpy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_gcg import GATES, GOAL, TARGET, TOKENIZER, bundle_of

from safety_align.attacks.objective import attack_losses, attack_row, embed
from safety_align.attacks.soft_prompt import SoftPrompt, soft_prompt
from safety_align.data.behavior import Behavior
from safety_align.decoding import Generator, Request, SoftTokens
from safety_align.errors import InputError
from safety_align.text import Turn

SUFFIXES = " x y z", " a small pin x y z"


def vectors_of(bundle, ids) -> SoftTokens:
    found = embed(bundle.model_config, bundle.params, jnp.asarray([ids], jnp.int32))
    return SoftTokens(np.asarray(found[0], np.float32))


def pairs(bundle, prefill: str = ""):
    """(requests in words, the same with vectors in place of the suffixes): suffixes of two lengths, and an ordinary request."""
    words, soft = [], []
    for i, suffix in enumerate((*SUFFIXES, "")):
        words.append(Request((Turn("user", GOAL + suffix),), prefill, seed=i))
        ids = TOKENIZER.encode(suffix, "text") if suffix else []
        there = bundle.template.encode(TOKENIZER, words[-1].turns).ids
        plain = bundle.template.encode(TOKENIZER, (Turn("user", GOAL),))
        put, start = plain.insert(np.asarray(ids, np.int32))
        np.testing.assert_array_equal(put.ids, there)  # else the two do not ask the same
        assert not ids or put.content[start : start + len(ids)].all()
        asked = Request((Turn("user", GOAL),), prefill, seed=i, soft=vectors_of(bundle, ids) if suffix else None)
        soft.append(asked)
    return words, soft


def seen(result):
    checks = [(c.step, c.start, c.stop) for c in result.checks]
    return result.token_ids, result.status, result.stop_reason, result.refusal_start, checks


PREFILL = "Sure, here is how: take a small pin"
ANSWERS = [
    ("row", ""),
    *(
        pytest.param(name, prefill, marks=pytest.mark.slow)
        for name, prefill in (
            ("row", PREFILL),
            ("unseen", PREFILL),
            ("probe", ""),
            ("probe", PREFILL),
            ("everything", PREFILL),
        )
    ),
]


@pytest.mark.parametrize("name, prefill", ANSWERS)
def test_vectors_that_are_tokens_get_the_answer_to_these_tokens(name, prefill):
    """Token for token and check for check, of answers that pass and answers that are refused; probabilities to 1e-6: it is
    another program."""
    bundle = bundle_of(name)
    words, soft = pairs(bundle, prefill)
    threshold = 0.9999  # then the median of all checks, so that some alert
    for _ in range(2):
        generator = Generator(bundle, dataclasses.replace(GATES[name], threshold=threshold))
        told, asked = (generator.generate(requests, 8, 3) for requests in (words, soft))
        assert [seen(r) for r in asked] == [seen(r) for r in told]
        for a, b in zip(asked, told, strict=True):
            np.testing.assert_allclose([c.probability for c in a.checks], [c.probability for c in b.checks], atol=1e-6)
        threshold = float(np.clip(np.median([c.probability for r in told for c in r.checks]), 1e-4, 1 - 1e-4))
    other = dataclasses.replace(soft[1], soft=SoftTokens(3 - soft[1].soft.vectors))
    changed = generator.generate([soft[0], other], 8, 3)
    assert seen(changed[0]) == seen(told[0])
    assert changed[1].query_score != pytest.approx(told[1].query_score, abs=1e-4)


def test_vectors_that_are_none_are_named():
    bundle = bundle_of("row")
    for bad in (np.zeros(3), np.zeros((0, 3)), np.full((2, 3), np.nan)):
        with pytest.raises(InputError, match="finite vectors"):
            SoftTokens(bad)
    asked = Request((Turn("user", GOAL),), soft=SoftTokens(np.zeros((2, 3))))
    with pytest.raises(InputError, match=r"request 0: soft tokens of 3 numbers"):
        Generator(bundle, GATES["row"]).generate([asked], 4)


def test_a_batch_without_vectors_has_no_arrays_for_them():
    """So that it is the program that it would be without soft tokens."""
    generator = Generator(bundle_of("row"), GATES["row"])
    words, soft = pairs(bundle_of("row"))
    batches = [generator._prepare(generator.encode(requests, 4), 8, 4)[1] for requests in (words, soft)]
    assert batches[0].soft is None and len(jax.tree.leaves(batches[0])) == 12
    assert len(jax.tree.leaves(batches[1])) == 14


@pytest.mark.parametrize("name", ["row", pytest.param("probe", marks=pytest.mark.slow)])
def test_the_steps_are_adams(name):
    """Adam in numpy over gradients that central differences confirm: losses of eight steps to 1e-3, the best vectors too."""
    bundle, gate = bundle_of(name, 1), GATES[name]
    config = SoftPrompt(steps=8, tokens=3, learning_rate=0.2, look_every=4)
    found = soft_prompt(bundle, gate, GOAL, TARGET, config)
    ids = np.resize(np.asarray(TOKENIZER.encode(" x", "text"), np.int32), 3)
    row = attack_row(bundle, gate, GOAL, TARGET, ids)
    base = embed(bundle.model_config, bundle.params, jnp.asarray(row.tokens))

    @jax.jit
    @jax.value_and_grad
    def loss(free):
        vectors = base.at[0, row.free].set(free)
        arguments = bundle.model_config, bundle.params, config.loss, gate.logit_threshold, row, vectors
        return attack_losses(*arguments)["loss"][0]

    rng, rate = np.random.default_rng(0), 0.2 * np.sqrt(np.mean(np.square(bundle.params["embedding"])))
    free = np.asarray(base[0, row.free], np.float64)
    first, second, curve, tried = np.zeros_like(free), np.zeros_like(free), [], []
    for step in range(1, 9):
        value, gradient = loss(free.astype(np.float32))
        gradient = np.asarray(gradient, np.float64)
        way = gradient / np.linalg.norm(gradient) + 0.1 * rng.normal(size=free.shape)
        ahead, back = (float(loss((free + by * way).astype(np.float32))[0]) for by in (1e-2, -1e-2))
        assert (ahead - back) / 2e-2 == pytest.approx(float((gradient * way).sum()), rel=0.05)
        curve.append(float(value))
        tried.append(free)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        free = free - rate * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    np.testing.assert_allclose([point[0] for point in found.curve], curve, atol=1e-3)
    assert found.loss == pytest.approx(min(curve), abs=1e-3) and min(curve) < curve[0] - 0.1
    np.testing.assert_allclose(found.vectors, tried[int(np.argmin(curve))], atol=0.02 * np.abs(free).max())


@pytest.mark.slow
def test_lam_says_whom_the_vectors_are_for():
    bundle, gate = bundle_of("row"), GATES["row"]
    target, checks = (
        soft_prompt(bundle, gate, GOAL, TARGET, SoftPrompt(steps=24, tokens=4, lam=lam, look_every=0))
        for lam in (1.0, 0.0)
    )
    assert target.curve[-1][1] < min(checks.curve[-1][1], target.curve[0][1] - 0.5)
    assert checks.curve[-1][2] < min(target.curve[-1][2], checks.curve[0][2])


@pytest.mark.slow
def test_the_search_ends_once_an_answer_written_from_its_vectors_will_do():
    bundle, gate = bundle_of("row"), GATES["row"]
    generator, asked = Generator(bundle, gate), []

    def works(request: Request) -> bool:
        asked.append((request, generator.generate([request], 4, 1)[0]))
        return len(asked) == 2

    config = SoftPrompt(steps=8, tokens=3, learning_rate=0.3, look_every=2)
    crafted = config.craft(Behavior(GOAL, TARGET), bundle, gate, works)
    assert crafted.steps == 4 == len(crafted.record["curve"]) and len(asked) == 2
    assert crafted.record["loss"] == min(point[0] for point in crafted.record["curve"])
    np.testing.assert_array_equal(crafted.request.soft.vectors, asked[1][0].soft.vectors)
    assert crafted.request.turns[-1].text == GOAL and crafted.request.soft.vectors.shape == (
        3,
        bundle.model_config.width,
    )
    # What the loss says of the query is what the gate sees of it: the statistic is no less than the check of the query.
    step = int(np.argmin([point[0] for point in crafted.record["curve"]]))
    score = asked[1][1].query_score
    assert crafted.record["curve"][step][2] >= np.log(score / (1 - score)) - 1e-3


@pytest.mark.slow
def test_the_search_takes_all_its_steps_where_nobody_looks():
    bundle, gate = bundle_of("row"), GATES["row"]
    config = SoftPrompt(steps=18, tokens=3, look_every=0)
    whole = config.craft(Behavior(GOAL, TARGET), bundle, gate, lambda request: pytest.fail("an answer was written"))
    assert whole.steps == len(whole.record["curve"]) == 18


def test_a_rate_that_is_none_is_named():
    with pytest.raises(InputError, match=r"attack\.learning_rate"):
        SoftPrompt(learning_rate=0)
