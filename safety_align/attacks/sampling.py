"""Odd decoding settings: the same request under a grid of temperature, top-p and top-k, best of n."""

import dataclasses
import itertools
from collections.abc import Sequence

from safety_align.attacks.base import OneRound, ask
from safety_align.bundle import Bundle
from safety_align.data.behavior import Behavior
from safety_align.decoding import Request, Sampling
from safety_align.errors import InputError
from safety_align.fields import check_fields

MAX_DRAWS = 10_000
"""Answers to one behaviour, at most."""


@dataclasses.dataclass(frozen=True)
class SamplingGrid(OneRound):
    """Every combination of the settings, `best_of` draws each; a behaviour falls if any draw complies."""

    temperatures: tuple[float, ...] = (0.7, 1.0, 1.5)
    top_ps: tuple[float, ...] = (0.7, 1.0)
    top_ks: tuple[int, ...] = (0, 40)
    best_of: int = 1

    def __post_init__(self):
        check_fields(self, best_of=1)
        draws = len(self.temperatures) * len(self.top_ps) * len(self.top_ks) * self.best_of
        if not 1 <= draws <= MAX_DRAWS:
            raise InputError(
                f"temperatures x top_ps x top_ks x best_of are {draws} draws for each behaviour, not 1 to {MAX_DRAWS}"
            )
        self.settings()  # checks each of its settings

    def settings(self) -> list[Sampling]:
        """The grid."""
        return [Sampling(*setting) for setting in itertools.product(self.temperatures, self.top_ks, self.top_ps)]

    def requests(self, behaviors: Sequence[Behavior], bundle: Bundle) -> list[list[Request]]:
        """See `Attack.requests`."""
        draws = [setting for setting in self.settings() for _ in range(self.best_of)]
        return [
            [ask(b.goal, sampling=setting, seed=i * len(draws) + n) for n, setting in enumerate(draws)]
            for i, b in enumerate(behaviors)
        ]
