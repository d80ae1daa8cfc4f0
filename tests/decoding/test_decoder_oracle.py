"""The cached, gated decoder against a full forward with a dense mask and the automaton in plain Python."""

import dataclasses
import functools
import math
import sys

import flax.linen as nn
import jax
import numpy as np
import pytest
from make import random_params
from oracle import Automaton, GrowingForward, logit

from safety_align.decoding.config import GateConfig
from safety_align.decoding.decoder import CHUNK, REREAD_CHUNK, Decoder
from safety_align.decoding.first_pass import prefill
from safety_align.decoding.loop import decode
from safety_align.decoding.requests import shown_ids
from safety_align.decoding.state import Layout, PromptBatch, Stop
from safety_align.decoding.verdict import Mode
from safety_align.model import RopeScaling, abstract_params, preset

CONFIG = preset("tiny", scan_layers=False)
EOS = (2, 17, 31, 47, 61, 80)  # so many that answers end by themselves, with alerts pending too
REFUSAL, CONTINUED = (11, 12, 13), (21, 22, 23, 24)
NEW_TOKENS = 16


def make_params(seed: int, bias: float):
    """Random parameters, scaled up so that verdicts and tokens vary; `bias` shifts the head."""
    params = random_params(CONFIG, seed, scale=0.25)
    params["safety_kernel"] = 12.0 * params["safety_kernel"]
    return params | {"safety_bias": params["safety_bias"] * 0 + bias}


def make_rows(seed: int, rows: int, max_prompt: int, max_prefill: int):
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(rows):
        size = int(rng.integers(2, max_prompt + 1))
        content = rng.random(size) < 0.7
        fill = int(rng.integers(0, max_prefill + 1)) if max_prefill else 0
        made.append((rng.integers(8, 97, size), content, rng.integers(8, 97, fill)))
    return made


def to_batch(rows, layout: Layout, limit: int, gate: GateConfig | None) -> PromptBatch:
    count = len(rows)
    prompt = np.zeros((count, layout.prompt), np.int32)
    content = np.zeros((count, layout.prompt), bool)
    prefilled = np.full((count, layout.prefill), 96, np.int32)
    for i, (ids, marks, fill) in enumerate(rows):
        prompt[i, layout.prompt - len(ids) :] = ids
        content[i, layout.prompt - len(ids) :] = marks
        prefilled[i, : len(fill)] = fill
    lengths = (np.array([len(r[k]) for r in rows], np.int32) for k in (0, 2))
    prompt_length, prefill_length = lengths
    return PromptBatch(
        prompt, content, prompt_length, prefilled, prefill_length, np.full(count, limit, np.int32),
        np.full(count, gate.logit_threshold if gate else 0, np.float32),
        np.array([temperature(r) for r in rows], np.float32), np.zeros(count, np.int32), np.ones(count, np.float32),
        np.array([own_seed(r) for r in rows], np.uint32), np.zeros(count, np.uint32),
    )  # fmt: skip


def own_seed(row) -> int:
    """Of a row's sampling, whatever its place in a batch."""
    return int(row[0].sum())


def temperature(row) -> float:
    """Half of the rows are sampled; a refusal of theirs must be greedy all the same."""
    return 1.5 * (own_seed(row) % 2)


def run(decoder: Decoder, params, batch: PromptBatch):
    state = prefill(decoder, params, batch)
    state = decode(decoder, params, batch, state)
    return jax.device_get(state.replace(cache=()))


def draw(values, row, step: int, greedy: bool, response=()) -> int:
    """The next token after `step` drawn ones, by the Gumbel trick; `response`: the tokens before it."""
    if greedy or not temperature(row):
        return int(np.argmax(values))
    key = jax.random.fold_in(jax.random.key(own_seed(row)), step)
    return int(np.argmax(values / temperature(row) + np.asarray(jax.random.gumbel(key, values.shape))))


