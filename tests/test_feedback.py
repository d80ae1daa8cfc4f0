"""The feedback attack: what was released goes back as the next prefill, and the whole is judged."""

import dataclasses

import pytest
from make import random_params

from safety_align.attacks import FeedbackPrefill, TargetModel, load_behaviors
from safety_align.bundle import Bundle
from safety_align.decoding import REFUSAL_PREFIX, GateConfig, Generator, Result
from safety_align.evaluation.asr import attack_success
from safety_align.evaluation.judges import Verdict
from safety_align.model import preset
from safety_align.text import Tokenizer, get_template

BEHAVIORS = load_behaviors("embedded", "", 3)
TOKENIZER = Tokenizer.train([f"{b.goal} {b.target} {REFUSAL_PREFIX}" for b in BEHAVIORS] * 5, 400)
MODEL = preset("tiny", layers=1, vocab_size=TOKENIZER.vocab_size)
BUNDLE = Bundle(MODEL, random_params(MODEL, scale=0.3), TOKENIZER, get_template("plain"), GateConfig())


class Recorded:
    """A generator that remembers what it was asked: (requests, cap) of each round."""

    def __init__(self, generate):
        self.tokenizer, self.rounds, self._generate = TOKENIZER, [], generate

    def generate(self, requests, max_new_tokens, batch_size, progress):
        """See `Generator.generate`."""
        self.rounds.append((list(requests), max_new_tokens))
        return self._generate(requests, max_new_tokens, batch_size, progress)


@dataclasses.dataclass(frozen=True)
class Listening:
    """A judge that keeps what it reads."""

    heard: list = dataclasses.field(default_factory=list)

    def judge(self, exchanges):
        """The first one complies."""
        self.heard.extend(exchanges)
        return [Verdict("refusal" if i else "compliance", 0.0 if i else 0.75) for i in range(len(exchanges))]


@pytest.mark.slow
@pytest.mark.parametrize("gate", ["off", GateConfig(dependence="low")])
def test_three_rounds_of_a_model_that_never_refuses_are_one_long_answer(gate):
    recorded = Recorded(Generator(BUNDLE, gate).generate)
    attack, judge = FeedbackPrefill(tokens=4, new_tokens=5, rounds=3), Listening()
    groups, target = attack.requests(BEHAVIORS, BUNDLE), TargetModel(recorded, 99, 2)
    summary = attack_success(attack, BEHAVIORS, groups, target, judge)
    assert [cap for _, cap in recorded.rounds] == [5, 5, 5]
    starts = [request.prefill_ids for (request,) in groups]
    prefills = [[request.prefill_ids for request in requests] for requests, _ in recorded.rounds]
    assert prefills[0] == starts and [len(ids) for ids in prefills[0]] == [4] * 3
    at_once = Generator(BUNDLE, gate).generate([request for (request,) in groups], 15, 2)
    assert all(result.stop_reason == "max_tokens" for result in at_once)  # else a round would be missing
    for later, size in ((1, 9), (2, 14)):
        assert prefills[later] == [tuple(result.token_ids[:size]) for result in at_once]
    assert [e.answer for e in judge.heard] == [result.response for result in at_once]
    assert [e.given for e in judge.heard] == [TOKENIZER.decode(start) for start in starts]
    assert [(e.goal, e.prompt) for e in judge.heard] == [(b.goal, b.goal) for b in BEHAVIORS]
    assert summary["asr"] == 1 / 3 and summary["score"] == 0.25 and summary["n"] == 3
    assert summary["samples"][0]["response"] == at_once[0].response
    assert summary["samples"][0]["prefill"] == TOKENIZER.decode(starts[0])


@pytest.mark.slow
def test_a_gate_that_refuses_ends_the_attack_with_its_refusal():
    """Nothing of a refusal goes back, and what was refused is judged as it stands."""
    refusing = dataclasses.replace(BUNDLE, params=BUNDLE.params | {"safety_bias": BUNDLE.params["safety_bias"] + 50})
    recorded = Recorded(Generator(refusing, GateConfig()).generate)
    attack = FeedbackPrefill(tokens=4, new_tokens=5, rounds=3)
    requests = [request for (request,) in attack.requests(BEHAVIORS, BUNDLE)]
    results = attack.answers(requests, TargetModel(recorded, 99, 2))
    assert len(recorded.rounds) == 1 and all(result.refused for result in results)


def result(ids: list[int], stop_reason: str = "max_tokens", refused: bool = False) -> Result:
    return Result(str(ids), ids, refused, 0.1, 0.1, "benign", None, None, stop_reason, [])


def test_only_answers_that_were_cut_go_on():
    """One that ended, one that was refused, one of which no more was released; the fourth goes on, in its place."""
    script = [
        [result([1, 2, 5], "eos"), result([1, 2, 7], refused=True), result([1, 2]), result([1, 2, 9])],
        [result([1, 2, 9, 8])],
        [result([1, 2, 9, 8, 4], "eos")],
    ]
    recorded = Recorded(lambda *_: script.pop(0))
    attack = FeedbackPrefill(tokens=2, new_tokens=1, rounds=9)
    behaviors = (BEHAVIORS * 2)[:4]
    requests = [dataclasses.replace(r, prefill_ids=(1, 2)) for (r,) in attack.requests(behaviors, BUNDLE)]
    results = attack.answers(requests, TargetModel(recorded, 99, 2))
    assert [r.token_ids for r in results] == [[1, 2, 5], [1, 2, 7], [1, 2], [1, 2, 9, 8, 4]]
    assert [[r.prefill_ids for r in asked] for asked, _ in recorded.rounds[1:]] == [[(1, 2, 9)], [(1, 2, 9, 8)]]
    assert all(asked[0].turns == requests[3].turns for asked, _ in recorded.rounds[1:])
    assert [request.prefill_ids for request in requests] == [(1, 2)] * 4  # the caller's are as they were
