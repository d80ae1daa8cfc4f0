"""The attacker who knows the schedule: filler where the windows fall, and what is judged in the end."""

import dataclasses

import numpy as np
import pytest
from test_feedback import BEHAVIORS, BUNDLE, TOKENIZER, Recorded

from safety_align.attacks import Prefill, ScheduleAware, TargetModel
from safety_align.attacks.schedule_aware import FILLER, filler_ids, plan, without
from safety_align.decoding import GateConfig, Generator, Result
from safety_align.evaluation.campaign import released

IDS = TOKENIZER.encode(FILLER, "text")


def result(ids, stop_reason="max_tokens", refusal_start=None) -> Result:
    refused = refusal_start is not None
    return Result(TOKENIZER.decode(ids), list(ids), refused, 0.1, 0.2, "benign", None, refusal_start, stop_reason, [])


@pytest.mark.parametrize(
    "gate, expected",
    [
        (GateConfig(r2=10, r3=10), (20, 5, 8)),
        (GateConfig(r2=4, r3=7, schedule="periodic:10"), (11, 2, 8)),
        (GateConfig(r2=1, r3=1, tau=1), (2, 1, 8)),
        (GateConfig(r2=10, r3=10, schedule="first"), (20, 40, 1)),  # nobody looks at what is generated
        (GateConfig(r2=10, r3=10, schedule="annealing:4/1"), (20, 40, 1)),
        (GateConfig(r2=10, r3=10, schedule="annealing:5/1"), (20, 5, 8)),
        (GateConfig(r2=10, r3=10, schedule="first+random:0.1"), (20, 5, 8)),
        (None, (20, 5, 8)),
    ],
    ids=str,
)
def test_the_gate_says_how_much_filler_and_how_little_text(gate, expected):
    found = plan(ScheduleAware(), gate)
    assert (found.filler, found.new_tokens, found.rounds) == expected
    own = ScheduleAware(filler=3, new_tokens=9, rounds=2)
    assert plan(own, gate) == own


@pytest.mark.parametrize("count", [1, 7, len(IDS), 2 * len(IDS) + 3])
def test_filler_ends_as_its_text_does(count):
    found = filler_ids(TOKENIZER, BUNDLE.template, count)
    assert list(found) == (IDS * 3)[-count:]


def test_the_last_windows_before_the_model_writes_are_filler():
    attack = ScheduleAware(tokens=4)
    (first,), *_ = attack.requests(BEHAVIORS, BUNDLE)
    (start,), *_ = Prefill(4).requests(BEHAVIORS, BUNDLE)
    gate = BUNDLE.gate
    assert first.prefill_ids[:4] == start.prefill_ids
    assert list(first.prefill_ids[4:]) == (IDS * 9)[-(gate.r2 + gate.r3) :]
    assert first.turns == start.turns and first.seed == start.seed


def test_rounds_put_filler_behind_what_was_released_and_it_is_not_judged():
    """Three answers: one goes on to the end, one ends by itself, one is refused in its second round behind a rewind into filler."""
    attack = ScheduleAware(tokens=2, filler=3, new_tokens=2, rounds=3)
    requests = [request for (request,) in attack.requests(BEHAVIORS, BUNDLE)]
    filler = filler_ids(TOKENIZER, BUNDLE.template, 3)
    start = [request.prefill_ids for request in requests]
    assert all(ids[2:] == filler for ids in start)
    a, b, c, d, e, f, g = range(30, 37)
    script = [
        [result([*start[0], a, b]), result([*start[1], a, b], "eos"), result([*start[2], c, d])],
        [
            result([*start[0], a, b, *filler, c, d]),
            result([*start[2], c, d, *filler[:2], e, f], "refusal_end", refusal_start=9),
        ],
        [result([*start[0], a, b, *filler, c, d, *filler, e, g])],
    ]
    recorded = Recorded(lambda *_: script.pop(0))
    recorded.template, recorded.gate = BUNDLE.template, GateConfig()
    results = attack.answers(requests, TargetModel(recorded, 99, 2))
    assert [cap for _, cap in recorded.rounds] == [2, 2, 2]
    assert [[q.prefill_ids for q in asked] for asked, _ in recorded.rounds[1:]] == [
        [(*start[0], a, b, *filler), (*start[2], c, d, *filler)],
        [(*start[0], a, b, *filler, c, d, *filler)],
    ]
    assert results[0].token_ids == [*start[0], a, b, c, d, e, g]
    assert results[1].token_ids == [*start[1], a, b]
    assert results[2].token_ids == [*start[2], c, d, e, f] and results[2].refusal_start == 7 and results[2].refused
    assert [r.response for r in results] == [TOKENIZER.decode(r.token_ids) for r in results]
    assert [released(q, r) for q, r in zip(requests, results, strict=True)] == [6, 2, 2]


def test_filler_behind_a_refusals_beginning_is_no_filler():
    """A refusal that starts before the filler's place left nothing of it, whatever stands there now."""
    before = result([50, 51, 52, 53, 54, 55], "refusal_end", refusal_start=2)
    assert without(before, [3], 2, TOKENIZER).token_ids == before.token_ids
    alone = dataclasses.replace(before, refusal_start=0)
    assert without(alone, [1], 2, TOKENIZER).refusal_start == 0
    white = TOKENIZER.encode(" x", "text")
    left = without(result([*IDS[:2], *white], "refusal_end", refusal_start=2), [0], 2, TOKENIZER)
    assert left.token_ids == white and left.refusal_start == 0 and left.response == "x"


@pytest.mark.slow
def test_through_a_gate_the_checks_of_a_round_read_filler_first():
    """A gate that never refuses, by its windows: the first check of every round reads filler alone, each later one of
    generated text half a window of it at least."""
    gate = GateConfig(dependence="low", r2=6, r3=3, tau=1, threshold=0.9999)
    recorded = Recorded(Generator(BUNDLE, gate).generate)
    recorded.template, recorded.gate = BUNDLE.template, gate
    attack = ScheduleAware(tokens=5, rounds=3)
    planned = plan(attack, gate)
    bundle = dataclasses.replace(BUNDLE, gate=gate)
    requests = [request for (request,) in attack.requests(BEHAVIORS, bundle)]
    results = attack.answers(requests, TargetModel(recorded, 99, 3))
    assert len(recorded.rounds) == 3 and planned.new_tokens == 3
    for asked, cap in recorded.rounds:
        for request, found in zip(asked, recorded._generate(asked, cap, 3, None), strict=True):
            given = len(request.prefill_ids)
            assert request.prefill_ids[given - planned.filler :] == filler_ids(
                TOKENIZER, BUNDLE.template, planned.filler
            )
            for check in found.checks:
                if check.stop >= given:  # at the prefill's end and behind
                    own = check.stop - given
                    assert own <= gate.r2 / 2 and check.start >= given - planned.filler, check
    whole = [released(q, r) for q, r in zip(requests, results, strict=True)]
    assert all(n <= 9 for n in whole) and np.max(whole) == 9
