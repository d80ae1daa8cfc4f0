"""Examples that are changed as they are read."""

import sys
from collections.abc import Callable, Sequence

from safety_align.data import draws
from safety_align.data.code import code_digest
from safety_align.data.examples import Example
from safety_align.errors import InputError


def check_share(field: str, share: float) -> None:
    """Raises InputError, which names data.`field`, for a share of examples that is none."""
    if not 0 <= share <= 1:
        raise InputError(f"data.{field} must be a share from 0 to 1, got {share}")


class Mapped(Sequence):
    """`change(example)` for each of `examples`; a fingerprint that they have goes on, with `mark`, which names the change, and a
    digest of the module that `change` is of: examples that other code has changed are other examples."""

    def __init__(self, examples: Sequence[Example], change: Callable[[Example], Example], mark: str):
        self._examples, self._change = examples, change
        if known := getattr(examples, "fingerprint", None):
            code = code_digest(sys.modules[change.__module__].__file__, draws.__file__)
            self.fingerprint = f"{known} {mark} {code}"

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        return self._change(self._examples[index])
