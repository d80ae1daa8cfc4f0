"""What the gate released becomes the next prefill: an attacker who asks again and again for a little more."""

import dataclasses
from collections.abc import Sequence

from safety_align.attacks.base import TargetModel
from safety_align.attacks.prefill import Prefill
from safety_align.bundle import Bundle
from safety_align.data.behavior import Behavior
from safety_align.decoding import Request, Result
from safety_align.fields import check_fields


@dataclasses.dataclass(frozen=True)
class FeedbackPrefill:
    """Begins as `Prefill` does, with `tokens` of the attacker's, and asks for `new_tokens` more; what was released is the
    prefill of the next round, `rounds` in all. The whole is judged: all that the model wrote, over all rounds.

    Every round begins with a verdict that knows nothing of the rounds before: an alert that the end of a round left open
    is forgotten, though every window of the prefill is read again. An answer that ends, is refused or gets no longer is
    not asked to go on. An attacker who has the text alone would encode it again; here the released ids go back as they
    are.
    """

    tokens: int = 5
    new_tokens: int = 16
    rounds: int = 4

    def __post_init__(self):
        check_fields(self, tokens=1, new_tokens=1, rounds=1)

    def requests(self, behaviors: Sequence[Behavior], bundle: Bundle) -> list[list[Request]]:
        """See `Attack.requests`."""
        return Prefill(self.tokens).requests(behaviors, bundle)

    def answers(self, requests: Sequence[Request], target: TargetModel) -> list[Result]:
        """See `Attack.answers`."""
        return ask_on(requests, target, self.new_tokens, self.rounds)[0]


def ask_on(
    requests: Sequence[Request], target: TargetModel, new_tokens: int, rounds: int, behind: tuple[int, ...] = ()
) -> tuple[list[Result], list[list[int]]]:
    """Answers of `rounds` rounds of `new_tokens` each, every one behind what was released and then the ids `behind`: the result of
    each request's last round, and the places of its answer at which `behind` stands."""
    requests, results = list(requests), target.answer(requests, new_tokens)
    going, places = range(len(requests)), [[] for _ in requests]
    for _ in range(rounds - 1):
        going = [i for i in going if _goes_on(requests[i], results[i])]
        if not going:
            break
        for i in going:
            released = tuple(results[i].token_ids)
            requests[i] = dataclasses.replace(requests[i], prefill="", prefill_ids=(*released, *behind))
            places[i].append(len(released))
        answered = target.answer([requests[i] for i in going], new_tokens)
        for i, result in zip(going, answered, strict=True):
            results[i] = result
    return results, places


def _goes_on(request: Request, result: Result) -> bool:
    """The answer was cut by the round's cap, and longer than what was given."""
    return (
        result.stop_reason == "max_tokens" and not result.refused and len(result.token_ids) > len(request.prefill_ids)
    )
