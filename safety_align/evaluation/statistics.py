"""Rates with intervals, and rankings."""

import numpy as np
import scipy.stats

from safety_align.training.metrics import auroc

__all__ = ["auroc", "auroc_interval", "fpr_at_recall", "rate"]


def rate(successes: int, n: int) -> dict[str, float | int | None]:
    """{"rate", "low", "high", "n"} with the Wilson 95 % interval; no rate for n = 0."""
    if n == 0:
        return {"rate": None, "low": None, "high": None, "n": 0}
    interval = scipy.stats.binomtest(int(successes), int(n)).proportion_ci(0.95, method="wilson")
    return {"rate": successes / n, "low": float(interval.low), "high": float(interval.high), "n": int(n)}


def fpr_at_recall(malicious: np.ndarray, benign: np.ndarray, recall: float = 0.95) -> float:
    """Fraction of benign items at or above the highest threshold that still finds `recall` of the malicious ones."""
    ordered = np.sort(np.asarray(malicious))[::-1]
    threshold = ordered[int(np.ceil(recall * len(ordered))) - 1]
    return float(np.mean(np.asarray(benign) >= threshold))


def auroc_interval(malicious: np.ndarray, benign: np.ndarray, draws: int = 500, seed: int = 0) -> tuple[float, float]:
    """Bootstrap 95 % interval of the AUROC (both classes resampled)."""
    rng = np.random.default_rng(seed)
    malicious, benign = np.asarray(malicious), np.asarray(benign)
    values = [auroc(rng.choice(malicious, len(malicious)), rng.choice(benign, len(benign))) for _ in range(draws)]
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
