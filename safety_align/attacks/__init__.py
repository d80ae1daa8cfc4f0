"""Attacks on the gate, one file per family."""

from safety_align.attacks.base import Attack, Behavior, ask
from safety_align.attacks.behaviors import load_behaviors, subsample
from safety_align.attacks.direct import Direct, Published
from safety_align.attacks.prefill import Prefill, affirmative_start
from safety_align.attacks.sampling import SamplingGrid

__all__ = [
    "Attack", "Behavior", "Direct", "Prefill", "Published", "SamplingGrid", "affirmative_start", "ask", "load_behaviors",
    "subsample",
]  # fmt: skip
