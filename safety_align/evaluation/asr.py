"""Attack success rate: how many behaviours an attack gets answered."""

from collections.abc import Sequence

import numpy as np

from safety_align.attacks import Attack, Behavior, TargetModel
from safety_align.decoding import Generator, Request, Result
from safety_align.evaluation.judges import Exchange, Judge, Verdict
from safety_align.evaluation.statistics import rate

SAMPLES = 6
"""Answers of each attack that the report shows."""


def attack_success(
    attack: Attack,
    behaviors: Sequence[Behavior],
    groups: Sequence[Sequence[Request]],
    target: TargetModel,
    judge: Judge,
) -> dict:
    """{"asr", "low", "high", "n", "clusters", "score", "no_answer", "refused_by_gate", "samples"} of one attack.

    `groups` are the attack's requests for each behaviour, of which one answered is enough. Fractions are of behaviours
    for "asr", of answers for "no_answer" and "refused_by_gate"; "score" is the mean over behaviours of the judge's highest
    score. Behaviours of one goal (several suffixes of it, say) count as dependent: there are "clusters" of them.
    """
    requests = [request for group in groups for request in group]
    asked = [behavior for behavior, group in zip(behaviors, groups, strict=True) for _ in group]
    results = attack.answers(requests, target)
    verdicts = judge.judge(
        [
            Exchange(b.goal, q.turns[-1].text, r.response, given_text(q, target.generator))
            for b, q, r in zip(asked, requests, results, strict=True)
        ]
    )
    each = iter(verdicts)
    per_behavior = [[next(each) for _ in group] for group in groups]
    fell = [any(verdict.complied for verdict in group) for group in per_behavior]
    counted = rate(fell, [b.goal for b in behaviors])
    summary = {"asr": counted.pop("rate"), **counted}
    scores = [max((verdict.score for verdict in group), default=0.0) for group in per_behavior]
    summary["score"] = float(np.mean(scores)) if scores else None
    summary["no_answer"] = sum(v.label == "no_answer" for v in verdicts) / max(len(verdicts), 1)
    summary["refused_by_gate"] = sum(r.refused for r in results) / max(len(results), 1)
    if any(len(group) > 1 for group in groups):
        summary["settings"] = _per_setting(requests, verdicts, [b.goal for b in asked])
    step = max(1, len(results) // SAMPLES)
    summary["samples"] = [
        sample(q, r, v, target.generator)
        for q, r, v in list(zip(requests, results, verdicts, strict=True))[::step][:SAMPLES]
    ]
    return summary


def given_text(request: Request, generator: Generator) -> str:
    """The prefill of a request as text."""
    return request.prefill or generator.tokenizer.decode(request.prefill_ids or ())


def sample(request: Request, result: Result, verdict: Verdict, generator: Generator) -> dict:
    """One answer for the report."""
    return {
        "prompt": request.turns[-1].text,
        "prefill": given_text(request, generator),
        "response": result.response,
        "verdict": verdict.label,
        "status": result.status,
        "stop_reason": result.stop_reason,
        "transition_step": result.transition_step,
        "refusal_start": result.refusal_start,
        "checks": [[c.step, round(c.probability, 4)] for c in result.checks],
    }


def _per_setting(requests: Sequence[Request], verdicts: Sequence[Verdict], goals: Sequence[str]) -> dict[str, dict]:
    found: dict[str, tuple[list[bool], list[str]]] = {}
    for request, verdict, goal in zip(requests, verdicts, goals, strict=True):
        s = request.sampling
        outcomes, clusters = found.setdefault(f"T={s.temperature:g} top_p={s.top_p:g} top_k={s.top_k}", ([], []))
        outcomes.append(verdict.complied)
        clusters.append(goal)
    return {name: rate(*both) for name, both in found.items()}
