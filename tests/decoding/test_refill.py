"""Rows that change hands while the loop runs: each answer is what it is in a batch that starts and ends together."""

import dataclasses

import jax
import numpy as np
import pytest
import test_readout_oracle as readouts
from make import random_params
from test_decoder_oracle import (
    CONFIG,
    CONTINUED,
    EOS,
    GATES,
    NEW_TOKENS,
    REFUSAL,
    make_params,
    make_rows,
    run,
    to_batch,
)

from safety_align.bundle import Bundle
from safety_align.decoding import GateConfig, Generator, Request, Sampling, serving
from safety_align.decoding.decoder import CHUNK, Decoder
from safety_align.decoding.first_pass import prefill
from safety_align.decoding.loop import decode
from safety_align.decoding.refill import blank, take_over
from safety_align.decoding.requests import kept_ids
from safety_align.decoding.state import Layout, Stop
from safety_align.model import preset
from safety_align.text import Tokenizer, Turn, get_template

ROWS, SHARE = 3, 2


def setting(name: str, bias: float, seed: int):
    """(gate, config, parameters); "probe": the read-out that keeps scores of each token in the cache."""
    if name != "probe":
        return GATES[name], CONFIG, make_params(seed, bias)
    gate, config = dataclasses.replace(GATES["medium_rewind"], visible=False), readouts.config_of("probe")
    return gate, config, readouts.make_params(seed, bias, config)


def row_of(state, row: int):
    """What is left of a row's answer: its tokens, why it stopped, its checks and its verdict."""
    columns = np.flatnonzero(~np.isnan(state.trace.probability[row]))
    windows = [(int(c), int(state.trace.start[row, c]), int(state.trace.stop[row, c])) for c in columns]
    verdict = jax.tree.map(lambda x: int(x[row]), state.verdict)
    return kept_ids(state, row), int(state.stop[row]), windows, verdict, state.trace.probability[row, columns]


def refilled(decoder: Decoder, params, rows, gate, seed: int):
    """`rows` answered in `ROWS` rows that are refilled at random times: (each one's `row_of`, turns of the loop)."""
    rng = np.random.default_rng(seed)

    def batch_of(some, size):
        """Filled up with rows that never run."""
        made = to_batch([*some, *[rows[0]] * (size - len(some))], decoder.layout, NEW_TOKENS, gate)
        return made.replace(limit=np.where(np.arange(size) < len(some), made.limit, 0).astype(np.int32))

    waiting, owners, found = list(range(len(rows))), [None] * ROWS, {}
    batch = batch_of([], ROWS)
    state = blank(decoder, batch)
    while True:
        free = [row for row, owner in enumerate(owners) if owner is None]
        count = min(len(waiting), len(free), int(rng.integers(0, SHARE + 1)))
        if count or not any(owner is not None for owner in owners):
            taken, waiting = waiting[:count], waiting[count:]
            places = rng.permutation(free)[:count]
            for row, i in zip(places, taken, strict=True):
                owners[row] = i
            requests = batch_of([rows[i] for i in taken], SHARE)
            fresh = prefill(decoder, params, requests)
            places = np.array([*places, *[ROWS] * (SHARE - count)], np.int32)
            state, batch = take_over(state, batch, fresh, requests, places)
        until = int(state.turn) + CHUNK * int(rng.integers(1, 4))
        state = decode(decoder, params, batch, state, np.int32(until))
        host = jax.device_get(state.replace(cache=()))
        for row, owner in enumerate(owners):
            if owner is not None and host.stop[row] != Stop.RUNNING:
                found[owner], owners[row] = row_of(host, row), None
        if len(found) == len(rows):
            return [found[i] for i in range(len(rows))], int(host.turn)


@pytest.mark.parametrize(
    "name, bias, seed",
    [
        ("medium_rewind", -1.0, 1),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("off", 0.0, 0), ("probe", -0.5, 6), ("medium_insert", -1.0, 2), ("high", -3.0, 3), ("periodic", -1.0, 4),
                ("all", -3.0, 5),
            )
        ),
    ],
)  # fmt: skip
def test_refilled_rows_answer_as_in_a_batch_of_their_own(name, bias, seed):
    """Tokens, stops, windows and verdicts are equal; probabilities to 2e-5 (slots of the ring are added up in another order)."""
    gate, config, params = setting(name, bias, seed)
    layout = Layout(prompt=9, prefill=11, steps=NEW_TOKENS + CHUNK)
    decoder = Decoder(config, gate, REFUSAL, CONTINUED, EOS, layout)
    rows = make_rows(seed, 11, max_prompt=9, max_prefill=11)
    together = run(decoder, params, to_batch(rows, layout, NEW_TOKENS, gate))
    found, turns = refilled(decoder, params, rows, gate, seed)
    assert turns > layout.steps  # the ring went round
    for i, (*exact, probabilities) in enumerate(found):
        *expected, known = row_of(together, i)
        assert exact == expected, f"row {i}, seed {seed}"
        np.testing.assert_allclose(probabilities, known, atol=2e-5)
    assert len({len(ids) for ids, *_ in found}) > 1


