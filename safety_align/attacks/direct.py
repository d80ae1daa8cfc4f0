"""The bare request, and finished attack prompts (nested stories, transferred suffixes)."""

import dataclasses
from collections.abc import Sequence

from safety_align.attacks.base import OneRound, ask
from safety_align.bundle import Bundle
from safety_align.data.behavior import Behavior
from safety_align.decoding import Request
from safety_align.errors import InputError


@dataclasses.dataclass(frozen=True)
class Direct(OneRound):
    """Asks for the goal in plain words."""

    def requests(self, behaviors: Sequence[Behavior], bundle: Bundle) -> list[list[Request]]:
        """See `Attack.requests`."""
        return [[ask(b.goal, seed=i)] for i, b in enumerate(behaviors)]


@dataclasses.dataclass(frozen=True)
class Published(OneRound):
    """Sends each behaviour's finished attack prompt: DeepInception's nested stories ("nested"), goals with a GCG
    suffix found on another model ("gcg_transfer")."""

    def requests(self, behaviors: Sequence[Behavior], bundle: Bundle) -> list[list[Request]]:
        """See `Attack.requests`. InputError for behaviours that come without such a prompt."""
        if bare := [b.goal for b in behaviors if not b.prompt]:
            raise InputError(
                f"no published attack prompt comes with the behaviour {bare[0]!r}; name a set that has them"
            )
        return [[ask(b.prompt, seed=i)] for i, b in enumerate(behaviors)]
