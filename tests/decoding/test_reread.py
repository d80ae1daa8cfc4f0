"""The second reading of an answer, without its query, against full forwards and the automaton in plain Python."""

import dataclasses
import sys

import numpy as np
import pytest
import test_decoder_oracle as oracle_tests
import test_readout_oracle as readouts
from oracle import GrowingForward, logit
from test_decoder_oracle import (
    CONFIG,
    CONTINUED,
    EOS,
    NEW_TOKENS,
    REFUSAL,
    make_params,
    make_rows,
    run,
    simulate,
    to_batch,
)
from test_generator import make, requests

from safety_align.bundle import Bundle
from safety_align.decoding import GateConfig, Request, reread, score_windows
from safety_align.decoding.decoder import REREAD_CHUNK, Decoder
from safety_align.decoding.first_pass import prefill
from safety_align.decoding.requests import kept_ids
from safety_align.decoding.reread import CONTEXT, SLOTS
from safety_align.decoding.state import Layout, Stop
from safety_align.decoding.verdict import Mode
from safety_align.errors import InputError
from safety_align.evaluation.calibration import peak
from safety_align.text import NO_REQUEST, Turn

LAYOUT = Layout(prompt=9, prefill=27, steps=NEW_TOKENS + 2 * REREAD_CHUNK)
BLANK = tuple(range(40, 53))

SHAPE = dict(tau=2, r1=3, r2=3, r3=2, max_refusal_tokens=8, reread=True)
GATES = {
    "rewind": GateConfig(**SHAPE),
    "insert": GateConfig(mode="insert", **SHAPE),
    "low": GateConfig(dependence="low", **SHAPE),
    "high": GateConfig(dependence="high", **SHAPE),
    "hidden": GateConfig(visible=False, **SHAPE),
    "alone": GateConfig(schedule="first", **SHAPE),
    "sparse": GateConfig(schedule="periodic:4", **SHAPE),
}