def simulate(params, gate: GateConfig | None, row, limit: int, draw=draw, again=None):
    """One row by full forwards only, its tokens chosen by `draw`; of a gate that reads again `again(ids, begin)` gives the
    logits of the second reading, by the kept tokens at which their windows end. Returns
    (kept ids, automaton, stop, {trace column: (p, start, stop)})."""
    prompt, content, fill = row
    forward = GrowingForward(CONFIG, params, size=96)
    entries = []
    for i, token in enumerate(prompt):
        entries.append(forward.add(int(token), i + 1, entries))
    query = {e for e, c in zip(entries, content, strict=True) if c}
    base = set(entries)
    signal = set()
    auto = Automaton(gate, (len(REFUSAL), len(CONTINUED))) if gate else None
    checks, response = {}, []  # response: (entry, token) of kept tokens
    threshold = logit(gate.threshold) if gate else None

    def look(column, sees, window):
        entry = forward.add(-1, 0, sees)
        value = forward.run()[1][entry]
        checks[column] = (1 / (1 + np.exp(-value)), *window)
        return entry, not value < threshold

    if gate:
        entry, bad = look(0, query, (0, 0))
        signal = {entry} if gate.visible else set()
        auto.kept = len(fill)
        auto.query(bad)
    for i, token in enumerate(fill):
        sees = base | signal | {e for e, _ in response}
        response.append((forward.add(int(token), len(prompt) + i + 1, sees), int(token)))
    if not response:
        values = forward.run()[0][entries[-1]]
    else:
        values = forward.run()[0][response[-1][0]]

    rechecks = gate is not None and gate.schedule != "first"  # of what is generated
    at_end = 1  # the column of the check that reads the prefilled answer's end
    if gate and len(fill):
        inner = auto.inner_windows(len(fill))
        at_end += len(auto.inner_windows(LAYOUT.prefill))
        copies = [
            forward.add(-1, 0, {e for e, _ in response[start:stop]} | (query if with_query else set()))
            for start, stop, with_query in inner
        ]
        safety = forward.run()[1]
        for column, copy, (start, stop, _) in zip(range(at_end - len(inner), at_end), copies, inner, strict=True):
            if auto.state in ("query", "refusing"):
                break
            checks[column] = (1 / (1 + np.exp(-safety[copy])), start, stop)
            auto.inside(not safety[copy] < threshold, stop, len(fill))
            if auto.state == "refusing" and gate.visible:
                signal = {copy}  # the verdict that started it
        if auto.state != "refusing":
            start, stop, with_query = auto.window()
            sees = {e for e, _ in response[start:stop]} | (query if with_query else set())
            entry, bad = look(at_end, sees, (start, stop))
            signal = {entry} if gate.visible else set()
            auto.response(bad)
    elif gate:
        at_end += len(auto.inner_windows(LAYOUT.prefill))
    if again and fill.size:
        ids = [t for _, t in response]
        ends = [min(end, len(ids)) for end in range(REREAD_CHUNK, LAYOUT.prefill + REREAD_CHUNK, REREAD_CHUNK)]
        auto.second_reading_of_prefill([again(ids[:end], 0) for end in ends], threshold)
    step, stop = 0, None
    refused_at_step = 0 if auto and auto.state == "refusing" else None
    while True:
        # Choose the next token from `values`.
        token = draw(
            values, row, step, greedy=bool(auto) and auto.state == "refusing", response=[t for _, t in response]
        )
        ended = token in EOS
        if auto:
            if auto.halted:
                stop = "guard"
            doubtful = step == 0 and bool(again) and auto.last_window >= threshold
            ends = ended and auto.state != "refusing"
            if ended and auto.end_of_answer(doubtful):
                refused_at_step = step
            if step == 0 and ends and (doubtful or auto.state != "refusing"):
                auto.read_again = max(auto.read_again, auto.last_window)
            response = response[: auto.kept]
            if auto.state == "refusing":
                place, forced = auto.kept - auto.refusal_at, REFUSAL if auto.refusal_at == 0 else CONTINUED
                if place < len(forced):
                    token, ended = forced[place], False
                elif gate.dependence == "high":
                    ended = True
        refusing = bool(auto) and auto.state == "refusing"
        bound = refused_at_step + gate.max_refusal_tokens if refusing else limit
        if stop is None and ended:
            stop = "refusal_end" if refusing else "eos"
        if stop is None and step >= bound:
            stop = "refusal_limit" if refusing else "max_tokens"
        if again and step and (stop or step % REREAD_CHUNK == 0):
            before = auto.kept
            windows = again([t for _, t in response], auto.refusal_at or 0)
            if auto.second_reading(windows, threshold, bool(stop)):
                step = -(-step // REREAD_CHUNK) * REREAD_CHUNK
                refused_at_step, stop = step, None
                token = (REFUSAL if auto.refusal_at == 0 else CONTINUED)[0]
            elif auto.halted and stop != "guard":
                stop = "guard"
            if auto.kept < before:
                response = response[: auto.kept]
        if stop:
            return [t for _, t in response], auto, stop, checks
        step += 1
        # The check comes with the token: the token sees the new verdict, so the verdict's entry is made first, and
        # it reads the token's keys: entries of one step see each other through the mask only.
        index = len(response)
        position = len(prompt) + index + 1
        entry = forward.add(token, position, set())
        response.append((entry, token))
        if auto:
            auto.kept += 1
        scheduled = rechecks and (due_by_schedule(gate.schedule, step) or step >= bound)
        was_refusing = bool(auto) and auto.state == "refusing"
        if rechecks and auto.due(scheduled):
            start, end, with_query = auto.window()
            sees = {e for e, _ in response[start:end]} | (query if with_query else set())
            check = forward.add(-1, 0, sees)
            if not was_refusing and gate.visible:
                signal = {check}
            forward.sees[entry] = base | signal | {e for e, _ in response}
            logits, safety = forward.run()
            value = safety[check]
            checks[at_end + step] = (1 / (1 + np.exp(-value)), start, end)
            before = auto.state
            auto.response(not value < threshold)
            if auto.state == "refusing" and before != "refusing":
                refused_at_step = step
        else:
            forward.sees[entry] = base | signal | {e for e, _ in response}
            logits, _ = forward.run()
        values = logits[entry]


def due_by_schedule(text: str, step: int) -> bool:
    if text == "every":
        return True
    if text == "first":
        return False
    assert text.startswith("periodic:")
    return step % int(text.split(":")[1]) == 0


LAYOUT = Layout(prompt=9, prefill=11, steps=NEW_TOKENS + CHUNK)

GATES = {
    "off": None,
    "medium_rewind": GateConfig(tau=2, r1=3, r2=3, r3=2, max_refusal_tokens=8),
    "medium_insert": GateConfig(mode="insert", tau=2, r1=3, r2=3, r3=2, max_refusal_tokens=8),
    "low": GateConfig(dependence="low", tau=2, r1=3, r2=3, r3=2),
    "high": GateConfig(dependence="high", r1=3, r2=4, r3=2, max_refusal_tokens=8),
    "periodic": GateConfig(tau=2, r2=5, schedule="periodic:4", max_refusal_tokens=8),
    "periodic_strict": GateConfig(tau=2, r2=5, schedule="periodic:3", confirm_every_step=False, max_refusal_tokens=8),
    "all": GateConfig(reads="all", tau=1, max_refusal_tokens=8),
    "hidden": GateConfig(visible=False, tau=2, r1=3, r2=3, r3=2, max_refusal_tokens=8),
    "query_too": GateConfig(windows_include_query=True, tau=3, mode="insert", max_refusal_tokens=8),
    "wide": GateConfig(tau=1, r2=7, r3=3, threshold=0.2, max_refusal_tokens=8),
    "first": GateConfig(tau=2, r2=3, r3=3, schedule="first", mode="insert", max_refusal_tokens=8),
}


@functools.cache
def decoded(config, name, bias, seed):
    """(rows, what became of them)."""
    gate = GATES[name]
    rows = make_rows(seed, 5, max_prompt=9, max_prefill=11)
    decoder = Decoder(config, gate, REFUSAL, CONTINUED, EOS, LAYOUT)
    return rows, run(decoder, make_params(seed, bias), to_batch(rows, LAYOUT, NEW_TOKENS, gate))


def check_decoding(name, bias, seed):
    """Tokens, stops, statuses and windows are equal; probabilities to 2e-4 (float32, sums in another order)."""
    gate, params = GATES[name], make_params(seed, bias)
    rows, state = decoded(CONFIG, name, bias, seed)
    for i, row in enumerate(rows):
        ids, auto, stop, checks = simulate(params, gate, row, NEW_TOKENS)
        assert state.tokens[i][state.rank[i] >= 0].tolist() == ids
        assert Stop.NAMES[state.stop[i]] == stop
        if gate is None:
            assert np.isnan(state.trace.probability[i]).all()
            continue
        columns = np.flatnonzero(~np.isnan(state.trace.probability[i]))
        assert columns.tolist() == sorted(checks)
        for column in columns:
            probability, start, end = checks[column]
            assert state.trace.probability[i, column] == pytest.approx(probability, abs=2e-4)
            assert (state.trace.start[i, column], state.trace.stop[i, column]) == (start, end)
        mode = {"benign": Mode.BENIGN, "alert": Mode.ALERT, "confirmed": Mode.CONFIRMED, "query": Mode.QUERY}
        assert state.verdict.mode[i] == mode.get(auto.state, Mode.REFUSING)
        assert state.verdict.transition[i] == (-1 if auto.turned_at is None else auto.turned_at)
        assert state.verdict.safe_length[i] == auto.vouched
        assert state.verdict.released[i] == auto.released
        # What a reader gets: nothing condemned, and of an answer that ends in an alert what was vouched for.
        shown = ids
        if auto.state == "refusing":
            shown = ids[: auto.released] + ids[auto.refusal_at :]
        elif auto.state == "alert" and gate.dependence != "low":
            shown = ids[: auto.vouched]
        decoder = Decoder(CONFIG, gate, REFUSAL, CONTINUED, EOS, LAYOUT)
        assert shown_ids(state, i, decoder) == (shown, len(shown))


CASES = ((-3.0, 0), (-1.0, 1), (0.5, 2))
"""(bias of the head, seed): mostly benign, mixed, mostly malicious; a gate meets one of them, the usual ones two."""
USUAL = ("medium_rewind", "medium_insert", "low", "high")
MET = [(name, *CASES[(i + j) % 3]) for i, name in enumerate(GATES) for j in range(1 + (name in USUAL))]
# Rows reach the cap, where only the cap asks for a check, benign ones and one whose alert withholds tokens.
MET += [("periodic_strict", -3.0, 2), ("periodic_strict", -3.0, 5)]


FAST = (("medium_rewind", 1), ("medium_insert", 2), ("off", 0))
"""(gate, seed) whose cases are no slow tests; CI runs all."""


@pytest.mark.parametrize(
    "name, bias, seed",
    [pytest.param(*case, marks=[] if case[::2] in FAST else [pytest.mark.slow]) for case in MET],
)
def test_cached_decoding_equals_full_forward(name, bias, seed):
    check_decoding(name, bias, seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["off", "medium_rewind", "low"])
def test_every_family_decodes_like_a_full_forward(name, monkeypatch):
    """Sliding window shorter than the prompt, biases, head norms and stretched RoPE, through the same comparison."""
    scaling = RopeScaling("llama3", 4.0, original_length=16)
    families = preset(
        "tiny", scan_layers=False, sliding_window=5, qkv_bias=True, qk_norm=True, rope_scaling=scaling, rope_theta=100.0
    )
    monkeypatch.setattr(sys.modules[__name__], "CONFIG", families)
    check_decoding(name, -1.0, 4)


@pytest.mark.slow
def test_the_gates_exercise_every_outcome():
    """The random cases above are no proof if none refuses, halts or alerts."""
    seen = set()
    for name, bias, seed in MET:
        gate, (_, state) = GATES[name], decoded(CONFIG, name, bias, seed)
        decoder = Decoder(CONFIG, gate, REFUSAL, CONTINUED, EOS, LAYOUT)
        seen |= {Stop.NAMES[s] for s in state.stop} | {Mode(m).name for m in state.verdict.mode}
        seen |= {"mid-answer" for start in state.verdict.refusal_start if start > 0}
        inner = state.trace.probability[:, 1 : 1 + decoder.inner_windows]
        seen |= {"inner window"} if np.isfinite(inner).any() else set()
        if name == "periodic_strict":
            last = state.trace.probability[:, decoder.column(NEW_TOKENS)]
            seen |= {"at the cap"} if np.isfinite(last[state.verdict.mode == Mode.BENIGN]).any() else set()
        if gate and gate.refuses:
            alert = (state.verdict.mode == Mode.ALERT) & (state.verdict.safe_length < state.length)
            seen |= {"withheld"} if alert.any() else set()
        if gate and gate.mode == "insert":
            seen |= {"condemned" for a, b in zip(state.verdict.released, state.verdict.refusal_start) if a < b}
    assert {"eos", "max_tokens", "refusal_end", "refusal_limit", "guard"} <= seen
    assert {"BENIGN", "QUERY", "REFUSING", "CONFIRMED", "mid-answer", "inner window", "condemned"} <= seen
    assert {"at the cap", "withheld"} <= seen


@pytest.mark.slow
@pytest.mark.parametrize("name", ["off", "medium_rewind", "periodic"])
def test_a_row_does_not_depend_on_neighbours_padding_or_batch_size(name):
    params = make_params(1, -1.0)
    rows = make_rows(7, 6, max_prompt=8, max_prefill=4)
    gate = GATES[name]
    small = Layout(prompt=8, prefill=4, steps=NEW_TOKENS + CHUNK)
    large = dataclasses.replace(small, prompt=21, prefill=9, steps=NEW_TOKENS + 3 * CHUNK)

    def decoded(layout, some):
        decoder = Decoder(CONFIG, gate, REFUSAL, CONTINUED, EOS, layout)
        return run(decoder, params, to_batch(some, layout, NEW_TOKENS, gate))

    together, padded = decoded(small, rows), decoded(large, rows[::-1])
    for i, row in enumerate(rows):
        alone = decoded(small, [row])
        for other, j in ((alone, 0), (padded, len(rows) - 1 - i)):
            kept = [s.tokens[k][s.rank[k] >= 0].tolist() for s, k in ((together, i), (other, j))]
            assert kept[0] == kept[1]
            assert together.stop[i] == other.stop[j]
            found = [s.trace.probability[k] for s, k in ((together, i), (other, j))]
            np.testing.assert_allclose(*(p[~np.isnan(p)] for p in found), atol=2e-5)


def test_a_non_finite_safety_logit_refuses():
    params = make_params(0, -50.0)
    layout = Layout(prompt=9, prefill=0, steps=NEW_TOKENS + CHUNK)
    decoder = Decoder(CONFIG, GATES["medium_rewind"], REFUSAL, CONTINUED, EOS, layout)
    batch = to_batch(make_rows(0, 2, 9, 0), layout, NEW_TOKENS, GATES["medium_rewind"])
    assert (run(decoder, params, batch).verdict.mode == Mode.BENIGN).all()
    for bad in (float("nan"), float("-inf")):
        state = run(decoder, params | {"safety_bias": params["safety_bias"] * 0 + bad}, batch)
        assert (state.verdict.mode == Mode.REFUSING).all()
        assert (state.trace.probability[:, 0] == 1).all()


def test_one_compilation_serves_every_prompt_of_a_bucket_and_every_threshold():
    layout = Layout(prompt=10, prefill=0, steps=NEW_TOKENS + 2 * CHUNK)
    before, seen = decode._cache_size(), set()
    for seed, threshold in enumerate((1e-4, 0.3, 0.5, 0.9999)):
        gate = dataclasses.replace(GATES["medium_rewind"], threshold=threshold)
        decoder = Decoder(CONFIG, gate, REFUSAL, CONTINUED, EOS, layout)
        rows = make_rows(seed, 3, 10, 0)
        state = run(decoder, make_params(seed, -1.0), to_batch(rows, layout, NEW_TOKENS - seed, gate))
        flagged = state.trace.probability[:, 0] >= threshold
        assert (flagged == (state.verdict.mode == Mode.REFUSING) * (state.verdict.from_query > 0)).all()
        seen |= set(flagged.tolist())
    assert decode._cache_size() == before + 1 and seen == {True, False}


@pytest.mark.parametrize("schedule", [pytest.param("every", marks=pytest.mark.slow), "annealing"])
def test_the_loop_talks_to_no_host_and_updates_the_cache_in_place(schedule):
    """Of the compiled loop at a realistic size; nothing is run. Temporaries are below a fifth of the cache."""
    config = preset("small", scan_layers=False, layers=2)
    layout = Layout(prompt=768, prefill=0, steps=256)
    decoder = Decoder(
        config, dataclasses.replace(GATES["medium_rewind"], schedule=schedule), REFUSAL, CONTINUED, EOS, layout
    )
    params = nn.unbox(abstract_params(config))
    batch = to_batch(make_rows(0, 8, 16, 0), layout, NEW_TOKENS, GATES["medium_rewind"])
    state = jax.eval_shape(lambda p, b: prefill(decoder, p, b), params, batch)
    compiled = decode.lower(decoder, params, batch, state, np.int32(8), np.int32(0)).compile()
    text = compiled.as_text()
    assert "callback" not in text and "outfeed" not in text and "infeed" not in text
    cache = sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(state.cache))
    memory = compiled.memory_analysis()
    assert memory.alias_size_in_bytes >= cache
    assert memory.temp_size_in_bytes < 0.2 * cache
