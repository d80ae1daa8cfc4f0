"""Attacks on the gate, one file per family."""

from safety_align.attacks.base import Attack, OneRound, TargetModel, ask
from safety_align.attacks.behaviors import load_behaviors, subsample
from safety_align.attacks.direct import Direct, Published
from safety_align.attacks.feedback import FeedbackPrefill
from safety_align.attacks.prefill import Prefill, affirmative_start
from safety_align.attacks.sampling import SamplingGrid
from safety_align.data.behavior import Behavior

ATTACKS: dict[str, type[Attack]] = {
    "direct": Direct,
    "prefill": Prefill,
    "feedback_prefill": FeedbackPrefill,
    "published": Published,
    "sampling_grid": SamplingGrid,
}
"""Attacks by the name that a config calls them."""

__all__ = [
    "ATTACKS", "Attack", "Behavior", "Direct", "FeedbackPrefill", "OneRound", "Prefill", "Published", "SamplingGrid",
    "TargetModel", "affirmative_start", "ask", "load_behaviors", "subsample",
]  # fmt: skip
