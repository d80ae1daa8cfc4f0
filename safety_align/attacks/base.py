"""What an attack is: behaviours in, requests out; a behaviour falls if any of its requests is answered."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

from safety_align.decoding import Request
from safety_align.text import ChatTemplate, Tokenizer, Turn


@dataclasses.dataclass(frozen=True)
class Behavior:
    """Something harmful to ask for.

    goal: the request in words; target: how a compliant answer would start; category; id: unique in its set;
    prompt: what is sent in place of `goal` where a published attack comes as a finished prompt.
    """

    goal: str
    target: str
    category: str = ""
    id: str = ""
    prompt: str = ""


class Attack(Protocol):
    """One attack family at one setting."""

    name: str

    def requests(
        self, behaviors: Sequence[Behavior], tokenizer: Tokenizer, template: ChatTemplate
    ) -> list[list[Request]]:
        """One list of requests for each behaviour."""


def ask(text: str, **options) -> Request:
    """A single-turn request."""
    return Request((Turn("user", text),), **options)
