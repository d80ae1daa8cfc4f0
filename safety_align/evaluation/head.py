"""How well the head tells malicious from benign: AUROC, false positives at fixed recall."""

import numpy as np

from safety_align.evaluation.statistics import auroc, auroc_interval, fpr_at_recall


def compare_scores(malicious: np.ndarray, benign: np.ndarray, threshold: float = 0.5) -> dict:
    """{"auroc", "low", "high", "fpr_at_95_recall", "n", "recall", "flagged"} of probabilities [N], [M].

    recall and flagged: fractions of malicious and benign items at or above `threshold`, the gate's own.
    """
    low, high = auroc_interval(malicious, benign)
    return {
        "auroc": auroc(malicious, benign),
        "low": low,
        "high": high,
        "fpr_at_95_recall": fpr_at_recall(malicious, benign),
        "recall": float(np.mean(np.asarray(malicious) >= threshold)),
        "flagged": float(np.mean(np.asarray(benign) >= threshold)),
        "n": len(malicious) + len(benign),
    }


def sample_windows(examples, lengths, r2: int, per_answer: int, seed: int) -> list[tuple]:
    """Random rule 2 windows of the examples' answers, `(turns, answer, start, stop)`; `lengths` are in tokens."""
    rng = np.random.default_rng(seed)
    windows = []
    for example, length in zip(examples, lengths, strict=True):
        for _ in range(per_answer):
            stop = int(rng.integers(min(r2, length), length + 1))
            windows.append((example.turns, example.response, max(0, stop - r2), stop))
    return windows
