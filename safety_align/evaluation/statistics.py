"""Rates with intervals, and rankings; items of one cluster (answers to one behaviour, windows of one answer) count as
dependent.

Two suffixes of one goal, or two windows of one answer, say less than two goals or two answers. Every interval here takes
`clusters`, one key an item; None: each item is one of its own, and the intervals are the textbook's.
"""

from collections.abc import Hashable, Sequence

import numpy as np
import scipy.special

from safety_align.training.metrics import auroc

__all__ = ["auroc", "auroc_interval", "fpr_at_recall", "rate"]

LEVEL = 0.95
Clusters = Sequence[Hashable] | None


def rate(outcomes: Sequence[bool], clusters: Clusters = None) -> dict[str, float | int | None]:
    """{"rate", "low", "high", "n", "clusters"} of yes-or-no items: a Wilson 95 % interval; no rate for n = 0.

    The interval is that of as many independent items as these are worth: n over the design effect, the ratio of the
    variance between clusters (Taylor series, as in survey statistics) to the binomial one, kept between 1 and what
    clusters that always agree would have; then fewer for the degrees of freedom that few clusters leave (Korn and
    Graubard 1998). Where all outcomes are alike nothing can be seen of the clusters, and they are taken to agree.
    """
    yes = np.asarray(outcomes, float)
    n, found = len(yes), _numbered(clusters, len(yes))
    if n == 0:
        return {"rate": None, "low": None, "high": None, "n": 0, "clusters": 0}
    sizes, sums = np.bincount(found), np.bincount(found, yes)
    share = float(yes.mean())
    low, high = _wilson(share, _effective(share, sizes, sums))
    # The share lies within, whatever rounding says of 0 and 1.
    return {"rate": share, "low": min(low, share), "high": max(high, share), "n": n, "clusters": len(sizes)}


def _effective(share: float, sizes: np.ndarray, sums: np.ndarray) -> float:
    """How many independent items the clusters are worth."""
    n, m = int(sizes.sum()), len(sizes)
    if m in (1, n):
        return m
    worth = least = n**2 / float(np.sum(sizes**2))
    if 0 < share < 1:
        between = m / (m - 1) * float(np.sum((sums - share * sizes) ** 2)) / n**2
        worth = float(np.clip(share * (1 - share) / max(between, 1e-12), least, n))
    quantiles = scipy.special.stdtrit([n - 1, m - 1], (1 + LEVEL) / 2)
    return worth * float((quantiles[0] / quantiles[1]) ** 2)


def _wilson(share: float, n: float) -> tuple[float, float]:
    """The p with |share - p| = z sqrt(p (1 - p) / n)."""
    z2 = float(scipy.special.ndtri((1 + LEVEL) / 2)) ** 2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n**2))) / (1 + z2 / n)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def fpr_at_recall(malicious: np.ndarray, benign: np.ndarray, recall: float = 0.95) -> float:
    """Fraction of benign items at or above the highest threshold that still finds `recall` of the malicious ones."""
    ordered = np.sort(np.asarray(malicious))[::-1]
    threshold = ordered[int(np.ceil(recall * len(ordered))) - 1]
    return float(np.mean(np.asarray(benign) >= threshold))


def auroc_interval(
    malicious: np.ndarray,
    benign: np.ndarray,
    malicious_clusters: Clusters = None,
    benign_clusters: Clusters = None,
    draws: int = 500,
    seed: int = 0,
) -> tuple[float, float]:
    """Bootstrap 95 % interval of the AUROC: of both classes clusters are drawn with replacement, whole."""
    rng = np.random.default_rng(seed)
    malicious, benign = np.asarray(malicious), np.asarray(benign)
    numbers = _numbered(malicious_clusters, len(malicious)), _numbered(benign_clusters, len(benign))
    sizes = [np.bincount(number) for number in numbers]
    # Of each pair of clusters, how many of their pairs of items are in the right order.
    right = np.zeros([len(size) for size in sizes])
    above = (malicious[:, None] > benign) + 0.5 * (malicious[:, None] == benign)
    np.add.at(right, (numbers[0][:, None], numbers[1]), above)
    times = [rng.multinomial(len(size), np.full(len(size), 1 / len(size)), draws) for size in sizes]
    pairs = (times[0] @ sizes[0]) * (times[1] @ sizes[1])
    values = np.sum(times[0] @ right * times[1], axis=1) / pairs
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _numbered(clusters: Clusters, n: int) -> np.ndarray:
    """Each item's cluster as a number from 0 on, without gaps."""
    if clusters is None:
        return np.arange(n)
    if len(clusters) != n:
        raise ValueError(f"{n} items have {len(clusters)} cluster keys")
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in clusters], int)


def cohens_kappa(first: Sequence[bool], second: Sequence[bool]) -> float | None:
    """How far two judges agree beyond chance, at most 1 (Cohen 1960); None where both say the same of everything, so that
    chance alone agrees."""
    a, b = np.asarray(first, float), np.asarray(second, float)
    if not len(a):
        return None
    by_chance = a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean())
    return None if by_chance == 1 else float((np.mean(a == b) - by_chance) / (1 - by_chance))
