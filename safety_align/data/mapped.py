"""Examples that are changed as they are read."""

from collections.abc import Callable, Sequence

from safety_align.data.examples import Example


class Mapped(Sequence):
    """`change(example)` for each of `examples`; a fingerprint that they have goes on, with `mark`, which names the change."""

    def __init__(self, examples: Sequence[Example], change: Callable[[Example], Example], mark: str):
        self._examples, self._change = examples, change
        if known := getattr(examples, "fingerprint", None):
            self.fingerprint = f"{known} {mark}"

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Example:
        return self._change(self._examples[index])
