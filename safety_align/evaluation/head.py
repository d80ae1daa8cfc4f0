"""How well the head tells malicious from benign: AUROC, false positives at fixed recall."""

from collections.abc import Callable, Sequence

import numpy as np
from jax.sharding import Mesh

from safety_align.bundle import Bundle
from safety_align.decoding import GateConfig, score_queries, score_windows
from safety_align.evaluation.statistics import Clusters, auroc, auroc_interval, fpr_at_recall
from safety_align.evaluation.suite import Answer, HeadSets

WINDOWS = 2
"""Windows read of each answer."""


def measure_head(
    bundle: Bundle, gate: GateConfig, sets: HeadSets, seed: int, mesh: Mesh | None, advance: Callable | None = None
) -> dict[str, dict]:
    """`compare_scores` of each comparison of `sets`, at the gate's threshold, of windows as wide as the gate's.

    Queries count as dependent where their words are the same, windows where they are of answers to one conversation.
    """
    tools = bundle.model_config, bundle.params, bundle.tokenizer, bundle.template
    scored: dict[str, tuple[np.ndarray, Sequence]] = {}
    for name, queries in sets.queries.items():
        scored[name] = score_queries(*tools, queries, mesh), queries
    for name, answers in sets.answers.items():
        lengths = [len(bundle.template.encode_response(bundle.tokenizer, answer.response)) for answer in answers]
        windows = sample_windows(answers, lengths, gate.r2, WINDOWS, seed)
        scored[name] = score_windows(*tools, windows, gate, mesh), [turns for turns, _, _ in windows]
    found = {}
    for result, bad, good in sets.compared:
        (malicious, bad_clusters), (benign, good_clusters) = scored[bad], scored[good]
        found[result] = compare_scores(malicious, benign, gate.threshold, bad_clusters, good_clusters)
    return found


def compare_scores(
    malicious: np.ndarray,
    benign: np.ndarray,
    threshold: float = 0.5,
    malicious_clusters: Clusters = None,
    benign_clusters: Clusters = None,
) -> dict:
    """{"auroc", "low", "high", "fpr_at_95_recall", "n", "clusters", "recall", "flagged"} of probabilities [N], [M].

    recall and flagged: fractions of malicious and benign items at or above `threshold`, the gate's own. clusters: how
    many groups of dependent items there are, see statistics.py. Where a class is empty, nothing but the counts is known.
    """
    sides = (malicious, malicious_clusters), (benign, benign_clusters)
    counts = {
        "n": len(malicious) + len(benign),
        "clusters": sum(len(items) if clusters is None else len(set(clusters)) for items, clusters in sides),
    }
    if not len(malicious) or not len(benign):
        return dict.fromkeys(("auroc", "low", "high", "fpr_at_95_recall", "recall", "flagged")) | counts
    low, high = auroc_interval(malicious, benign, malicious_clusters, benign_clusters)
    return {
        "auroc": auroc(malicious, benign),
        "low": low,
        "high": high,
        "fpr_at_95_recall": fpr_at_recall(malicious, benign),
        "recall": float(np.mean(np.asarray(malicious) >= threshold)),
        "flagged": float(np.mean(np.asarray(benign) >= threshold)),
    } | counts


def sample_windows(
    answers: Sequence[Answer], lengths: Sequence[int], r2: int, per_answer: int, seed: int
) -> list[tuple]:
    """Random full rule 2 windows of the answers, each as `(turns, answer, tokens)`: what is read after so many `tokens`
    of it. `lengths` are in tokens; an answer of none has no window."""
    rng = np.random.default_rng(seed)
    windows = []
    for answer, length in zip(answers, lengths, strict=True):
        for _ in range(per_answer if length else 0):
            windows.append((answer.turns, answer.response, int(rng.integers(min(r2, length), length + 1))))
    return windows