def second_reading(config, params, gate: GateConfig, blank=BLANK):
    """`again` of `simulate`: rows written anew, as docs/method.md section 13 says."""
    tau = gate.confirmations
    count = REREAD_CHUNK + tau - 1
    own = len(blank) + (count + gate.visible if config.signal.in_stream else 0)
    slots = -(-(own + count - 1 + gate.r2 + CONTEXT) // SLOTS) * SLOTS
    room = slots - own

    def again(ids: list[int], begin: int) -> dict[int, float]:
        skipped = max(0, len(ids) - room)
        forward, entries = GrowingForward(config, params, size=128), []
        for token in blank:
            entries.append(forward.add(token, len(entries) + 1, set(entries)))
        signal = {forward.add(-1, 0, set(entries))} if gate.visible else set()
        answer = []
        for token in ids[skipped:]:
            sees = set(entries) | signal | set(answer)
            answer.append(forward.add(int(token), len(blank) + len(answer) + 1, sees))
        ends = range(max(1, len(ids) - count + 1), len(ids) + 1)
        copies = {}
        for end in ends:
            low = max(end - gate.r2, begin, skipped)
            copies[end] = forward.add(-1, 0, set(answer[max(low - skipped, 0) : end - skipped]))
        safety = forward.run()[1]
        return {end: float(safety[copy]) for end, copy in copies.items()}

    return again


def compare(name: str, bias: float, seed: int, config=CONFIG, params=None, blank=BLANK):
    """Tokens, stops and verdicts are equal; the second reading's probability to 2e-4 (float32, sums in another order)."""
    gate = GATES[name]
    params = make_params(seed, bias) if params is None else params
    rows = make_rows(seed, 5, max_prompt=9, max_prefill=27)
    decoder = Decoder(config, gate, REFUSAL, CONTINUED, EOS, LAYOUT, blank)
    state = run(decoder, params, to_batch(rows, LAYOUT, NEW_TOKENS, gate))
    outcomes = set()
    for i, row in enumerate(rows):
        ids, auto, stop, _ = simulate(params, gate, row, NEW_TOKENS, again=second_reading(config, params, gate, blank))
        assert state.tokens[i][state.rank[i] >= 0].tolist() == ids
        assert Stop.NAMES[state.stop[i]] == stop
        mode = {"benign": Mode.BENIGN, "alert": Mode.ALERT, "confirmed": Mode.CONFIRMED, "query": Mode.QUERY}
        assert state.verdict.mode[i] == mode.get(auto.state, Mode.REFUSING)
        assert state.verdict.transition[i] == (-1 if auto.turned_at is None else auto.turned_at)
        assert state.verdict.safe_length[i] == auto.vouched and state.verdict.released[i] == auto.released
        if np.isneginf(auto.read_again):
            assert np.isnan(state.reread[i])
        else:
            assert state.reread[i] == pytest.approx(1 / (1 + np.exp(-auto.read_again)), abs=2e-4)
        outcomes |= {stop, auto.state}
        outcomes |= (
            {"by the second reading"}
            if auto.state == "refusing" and auto.read_again >= logit(gate.threshold)
            else set()
        )
    return outcomes


CASES = [
    ("rewind", -1.5, 1),
    ("rewind", -3.0, 0),
    ("insert", -1.0, 2),
    ("low", -1.0, 1),
    ("high", -2.0, 3),
    ("sparse", -1.5, 4),
    ("alone", -1.5, 5),
]


@pytest.fixture(autouse=True)
def own_layout(monkeypatch):
    monkeypatch.setattr(oracle_tests, "LAYOUT", LAYOUT)


@pytest.mark.parametrize(
    "name, bias, seed",
    [pytest.param(*case, marks=[] if i == 0 else [pytest.mark.slow]) for i, case in enumerate(CASES)],
)
def test_a_decoder_that_reads_again_is_the_plain_one(name, bias, seed):
    assert compare(name, bias, seed) & {"benign", "confirmed", "query", "refusing"}


@pytest.mark.slow
def test_the_cases_above_meet_every_outcome():
    seen = set().union(*(compare(*case) for case in CASES))
    assert {"eos", "max_tokens", "guard", "refusal_end", "benign", "confirmed", "by the second reading"} <= seen


def test_what_the_second_reading_finds_the_first_does_not_take_back():
    """Under "low" too, over several chunks: an answer whose second reading reaches the threshold is called malicious."""
    config, seen = dataclasses.replace(GATES["low"], visible=False, threshold=0.999), set()
    for seed in range(4):
        rows = make_rows(seed, 6, max_prompt=9, max_prefill=27)
        decoder = Decoder(CONFIG, config, REFUSAL, CONTINUED, (-1,), LAYOUT, BLANK)
        state = run(decoder, make_params(seed, -2.0 - 4 * seed), to_batch(rows, LAYOUT, 40, config))
        found = np.nan_to_num(state.reread) >= config.threshold
        assert np.isin(state.verdict.mode[found], [Mode.CONFIRMED, Mode.QUERY]).all()
        seen |= set(found.tolist())
    assert seen == {True, False}


def test_a_refusal_that_starts_late_has_its_room():
    """Rows that run to the last slot that they may use, and are found to be malicious only then."""
    gate = dataclasses.replace(GATES["alone"], visible=False)
    short = dataclasses.replace(LAYOUT, steps=2 * REREAD_CHUNK)
    decoder, late = Decoder(CONFIG, gate, REFUSAL, CONTINUED, (-1,), short, BLANK), 0
    for seed in range(6):
        rows = make_rows(seed, 6, max_prompt=9, max_prefill=27)
        state = run(decoder, make_params(seed, -1.5 - seed), to_batch(rows, short, 2 * REREAD_CHUNK, gate))
        kept = (state.rank >= 0).sum(1)
        assert kept.tolist() == state.length.tolist()
        for i in np.flatnonzero(state.verdict.mode == Mode.REFUSING):
            start = int(state.verdict.refusal_start[i])
            forced = REFUSAL if start == 0 else CONTINUED
            ids = kept_ids(state, i)
            assert tuple(ids[start : start + len(forced)]) == forced
            late += start > 0
    assert late
    with pytest.raises(InputError, match="layout.steps .16. must exceed"):
        Decoder(CONFIG, gate, REFUSAL, CONTINUED, EOS, dataclasses.replace(LAYOUT, steps=REREAD_CHUNK), BLANK)


def test_windows_wider_than_any_answer_take_no_more_room_than_one():
    rows = make_rows(1, 3, max_prompt=9, max_prefill=27)
    found = []
    for width in (60, 10**6):
        gate = dataclasses.replace(GATES["low"], visible=False, r2=width)
        decoder = Decoder(CONFIG, gate, REFUSAL, CONTINUED, EOS, LAYOUT, BLANK)
        found.append(run(decoder, make_params(1, -2.0), to_batch(rows, LAYOUT, NEW_TOKENS, gate)).reread)
    np.testing.assert_allclose(*found, atol=1e-6)


def test_of_a_long_answer_only_the_latest_tokens_are_read_again(monkeypatch):
    for module in (sys.modules[__name__], reread):
        monkeypatch.setattr(module, "CONTEXT", 2)
        monkeypatch.setattr(module, "SLOTS", 4)
    outcomes = compare("hidden", -1.5, 6, blank=BLANK[:5])
    assert len(outcomes) > 2
    assert reread._row(Decoder(CONFIG, GATES["hidden"], REFUSAL, CONTINUED, EOS, LAYOUT, BLANK[:5]))[2] < 27


@pytest.mark.slow
def test_a_probe_reads_again_what_it_reads_of_windows_behind_that_request(monkeypatch):
    config = readouts.config_of("probe")
    monkeypatch.setattr(oracle_tests, "CONFIG", config)
    for seed, bias in ((1, -1.0), (2, 0.0)):
        outcomes = compare("hidden", bias, seed, config, readouts.make_params(seed, bias, config))
        assert outcomes & {"benign", "confirmed", "query", "refusing"}


def test_words_of_the_query_do_not_reach_the_second_reading():
    """One prefilled answer behind two queries: its checks differ, the second reading does not."""
    fill, rng = np.random.default_rng(0).integers(8, 97, 10), np.random.default_rng(1)
    rows = [(rng.integers(8, 97, size), np.ones(size, bool), fill) for size in (9, 6)]
    gate = dataclasses.replace(GATES["low"], visible=False)
    decoder = Decoder(CONFIG, gate, REFUSAL, CONTINUED, EOS, LAYOUT, BLANK)
    state = prefill(decoder, make_params(3, -4.0), to_batch(rows, LAYOUT, NEW_TOKENS, gate))
    assert (state.verdict.mode != Mode.QUERY).all()
    checks = state.trace.probability[:, 1 : decoder.column(0) + 1]
    assert np.isfinite(checks).sum() >= 2 * 9
    assert np.nanmax(np.abs(checks[0] - checks[1])) > 0.01
    np.testing.assert_allclose(state.reread[0], state.reread[1], atol=1e-6)
    assert np.isfinite(state.reread).all()


@pytest.mark.slow
@pytest.mark.parametrize("gate", [{"visible": False, "tau": 2, "r2": 4}, {"mode": "insert"}], ids=str)
def test_streams_and_refilled_rows_read_again_like_batches(gate):
    refused = 0
    for seed in range(2):
        generator = make(-0.8, seed, reread=True, **gate)
        asked = requests(9)
        together = generator.generate(asked, 24, batch_size=4)
        for request, whole in zip(asked, together, strict=True):
            (alone,) = generator.generate([request], 24, batch_size=1)
            pieces = list(generator.stream(request, 24))
            assert alone.token_ids == whole.token_ids == pieces[-1].result.token_ids
            assert alone.reread_score == pytest.approx(whole.reread_score, abs=1e-5, nan_ok=True)
            assert "".join(p.text for p in pieces) == whole.response
            refused += whole.refused and whole.query_score < 0.5
    assert refused


def test_the_peak_of_an_answer_is_where_the_gate_begins_to_refuse_it():
    for request in requests(4):
        (watched,) = make(-9.0, reread=True, dependence="low", threshold=0.9999, schedule="first").generate(
            [request], 24
        )
        top = peak(watched, GateConfig().tau)
        assert top == pytest.approx(watched.reread_score) and top > 1.001 * watched.query_score
        for factor, refuses in ((0.999, True), (1.001, False)):
            (result,) = make(-9.0, reread=True, schedule="first", threshold=factor * top).generate([request], 24)
            assert result.refused == refuses


def test_a_decoder_that_reads_again_needs_a_prompt_to_read_behind():
    with pytest.raises(InputError, match="gate.reread needs"):
        Decoder(CONFIG, GATES["rewind"], REFUSAL, CONTINUED, EOS, LAYOUT)


def test_the_second_reading_is_that_of_windows_behind_its_request():
    """The generator's, beside the function that scores windows of given answers."""
    generator = make(-9.0, reread=True, visible=False, dependence="low", schedule="first")
    request = Request((Turn("user", "abc"),), prefill="a long answer that stands here")
    ids = generator.template.encode_response(generator.tokenizer, request.prefill)
    (result,) = generator.generate([dataclasses.replace(request, seed=0)], 1)
    assert (
        len(ids) + 1 >= len(result.token_ids) >= len(ids) and generator.tokenizer.decode(list(ids)) == request.prefill
    )
    bundle = Bundle(generator.model_config, generator.params, generator.tokenizer, generator.template, generator.gate)
    text = generator.tokenizer.decode(result.token_ids)
    assert generator.template.encode_response(generator.tokenizer, text).tolist() == result.token_ids
    windows = [((Turn("user", NO_REQUEST),), text, end) for end in range(1, len(result.token_ids) + 1)]
    scores = score_windows(bundle, windows, generator.gate)
    tau = generator.gate.tau
    runs = [scores[i : i + tau].min() for i in range(len(scores))]
    expected = max(runs)  # at the end of an answer fewer than tau are enough
    assert result.reread_score == pytest.approx(expected, abs=1e-5)
