"""The verdict automaton and its windows against the plain-Python simulation, on random sequences of verdicts."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Automaton

from safety_align.decoding.config import GateConfig
from safety_align.decoding.verdict import Mode, Verdict, is_malicious, judge_query, judge_response, start_refusal
from safety_align.decoding.windows import is_frozen, read_window
from safety_align.errors import InputError

ALONE, BEHIND = 2, 3
STATES = {
    Mode.BENIGN: "benign", Mode.ALERT: "alert", Mode.CONFIRMED: "confirmed", Mode.QUERY: "query", Mode.REFUSING: "refusing",
}  # fmt: skip

gates = st.builds(
    GateConfig,
    dependence=st.sampled_from(["low", "medium", "high"]),
    mode=st.sampled_from(["insert", "rewind"]),
    tau=st.integers(1, 4),
    r1=st.integers(1, 5),
    r2=st.integers(3, 5),
    r3=st.integers(1, 5),
    reads=st.sampled_from(["windows", "all"]),
    windows_include_query=st.booleans(),
    confirm_every_step=st.booleans(),
)
# One event a token: is a check scheduled, what does it say, does the model want to end the answer.
events = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), max_size=25)


def compare(verdict: Verdict, length, auto: Automaton):
    """Everything that the two keep must agree."""
    assert STATES[Mode(int(verdict.mode[0]))] == auto.state
    assert int(length[0]) == auto.kept
    assert int(verdict.transition[0]) == (-1 if auto.turned_at is None else auto.turned_at)
    assert int(verdict.refusal_start[0]) == (-1 if auto.refusal_at is None else auto.refusal_at)
    assert bool(verdict.from_query[0]) == (auto.why == "malicious_query")
    if auto.state == "refusing":
        assert int(verdict.released[0]) == auto.released


def prefix(verdict: Verdict):
    return jnp.where(verdict.refusal_start == 0, ALONE, BEHIND)


@given(gates, st.booleans(), st.integers(0, 4), events)
@settings(max_examples=250, deadline=None)
def test_the_automaton_equals_the_plain_simulation(gate, query, prefilled, sequence):
    auto = Automaton(gate, (ALONE, BEHIND))
    auto.kept = prefilled
    length = jnp.array([prefilled])
    verdict, refuse = judge_query(Verdict.start(1), jnp.array([query]), length, gate)
    length = jnp.where(refuse, verdict.refusal_start, length)
    auto.query(query)
    compare(verdict, length, auto)
    for scheduled, malicious, ends in sequence:
        length = length + 1
        auto.kept += 1
        window = read_window(verdict, length, gate)
        start, stop, reads_query = auto.window()
        # An empty window may be written in more than one way; a window that is read is compared to the bit.
        if auto.settled():
            assert bool(is_frozen(verdict, length, gate)[0])
        else:
            assert (max(int(window.start[0]), 0), int(window.stop[0]), bool(window.query[0])) == (
                start,
                stop,
                reads_query,
            )
        due = auto.due(scheduled)
        ours = scheduled or (gate.confirm_every_step and int(verdict.mode[0]) == Mode.ALERT)
        ours |= int(verdict.mode[0]) == Mode.REFUSING
        assert (ours and not bool(is_frozen(verdict, length, gate)[0])) == due
        verdict, refuse, relapse = judge_response(
            verdict, jnp.array([due]), jnp.array([malicious]), length, window.stop, prefix(verdict), gate
        )
        if due:
            auto.response(malicious)
        assert bool(relapse[0]) == auto.halted
        kept = jnp.maximum(verdict.safe_length, verdict.refusal_start + prefix(verdict))
        length = jnp.where(refuse, verdict.refusal_start, length)
        length = jnp.where(relapse, jnp.minimum(length, kept), length)
        if ends and not auto.halted:
            pending = (verdict.mode == Mode.ALERT) & gate.refuses
            verdict = start_refusal(verdict, pending, length, gate)
            length = jnp.where(pending, verdict.refusal_start, length)
            assert bool(pending[0]) == auto.end_of_answer()
        compare(verdict, length, auto)
        if auto.halted:
            return


@given(gates, events)
@settings(max_examples=100, deadline=None)
def test_a_refusing_row_never_goes_back(gate, sequence):
    if not gate.refuses:
        return
    verdict, _ = judge_query(Verdict.start(1), jnp.array([True]), jnp.array([0]), gate)
    for length, (due, malicious, _) in enumerate(sequence, start=1):
        verdict, refuse, _ = judge_response(
            verdict, jnp.array([due]), jnp.array([malicious]), jnp.array([length]), jnp.array([length]), ALONE, gate
        )
        assert int(verdict.mode[0]) == Mode.REFUSING and not bool(refuse[0])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_logits_are_malicious(bad):
    assert bool(is_malicious(jnp.float32(bad), GateConfig().logit_threshold))
    assert bool(is_malicious(jnp.float32(-1), jnp.float32(np.nan)))


def test_the_threshold_is_a_probability():
    gate = GateConfig(threshold=0.9)
    for probability, expected in ((0.89, False), (0.91, True)):
        assert bool(is_malicious(jnp.log(probability / (1 - probability)), gate.logit_threshold)) == expected


def test_the_published_windows():
    """The table in windows.py, r = 4, twelve response tokens, S_t = 9."""
    gate = GateConfig(r1=4, r2=4, r3=4)

    def window(mode, **fields):
        base = Verdict.start(1).replace(mode=jnp.array([int(mode)]), transition=jnp.array([9]))
        found = read_window(base.replace(**{k: jnp.array([v]) for k, v in fields.items()}), jnp.array([12]), gate)
        return int(found.start[0]), int(found.stop[0]), bool(found.query[0])

    assert window(Mode.QUERY) == (0, 4, True)
    assert window(Mode.BENIGN) == (8, 12, False)
    assert window(Mode.ALERT) == (5, 12, False)
    assert window(Mode.REFUSING, refusal_start=10) == (10, 12, False)


@pytest.mark.parametrize(
    "change, named",
    [
        (dict(tau=0), "tau"),
        (dict(r2=0), "r2"),
        (dict(tau=12), "exceed r2"),
        *((dict(threshold=t), "threshold") for t in (0.0, 1.0, 1e-5, 1 - 2**-53, float("nan"), True, "0.5")),
        *((dict(tau=t), "tau") for t in (True, 2.0, "3", 2**31, 10**30)),
        (dict(r3=2**31 - 1), "r3"),
        (dict(visible="false"), "visible"),
        (dict(confirm_every_step=1), "confirm_every_step"),
        (dict(dependence=["low"]), "dependence"),
        (dict(schedule=None), "schedule"),
        (dict(dependence="total"), "dependence"),
        (dict(mode="delete"), "mode"),
        (dict(schedule=""), "schedule"),
        (dict(schedule="annealing:"), "annealing"),
        (dict(schedule="periodic:0"), "interval"),
        (dict(schedule="random:1.5"), "probability"),
        (dict(schedule="every+sometimes"), "sometimes"),
        (dict(schedule="annealing:16/1,8/2"), "rise"),
    ],
)
def test_impossible_gates_are_named(change, named):
    with pytest.raises(InputError, match=named):
        GateConfig(**change)
