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
        requests, results = list(requests), target.answer(requests, self.new_tokens)
        going = range(len(requests))
        for _ in range(self.rounds - 1):
            going = [i for i in going if _goes_on(requests[i], results[i])]
            if not going:
                break
            for i in going:
                requests[i] = dataclasses.replace(requests[i], prefill="", prefill_ids=tuple(results[i].token_ids))
            answered = target.answer([requests[i] for i in going], self.new_tokens)
            for i, result in zip(going, answered, strict=True):
                results[i] = result
        return results


def _goes_on(request: Request, result: Result) -> bool:
    """The answer was cut by the round's cap, and longer than what was given."""
    return (
        result.stop_reason == "max_tokens" and not result.refused and len(result.token_ids) > len(request.prefill_ids)
    )
