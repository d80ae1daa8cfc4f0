"""How well the head tells malicious from benign: AUROC, false positives at fixed recall."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jax.sharding import Mesh

from safety_align.bundle import Bundle
from safety_align.data.examples import Example
from safety_align.decoding import GateConfig, score_queries, score_windows
from safety_align.evaluation.statistics import Clusters, auroc, auroc_interval, fpr_at_recall
from safety_align.fields import check_fields


@dataclasses.dataclass(frozen=True)
class Head:
    """The head that is measured: of a model, at a gate's widths and threshold. mesh: where the parameters are; seed: of the
    windows that are drawn."""

    bundle: Bundle
    gate: GateConfig
    mesh: Mesh | None = None
    seed: int = 0


@runtime_checkable
class Reading(Protocol):
    """What the head reads of an example: a frozen dataclass, whose fields a config sets."""

    def scores(self, examples: Sequence[Example], head: Head) -> tuple[np.ndarray, Sequence]:
        """Probabilities of "malicious" [N], and which of them count as dependent: a key for each."""


@dataclasses.dataclass(frozen=True)
class Queries:
    """The first check, which reads the query. Queries in the same words count as dependent."""

    def scores(self, examples: Sequence[Example], head: Head) -> tuple[np.ndarray, Sequence]:
        """See `Reading.scores`."""
        queries = [example.turns for example in examples]
        return score_queries(head.bundle, queries, head.mesh), queries


@dataclasses.dataclass(frozen=True)
class Windows:
    """Windows of answers, as wide as the gate's: `per_answer` of each. Those of answers to one conversation count as
    dependent."""

    per_answer: int = 2

    def __post_init__(self):
        check_fields(self, per_answer=1)

    def scores(self, examples: Sequence[Example], head: Head) -> tuple[np.ndarray, Sequence]:
        """See `Reading.scores`."""
        bundle, answered = head.bundle, [example for example in examples if example.response]
        lengths = [len(bundle.template.encode_response(bundle.tokenizer, example.response)) for example in answered]
        windows = sample_windows(answered, lengths, head.gate.r2, self.per_answer, head.seed)
        return score_windows(bundle, windows, head.gate, head.mesh), [turns for turns, _, _ in windows]


READINGS: dict[str, type[Reading]] = {"queries": Queries, "windows": Windows}
"""Readings by the name that a config calls them."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two sets of examples, of both of which the head reads the same."""

    reading: Reading
    malicious: tuple[Example, ...]
    benign: tuple[Example, ...]


def measure_head(comparisons: dict[str, Comparison], head: Head) -> dict[str, dict]:
    """`compare_scores` of each comparison, by name, at the gate's threshold. A set that several share is read once."""
    scored: dict[tuple, tuple[np.ndarray, Sequence]] = {}

    def read(reading: Reading, examples: tuple[Example, ...]) -> tuple[np.ndarray, Sequence]:
        if (reading, examples) not in scored:
            scored[reading, examples] = reading.scores(examples, head)
        return scored[reading, examples]

    found = {}
    for name, compared in comparisons.items():
        malicious, bad_clusters = read(compared.reading, compared.malicious)
        benign, good_clusters = read(compared.reading, compared.benign)
        found[name] = compare_scores(malicious, benign, head.gate.threshold, bad_clusters, good_clusters)
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
    answered: Sequence[Example], lengths: Sequence[int], r2: int, per_answer: int, seed: int
) -> list[tuple]:
    """Random full rule 2 windows of examples' answers, each as `(turns, answer, tokens)`: what is read after so many `tokens`
    of it. `lengths` are in tokens; an answer of none has no window."""
    rng = np.random.default_rng(seed)
    windows = []
    for example, length in zip(answered, lengths, strict=True):
        for _ in range(per_answer if length else 0):
            windows.append((example.turns, example.response, int(rng.integers(min(r2, length), length + 1))))
    return windows
