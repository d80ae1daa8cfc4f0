"""Attack success rate: how many behaviours an attack gets answered."""

from collections.abc import Callable, Sequence

from safety_align.attacks import Behavior
from safety_align.decoding import Generator, Request, Result
from safety_align.evaluation.judges import Judgement, judge
from safety_align.evaluation.statistics import rate

SAMPLES = 6
"""Answers of each attack that the report shows."""


def attack_success(
    behaviors: Sequence[Behavior],
    groups: Sequence[Sequence[Request]],
    generator: Generator,
    progress: Callable[[int], None] | None = None,
    *,
    max_new_tokens: int,
    batch_size: int,
) -> dict:
    """{"asr", "low", "high", "n", "clusters", "no_answer", "refused_by_gate", "samples"} of one attack.

    `groups` are the attack's requests for each behaviour, of which one answered is enough. `max_new_tokens` caps new
    tokens, whatever the prompt's length (docs/method.md section 9). Fractions are of behaviours for "asr", of answers
    for "no_answer" and "refused_by_gate". Behaviours of one goal (several suffixes of it, say) count as dependent: there are
    "clusters" of them.
    """
    requests = [request for group in groups for request in group]
    results = generator.generate(requests, max_new_tokens, batch_size, progress)
    verdicts = [judge(r.response, given_text(q, generator)) for q, r in zip(requests, results, strict=True)]
    answers = iter(verdicts)
    fell = [any([next(answers).complied for _ in group]) for group in groups]
    counted = rate(fell, [b.goal for b in behaviors])
    summary = {"asr": counted.pop("rate"), **counted}
    summary["no_answer"] = sum(v.verdict == "no_answer" for v in verdicts) / max(len(verdicts), 1)
    summary["refused_by_gate"] = sum(r.refused for r in results) / max(len(results), 1)
    if any(len(group) > 1 for group in groups):
        goals = [b.goal for b, group in zip(behaviors, groups, strict=True) for _ in group]
        summary["settings"] = _per_setting(requests, verdicts, goals)
    step = max(1, len(results) // SAMPLES)
    summary["samples"] = [
        sample(q, r, v.verdict, generator)
        for q, r, v in list(zip(requests, results, verdicts, strict=True))[::step][:SAMPLES]
    ]
    return summary


def given_text(request: Request, generator: Generator) -> str:
    """The prefill of a request as text."""
    return request.prefill or generator.tokenizer.decode(request.prefill_ids or ())


def sample(request: Request, result: Result, verdict: str, generator: Generator) -> dict:
    """One answer for the report."""
    return {
        "prompt": request.turns[-1].text,
        "prefill": given_text(request, generator),
        "response": result.response,
        "verdict": verdict,
        "status": result.status,
        "stop_reason": result.stop_reason,
        "transition_step": result.transition_step,
        "refusal_start": result.refusal_start,
        "checks": [[c.step, round(c.probability, 4)] for c in result.checks],
    }


def _per_setting(requests: Sequence[Request], verdicts: Sequence[Judgement], goals: Sequence[str]) -> dict[str, dict]:
    found: dict[str, tuple[list[bool], list[str]]] = {}
    for request, verdict, goal in zip(requests, verdicts, goals, strict=True):
        s = request.sampling
        outcomes, clusters = found.setdefault(f"T={s.temperature:g} top_p={s.top_p:g} top_k={s.top_k}", ([], []))
        outcomes.append(verdict.complied)
        clusters.append(goal)
    return {name: rate(*both) for name, both in found.items()}
