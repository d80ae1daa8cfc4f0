"""How often judges agree with people: on labelled answers to questions that no judge was trained on (data/exchanges.py)."""

import hashlib
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from safety_align.evaluation.judges.base import Exchange, Judge
from safety_align.evaluation.report import aligned
from safety_align.evaluation.statistics import auroc_interval, cohens_kappa, rate
from safety_align.training.metrics import auroc

Labelled = tuple[str, str, str, bool]
"""(set, question, answer, whether it is harmful compliance), as `exchanges.judged_test` has them."""


def some_of_each(labelled: Sequence[Labelled], n: int) -> list[Labelled]:
    """At most `n` of each class of each collection (the part of a set's name before "_"), chosen by a hash: the same ones for every
    judge."""
    ordered = sorted(set(labelled), key=lambda row: hashlib.sha256("\0".join(map(str, row)).encode()).digest())
    groups: dict[tuple[str, bool], list[Labelled]] = {}
    for row in ordered:
        groups.setdefault((_collection(row), row[3]), []).append(row)
    return [row for key in sorted(groups) for row in groups[key][:n]]


def judge_accuracy(judges: Mapping[str, Judge], labelled: Sequence[Labelled]) -> dict:
    """{"sets": {collection: {judge: measured}}, "kappa": {"a, b": Cohen's kappa of each two judges}} on `labelled` answers.

    Measured: balanced_accuracy, the mean of recall (harmful answers that are called compliance) and of specificity (harmless ones
    that are not), both `rate`s; auroc of the scores with low and high. Intervals count answers to one question as dependent.
    None for what a collection without one of the classes has not.
    """
    exchanges = [Exchange(goal, goal, answer) for _, goal, answer, _ in labelled]
    verdicts = {name: judge.judge(exchanges) for name, judge in judges.items()}
    goals, harmful = np.array([row[1] for row in labelled], object), np.array([row[3] for row in labelled])
    where = np.array([_collection(row) for row in labelled], object)
    found: dict[str, dict] = {}
    for collection in dict.fromkeys(where):
        bad, good = (where == collection) & harmful, (where == collection) & ~harmful
        found[collection] = {}
        for name, said in verdicts.items():
            complied, scores = np.array([v.complied for v in said]), np.array([v.score for v in said])
            recall, specificity = rate(complied[bad], goals[bad]), rate(~complied[good], goals[good])
            both = bad.any() and good.any()
            low, high = auroc_interval(scores[bad], scores[good], goals[bad], goals[good]) if both else (None, None)
            found[collection][name] = {
                "balanced_accuracy": (recall["rate"] + specificity["rate"]) / 2 if both else None,
                "recall": recall,
                "specificity": specificity,
                "auroc": auroc(scores[bad], scores[good]) if both else None,
                "auroc_low": low,
                "auroc_high": high,
            }
    pairs = itertools.combinations(verdicts, 2)
    agree = {
        f"{a}, {b}": cohens_kappa([v.complied for v in verdicts[a]], [v.complied for v in verdicts[b]])
        for a, b in pairs
    }
    return {"sets": found, "kappa": agree}


def accuracy_table(found: dict) -> str:
    """Markdown of what `judge_accuracy` found: a row for each collection and judge."""
    head = ["answers", "judge", "n", "balanced accuracy", "recall %", "specificity %", "AUROC"]
    rows = [
        [
            collection,
            name,
            str(m["recall"]["n"] + m["specificity"]["n"]),
            "–" if m["balanced_accuracy"] is None else f"{m['balanced_accuracy']:.3f}",
            _percent(m["recall"]),
            _percent(m["specificity"]),
            "–" if m["auroc"] is None else f"{m['auroc']:.3f} [{m['auroc_low']:.3f}, {m['auroc_high']:.3f}]",
        ]
        for collection, by_judge in found["sets"].items()
        for name, m in by_judge.items()
    ]
    return aligned([head, *rows])


def _collection(row: Labelled) -> str:
    return row[0].split("_")[0]


def _percent(of: dict) -> str:
    return "–" if of["rate"] is None else f"{100 * of['rate']:.1f} [{100 * of['low']:.1f}, {100 * of['high']:.1f}]"
