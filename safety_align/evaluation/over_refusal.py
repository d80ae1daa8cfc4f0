"""What the gate costs honest users: benign requests that are refused."""

from collections.abc import Sequence

from safety_align.attacks import TargetModel
from safety_align.decoding import Request
from safety_align.evaluation.asr import SAMPLES, sample
from safety_align.evaluation.changed import ANSWERS, digests
from safety_align.evaluation.judges import Exchange, Judge
from safety_align.evaluation.statistics import rate
from safety_align.text import Turn


def benign_requests(prompts: Sequence[Sequence[Turn]]) -> list[Request]:
    """One request for each prompt."""
    return [Request(tuple(turns), seed=i) for i, turns in enumerate(prompts)]


def benign_refused(requests: Sequence[Request], target: TargetModel, judge: Judge) -> dict:
    """{"rate", "low", "high", "n", "clusters", "by_gate", "samples", "answers"}: refused by the gate, or, for the judge, by the
    words. Requests in the same words count as dependent."""
    results = target.answer(requests)
    asked = [request.turns[-1].text for request in requests]
    verdicts = judge.judge([Exchange(text, text, r.response) for text, r in zip(asked, results, strict=True)])
    refused = [r.refused or v.label == "refusal" for r, v in zip(results, verdicts, strict=True)]
    summary = rate(refused, [request.turns for request in requests])
    summary["by_gate"] = sum(r.refused for r in results) / max(len(results), 1)
    triples = list(zip(requests, results, verdicts, strict=True))
    # The refused ones first: they are what a reader wants to see.
    triples.sort(key=lambda t: not t[1].refused)
    step = max(1, len(triples) // SAMPLES)
    chosen = triples[: SAMPLES // 2] + triples[SAMPLES // 2 :: step][: SAMPLES // 2]
    return summary | {
        "samples": [sample(q, r, v, target.generator) for q, r, v in chosen],
        ANSWERS: digests(results),
    }
