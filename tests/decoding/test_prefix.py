"""A beginning that prompts share and that is read once: answers are those of prompts that are read whole."""

import dataclasses

import jax
import numpy as np
import pytest
import test_readout_oracle as readouts
from make import random_params
from test_decoder_oracle import CONFIG, CONTINUED, EOS, GATES, NEW_TOKENS, REFUSAL, make_params, make_rows, to_batch
from test_refill import row_of

from safety_align.bundle import Bundle
from safety_align.decoding import GateConfig, Generator, Request, Sampling, generator, serving
from safety_align.decoding.decoder import CHUNK, Decoder
from safety_align.decoding.first_pass import prefill
from safety_align.decoding.loop import decode
from safety_align.decoding.prefix import MOST_SCORES, can_share, fits, read_once, shared
from safety_align.decoding.state import Layout
from safety_align.model import preset
from safety_align.text import Tokenizer, Turn, get_template

BEGINNING, SLOTS = 21, 32
ATOL = 2e-5
"""Of probabilities, as of refilled rows: products of other shapes add up in another order."""


@pytest.mark.parametrize(
    "name, bias, seed",
    [
        ("medium_rewind", -1.0, 1),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (("off", 0.0, 0), ("probe", -0.5, 6), ("medium_insert", -1.0, 2), ("high", -3.0, 3))
        ),
    ],
)
def test_answers_behind_a_prefix_are_those_of_whole_prompts(name, bias, seed):
    """Tokens, stops, windows and verdicts are equal; probabilities to `ATOL`. Queries and checks read the beginning too."""
    if name == "probe":
        gate, config = dataclasses.replace(GATES["medium_rewind"], visible=False), readouts.config_of("probe")
        params = readouts.make_params(seed, bias, config)
    else:
        gate, config, params = GATES[name], CONFIG, make_params(seed, bias)
    decoder = Decoder(config, gate, REFUSAL, CONTINUED, EOS, Layout(prompt=SLOTS, prefill=11, steps=NEW_TOKENS + CHUNK))
    rng = np.random.default_rng(seed)
    ids, content = rng.integers(8, 90, BEGINNING).astype(np.int32), rng.random(BEGINNING) < 0.7
    rows = [
        (np.concatenate([ids, prompt]), np.concatenate([content, own]), *rest)
        for prompt, own, *rest in make_rows(seed, 6, max_prompt=9, max_prefill=11)
    ]
    batch = to_batch(rows, decoder.layout, NEW_TOKENS, gate)
    whole = jax.device_get(decode(decoder, params, batch, prefill(decoder, params, batch)))
    prefix = read_once(decoder, params, ids, left_out=20)
    apart = jax.device_get(decode(decoder, params, batch, prefill(decoder, params, batch, prefix)))
    for row in range(len(rows)):
        (*exact, found), (*expected, known) = row_of(apart, row), row_of(whole, row)
        assert exact == expected, f"row {row}"
        np.testing.assert_allclose(found, known, atol=ATOL)
    # It is read: another beginning gives other checks and tokens.
    other = read_once(decoder, params, ids[::-1].copy(), left_out=20)
    changed = jax.device_get(decode(decoder, params, batch, prefill(decoder, params, batch, other)))
    assert any(row_of(changed, row)[0] != row_of(whole, row)[0] for row in range(len(rows)))


TOKENIZER = Tokenizer.train(["How do I bake bread? Sorry, I cannot fulfill your request because"] * 9, 300)


def bundle_of(seed: int) -> Bundle:
    config = preset("tiny", vocab_size=TOKENIZER.vocab_size)
    return Bundle(config, random_params(config, seed, scale=0.3), TOKENIZER, get_template("plain"), GateConfig())


def encoded(*prompts: str):
    made = bundle_of(0)
    return Generator(made, "off", max_length=1024).encode([Request((Turn("user", text),)) for text in prompts], 8)


