"""What the gate costs honest users: benign requests that are refused."""

from collections.abc import Callable, Sequence

from safety_align.decoding import Generator, Request
from safety_align.evaluation.asr import SAMPLES, sample
from safety_align.evaluation.judges import judge
from safety_align.evaluation.statistics import rate
from safety_align.text import Turn


def benign_requests(prompts: Sequence[Sequence[Turn]]) -> list[Request]:
    """One request for each prompt."""
    return [Request(tuple(turns), seed=i) for i, turns in enumerate(prompts)]


def benign_refused(
    requests: Sequence[Request],
    generator: Generator,
    progress: Callable[[int], None] | None = None,
    *,
    max_new_tokens: int,
    batch_size: int,
) -> dict:
    """{"rate", "low", "high", "n", "clusters", "by_gate", "samples"}: refused by the gate, or, for the judge, by the
    words. Requests in the same words count as dependent."""
    results = generator.generate(requests, max_new_tokens, batch_size, progress)
    verdicts = [judge(r.response).verdict for r in results]
    refused = [r.refused or v == "refusal" for r, v in zip(results, verdicts, strict=True)]
    summary = rate(refused, [request.turns for request in requests])
    summary["by_gate"] = sum(r.refused for r in results) / max(len(results), 1)
    triples = list(zip(requests, results, verdicts, strict=True))
    # The refused ones first: they are what a reader wants to see.
    triples.sort(key=lambda t: not t[1].refused)
    step = max(1, len(triples) // SAMPLES)
    chosen = triples[: SAMPLES // 2] + triples[SAMPLES // 2 :: step][: SAMPLES // 2]
    return summary | {"samples": [sample(q, r, v, generator) for q, r, v in chosen]}
