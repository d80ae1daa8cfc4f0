"""What an attack is: behaviours in, requests out, answers back; a behaviour falls if any of its requests is answered."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from safety_align.bundle import Bundle
from safety_align.data.behavior import Behavior
from safety_align.decoding import GateConfig, Generator, Request, Result
from safety_align.text import Turn


@dataclasses.dataclass(frozen=True)
class TargetModel:
    """The model that is asked, and how far it answers.

    generator: with the gate in force; max_new_tokens: cap on new tokens, whatever the prompt's length (docs/method.md
    section 9); batch_size: rows; progress: called with the number of answers that were finished.
    """

    generator: Generator
    max_new_tokens: int
    batch_size: int
    progress: Callable[[int], None] | None = None

    def answer(self, requests: Sequence[Request], max_new_tokens: int | None = None) -> list[Result]:
        """One result for each request, in order; `max_new_tokens` in place of the model's own cap."""
        cap = self.max_new_tokens if max_new_tokens is None else max_new_tokens
        return self.generator.generate(requests, cap, self.batch_size, self.progress)


@runtime_checkable
class Attack(Protocol):
    """One attack family at one setting: a frozen dataclass, whose fields a config sets.

    Most attacks only make requests: they inherit `answers` from `OneRound`.
    """

    def requests(self, behaviors: Sequence[Behavior], bundle: Bundle) -> list[list[Request]]:
        """One list of requests for each behaviour: what the attack starts with. Cheap: made again whenever an evaluation
        looks whether it has been measured already."""

    def answers(self, requests: Sequence[Request], target: TargetModel) -> list[Result]:
        """The answer to judge for each of the `requests` of all behaviours, in order, after as many rounds as the attack
        takes. All of one round go to `target` in one call."""


class OneRound:
    """Base of the attacks that only make requests: each is sent once, and the answer is judged."""

    def answers(self, requests: Sequence[Request], target: TargetModel) -> list[Result]:
        """See `Attack.answers`."""
        return target.answer(requests)


def ask(text: str, **options) -> Request:
    """A single-turn request."""
    return Request((Turn("user", text),), **options)


@dataclasses.dataclass(frozen=True)
class Crafted:
    """What an optimised attack on one behaviour found: the request to send, the steps that it took, and all that is worth
    keeping (JSON)."""

    request: Request
    steps: int
    record: dict


@runtime_checkable
class OptimisedAttack(Protocol):
    """An attack that works on one behaviour for many steps, with the model's parameters at hand: a frozen dataclass, whose
    fields the command line sets."""

    def craft(self, behavior: Behavior, bundle: Bundle, gate: GateConfig, works: Callable[[Request], bool]) -> Crafted:
        """The best request found. `works(request)` writes an answer through the gate and says whether the attack may stop."""