def test_what_is_left_out_holds_the_beginning_or_padding_in_every_row():
    for prompts in (("xyz" * 30 + "a", "xyz" * 30 + "bcdefgh"), ("a", "b"), ("xyz" * 9, "xyz" * 30), ("same", "same")):
        group = encoded(*prompts)
        longest = max(len(one.prompt.ids) for one in group)
        for slots in (128, 256):
            count, left_out = shared(group, slots)
            assert len({tuple(one.prompt.ids[:count]) for one in group}) == 1
            assert all(slots - len(one.prompt.ids) + count >= left_out for one in group)
            assert count < min(len(one.prompt.ids) for one in group)
            if not count:
                assert left_out == 0
                continue
            assert count >= slots // 8 and slots - left_out < longest - count + slots // 8


def test_prompts_that_differ_at_once_share_nothing():
    """However short they are: padding alone is no beginning."""
    group = [
        dataclasses.replace(one, prompt=dataclasses.replace(one.prompt, ids=np.concatenate([[i], one.prompt.ids[1:]])))
        for i, one in enumerate(encoded("a bread", "a bread", "a bread"))
    ]
    assert shared(group, 64) == shared(encoded("a", "b"), 128) == (0, 0)


def test_a_rest_whose_scores_do_not_fit_is_not_read_at_once():
    """Rows, heads and prefilled answers count: the bytes of [rows, heads, rest, slots] float32 and of a mask."""

    def may(rows: int, prompt: int, prefill: int, left_out: int) -> bool:
        layout = Layout(prompt=prompt, prefill=prefill, steps=CHUNK)
        return fits(Decoder(CONFIG, GateConfig(), REFUSAL, CONTINUED, EOS, layout), rows, left_out)

    most = MOST_SCORES // (2049 * (4 * CONFIG.heads * 513 + 2049))
    assert may(most, 2048, 0, 1536) and not may(most + 1, 2048, 0, 1536)
    assert not may(most, 2048, 1024, 1536)


def test_signals_of_rows_beside_the_tokens_read_whole_rows():
    for name, sharing in (("deep", False), ("adapted", False), ("probe", True)):
        gate = dataclasses.replace(GATES["medium_rewind"], visible=False)
        layout = Layout(prompt=SLOTS, prefill=0, steps=CHUNK)
        decoder = Decoder(readouts.config_of(name), gate, REFUSAL, CONTINUED, EOS, layout)
        assert can_share(decoder, encoded("a", "b")) == sharing


@pytest.mark.parametrize("gate", [{}, {"reread": True}, None], ids=str)
def test_a_group_that_shares_a_beginning_reads_it_once(gate, monkeypatch):
    """In rows that are refilled and in batches; and where there is little to share, or little to save, prompts are read whole."""
    made = Generator(bundle_of(3), "off" if gate is None else GateConfig(**gate), max_length=1024)
    system = Turn("system", "bake bread " * 18, vouched=True)
    asked = [
        Request((system, Turn("user", "bake " * (1 + i % 4))), seed=i, sampling=Sampling(1.0) if i % 2 else Sampling())
        for i in range(9)
    ]
    expected = made.generate(asked, 12, batch_size=4)
    assert not reads(made, asked, 4, monkeypatch)  # a tiny model: compiling would cost more
    monkeypatch.setattr(generator, "COMPILING", 0)
    for rows in (4, 9):
        assert len(set(reads(made, asked, rows, monkeypatch))) == 1
        found = made.generate(asked, 12, batch_size=rows)
        for a, b in zip(found, expected, strict=True):
            assert (a.token_ids, a.status, a.stop_reason) == (b.token_ids, b.status, b.stop_reason)
            np.testing.assert_allclose([c.probability for c in a.checks], [c.probability for c in b.checks], atol=ATOL)
            assert a.reread_score == pytest.approx(b.reread_score, abs=ATOL, nan_ok=True)
    other = [dataclasses.replace(one, turns=(Turn("user", f"{i} bread " * 9),)) for i, one in enumerate(asked)]
    assert not reads(made, other, 4, monkeypatch)


def reads(made: Generator, asked, rows: int, monkeypatch) -> list[int]:
    """The slots that each first pass of `generate` leaves out; a first pass without a prefix is none."""
    seen = []

    def noted(decoder, params, batch, prefix=None):
        if prefix is not None:
            seen.append(prefix.left_out)
        return prefill(decoder, params, batch, prefix)

    with monkeypatch.context() as patch:
        patch.setattr(serving, "prefill", noted)
        patch.setattr(generator, "prefill", noted)
        made.generate(asked, 12, batch_size=rows)
    return seen
