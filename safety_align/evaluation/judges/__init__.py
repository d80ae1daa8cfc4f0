"""Judges of answers: rules of our own, a model that learned from people's labels, a guard or judge model of the user's.

A new judge is a frozen dataclass with a `judge` method, and a line in `JUDGES`; a config asks for it by that name.
"""

from safety_align.evaluation.judges.apart import check_apart, check_not_own
from safety_align.evaluation.judges.base import LABELS, Exchange, Judge, Verdict
from safety_align.evaluation.judges.corpus import EmbeddedHarm, check_corpus
from safety_align.evaluation.judges.every import Every
from safety_align.evaluation.judges.guard import GuardJudge
from safety_align.evaluation.judges.learned import LearnedJudge
from safety_align.evaluation.judges.load import load_judge
from safety_align.evaluation.judges.rules import RefusalRules

JUDGES: dict[str, type[Judge]] = {
    "refusal_rules": RefusalRules,
    "learned": LearnedJudge,
    "guard": GuardJudge,
    "embedded_harm": EmbeddedHarm,
}
"""Judges by the name that a config calls them."""

__all__ = [
    "JUDGES",
    "LABELS",
    "EmbeddedHarm",
    "Every",
    "Exchange",
    "GuardJudge",
    "Judge",
    "LearnedJudge",
    "RefusalRules",
    "Verdict",
    "check_apart",
    "check_corpus",
    "check_not_own",
    "load_judge",
]
