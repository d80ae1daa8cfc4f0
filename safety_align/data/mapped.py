"""Examples that are changed as they are read, and which of them."""

import sys
from collections.abc import Callable, Sequence

from safety_align.data import draws
from safety_align.data.code import code_digest
from safety_align.data.draws import Draws
from safety_align.data.examples import Example
from safety_align.errors import InputError


def check_share(field: str, share: float) -> None:
    """Raises InputError, which names data.`field`, for a share of examples that is none."""
    if not 0 <= share <= 1:
        raise InputError(f"data.{field} must be a share from 0 to 1, got {share}")


def chosen(example: Example, name: str, share: float) -> Draws | None:
    """What the change `name` of the example's request draws from, if it is one of the `share` that are changed: by source and id, the
    same in every epoch and every process, and as likely in either class. None for any other, and for a conversation that is not a
    single user turn with a labelled query."""
    if len(example.turns) != 1 or example.query_label is None:
        return None
    draw = Draws(f"{name} {example.source}/{example.id}")
    return draw if draw.share() < share else None


class Mapped(Sequence):
    """`change(example)` for each of `examples`; a fingerprint that they have goes on, with `mark`, which names the change, and a
    digest of this module and of that which `change` is of: examples that other code has changed are other examples."""

    def __init__(self, examples: Sequence[Example], change: Callable[[Example], Example], mark: str):
        self._examples, self._change = examples, change
        if known := getattr(examples, "fingerprint", None):
            code = code_digest(sys.modules[change.__module__].__file__, draws.__file__, __file__)
            self.fingerprint = f"{known} {mark} {code}"

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        return self._change(self._examples[index])
