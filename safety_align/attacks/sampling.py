"""Odd decoding settings: the same request under a grid of temperature, top-p and top-k, best of n."""

import dataclasses
import itertools
from collections.abc import Sequence

from safety_align.attacks.base import Behavior, ask
from safety_align.decoding import Request, Sampling
from safety_align.text import ChatTemplate, Tokenizer


@dataclasses.dataclass(frozen=True)
class SamplingGrid:
    """Every combination of the settings, `best_of` draws each; a behaviour falls if any draw complies."""

    temperatures: tuple[float, ...] = (0.7, 1.0, 1.5)
    top_ps: tuple[float, ...] = (0.7, 1.0)
    top_ks: tuple[int, ...] = (0, 40)
    best_of: int = 1
    name: str = "sampling"

    def settings(self) -> list[Sampling]:
        """The grid."""
        return [Sampling(*setting) for setting in itertools.product(self.temperatures, self.top_ks, self.top_ps)]

    def requests(
        self, behaviors: Sequence[Behavior], tokenizer: Tokenizer, template: ChatTemplate
    ) -> list[list[Request]]:
        """See `Attack.requests`."""
        draws = [setting for setting in self.settings() for _ in range(self.best_of)]
        return [
            [ask(b.goal, sampling=setting, seed=i * len(draws) + n) for n, setting in enumerate(draws)]
            for i, b in enumerate(behaviors)
        ]
