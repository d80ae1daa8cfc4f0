"""The bare request, and finished attack prompts (nested stories, transferred suffixes)."""

import dataclasses
from collections.abc import Sequence

from safety_align.attacks.base import Behavior, ask
from safety_align.decoding import Request
from safety_align.text import ChatTemplate, Tokenizer


@dataclasses.dataclass(frozen=True)
class Direct:
    """Asks for the goal in plain words."""

    name: str = "direct"

    def requests(
        self, behaviors: Sequence[Behavior], tokenizer: Tokenizer, template: ChatTemplate
    ) -> list[list[Request]]:
        """See `Attack.requests`."""
        return [[ask(b.goal, seed=i)] for i, b in enumerate(behaviors)]


@dataclasses.dataclass(frozen=True)
class Published:
    """Sends each behaviour's finished attack prompt: DeepInception's nested stories ("nested"), goals with a GCG
    suffix found on another model ("gcg_transfer")."""

    name: str

    def requests(
        self, behaviors: Sequence[Behavior], tokenizer: Tokenizer, template: ChatTemplate
    ) -> list[list[Request]]:
        """See `Attack.requests`."""
        return [[ask(b.prompt, seed=i)] for i, b in enumerate(behaviors)]
