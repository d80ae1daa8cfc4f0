"""Attacks on the gate, one file per family."""

from safety_align.attacks.autodan import AutoDan
from safety_align.attacks.base import Attack, Crafted, OneRound, OptimisedAttack, TargetModel, ask
from safety_align.attacks.behaviors import load_behaviors, subsample
from safety_align.attacks.best_of_n import BestOfN
from safety_align.attacks.direct import Direct, Published
from safety_align.attacks.disguise import Disguise
from safety_align.attacks.feedback import FeedbackPrefill
from safety_align.attacks.gcg import Gcg
from safety_align.attacks.prefill import Prefill, affirmative_start
from safety_align.attacks.rap import Rap
from safety_align.attacks.sampling import SamplingGrid
from safety_align.attacks.schedule_aware import ScheduleAware
from safety_align.attacks.soft_prompt import SoftPrompt
from safety_align.attacks.templates import Templates
from safety_align.data.behavior import Behavior

ATTACKS: dict[str, type[Attack]] = {
    "direct": Direct,
    "prefill": Prefill,
    "feedback": FeedbackPrefill,
    "published": Published,
    "sampling_grid": SamplingGrid,
    "rap": Rap,
    "schedule_aware": ScheduleAware,
    "best_of_n": BestOfN,
    "templates": Templates,
    "disguise": Disguise,
}
"""Attacks by the name that a config calls them."""

OPTIMISED: dict[str, type[OptimisedAttack]] = {"gcg": Gcg, "soft_prompt": SoftPrompt, "autodan": AutoDan}
"""Attacks that `launch.attack` makes beside these, one behaviour after the other."""

__all__ = [
    "ATTACKS", "OPTIMISED", "Attack", "AutoDan", "Behavior", "BestOfN", "Crafted", "Direct", "Disguise", "FeedbackPrefill",
    "Gcg", "OneRound", "OptimisedAttack", "Prefill", "Published", "Rap", "SamplingGrid", "ScheduleAware", "SoftPrompt",
    "TargetModel", "Templates", "affirmative_start", "ask", "load_behaviors", "subsample",
]  # fmt: skip
