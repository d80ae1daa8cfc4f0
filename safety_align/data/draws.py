"""Random numbers that depend on a name alone, in every process and every version of numpy."""

import hashlib
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Draws:
    """A stream of numbers, the same for the same `name`."""

    def __init__(self, name: str):
        self._bytes = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()

    def below(self, n: int) -> int:
        """0, …, n - 1, each as likely."""
        number, self._bytes = int.from_bytes(self._bytes[:4]), hashlib.sha256(self._bytes).digest()
        return number * n >> 32

    def share(self) -> float:
        """A number in [0, 1)."""
        return self.below(2**32) / 2**32

    def one_of(self, items: Sequence[T]) -> T:
        """One of them, each as likely."""
        return items[self.below(len(items))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """All of them, in any order."""
        left = list(items)
        return [left.pop(self.below(len(left))) for _ in range(len(left))]