def test_nothing_of_a_predecessor_is_left_and_neighbours_are_untouched():
    """To the bit: a row that is taken over is the fresh one, cache and trace too, wherever the ring stands."""
    gate, params = GATES["medium_rewind"], make_params(1, -1.0)
    decoder = Decoder(CONFIG, gate, REFUSAL, CONTINUED, EOS, Layout(prompt=9, prefill=11, steps=NEW_TOKENS + CHUNK))
    rows = make_rows(2, ROWS + SHARE, max_prompt=9, max_prefill=11)
    batch, requests = (to_batch(some, decoder.layout, NEW_TOKENS, gate) for some in (rows[:ROWS], rows[ROWS:]))
    state = decode(decoder, params, batch, prefill(decoder, params, batch), np.int32(CHUNK))
    before, fresh = jax.device_get(state), jax.device_get(prefill(decoder, params, requests))
    after, merged = jax.device_get(take_over(state, batch, fresh, requests, np.array([2, ROWS], np.int32)))
    assert after.turn == before.turn == CHUNK and after.begun.tolist() == [0, 0, CHUNK]
    for old, new, now in zip(*map(jax.tree.leaves, (before, fresh, after)), strict=True):
        if old.ndim and old is not before.begun:
            np.testing.assert_array_equal(now[:2], old[:2])
            if now is not after.begun:
                np.testing.assert_array_equal(now[2], new[0])
    for old, new, now in zip(*map(jax.tree.leaves, (batch, requests, merged)), strict=True):
        np.testing.assert_array_equal(now, np.concatenate([old[:2], new[:1]]))


def test_a_blank_state_is_that_of_a_first_pass_in_shape_and_runs_no_row():
    for name in ("off", "medium_rewind", "probe"):
        gate, config, params = setting(name, 0.0, 0)
        decoder = Decoder(config, gate, REFUSAL, CONTINUED, EOS, Layout(prompt=9, prefill=11, steps=CHUNK))
        batch = to_batch(make_rows(0, 2, 9, 11), decoder.layout, 0, gate)
        made = blank(decoder, batch)
        expected = jax.eval_shape(lambda d=decoder, p=params, b=batch: prefill(d, p, b))
        assert jax.tree.map(lambda x: (x.shape, x.dtype), made) == jax.tree.map(lambda x: (x.shape, x.dtype), expected)
        assert (made.stop != Stop.RUNNING).all()


def test_no_row_goes_round_to_its_own_first_tokens():
    """A limit beyond the slots is one of as many tokens as there are slots, and a check reads the last of them."""
    for gate in (None, GATES["periodic_strict"]):
        decoder = Decoder(CONFIG, gate, REFUSAL, CONTINUED, (-1,), Layout(prompt=9, prefill=0, steps=CHUNK))
        batch = to_batch(make_rows(0, 2, 9, 0), decoder.layout, 10 * CHUNK, gate)
        state = run(decoder, make_params(0, -50.0), batch)
        assert [len(kept_ids(state, row)) for row in range(2)] == [CHUNK, CHUNK]
        assert (state.stop == Stop.MAX_TOKENS).all() and state.turn == CHUNK
        if gate is not None:
            checked = np.flatnonzero(~np.isnan(state.trace.probability[0])) - decoder.column(0)
            assert checked.tolist() == [-1, 3, 6, CHUNK]  # the query, every third token, the cap


TOKENIZER = Tokenizer.train(["How do I bake bread? Sorry, I cannot fulfill your request because"] * 9, 300)


@pytest.mark.parametrize("gated", [True, False])
def test_more_requests_than_rows_share_them_and_come_back_in_order(gated, monkeypatch):
    config = preset("tiny", vocab_size=TOKENIZER.vocab_size)
    bundle = Bundle(config, random_params(config, 3, scale=0.3), TOKENIZER, get_template("plain"), GateConfig())
    made = Generator(bundle, GateConfig() if gated else "off", max_length=512)
    asked = [
        Request((Turn("user", "bake " * (1 + i % 5)),), seed=i, sampling=Sampling(1.0) if i % 2 else Sampling())
        for i in range(11)
    ]
    expected = made.generate(asked, 12, batch_size=11)
    taken, told = [], []

    def counted(*arguments):
        taken.append(len(arguments[-1]))
        return take_over(*arguments)

    monkeypatch.setattr(serving, "take_over", counted)
    found = made.generate(asked, 12, batch_size=4, progress=told.append)
    assert taken == [1] * 11 and sum(told) == 11
    for a, b in zip(found, expected, strict=True):
        assert (a.token_ids, a.status, a.stop_reason) == (b.token_ids, b.status, b.stop_reason)
        assert [c.step for c in a.checks] == [c.step for c in b.checks]
        np.testing.assert_allclose([c.probability for c in a.checks], [c.probability for c in b.checks], atol=2e-5)
    assert len({tuple(r.token_ids) for r in found}) > 5
