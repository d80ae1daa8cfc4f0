"""Preference pairs with a reference model's log-probabilities, as `launch.reference` or a first DPO run stores them.

DIR/about.json            what the numbers depend on: the model's parameters, the tokenizer, the pairs, …
DIR/part-00000.jsonl.gz   so many pairs each, in order: {"source", "id", "chosen", "rejected"}, log-probabilities in nats
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import TypedDict

from safety_align.data.examples import Example
from safety_align.data.parts import part_path, write_rows
from safety_align.errors import InputError
from safety_align.strict_json import read_json_lines

PART = 1024
"""Pairs of a part, unless asked otherwise; what is lost at most when the work is interrupted."""

Sums = tuple[float, float]


class _Row(TypedDict):
    source: str
    id: str
    chosen: float
    rejected: float


@dataclasses.dataclass(frozen=True)
class ReferenceStore:
    """The directory of `count` pairs' log-probabilities, in parts of `part` pairs."""

    directory: pathlib.Path
    count: int
    part: int = PART

    def missing(self) -> list[int]:
        """Parts that are not there yet."""
        return [part for part in self._parts() if not part_path(self.directory, part).is_file()]

    def of_part(self, part: int) -> slice:
        """Which of the pairs, in order, a part holds."""
        return slice(part * self.part, (part + 1) * self.part)

    def write(self, part: int, pairs: Sequence[Example], sums: Iterable[Sums]) -> None:
        """Writes a part; the file is there only once it is whole. float32 sums come back to the bit."""
        both = zip(pairs, sums, strict=True)
        write_rows(
            part_path(self.directory, part),
            ({"source": e.source, "id": e.id, "chosen": float(c), "rejected": float(r)} for e, (c, r) in both),
        )

    def read(self) -> dict[tuple[str, str], Sums]:
        """(source, id) → (chosen, rejected) of all pairs; InputError where one is missing or a file is corrupt."""
        found: dict[tuple[str, str], Sums] = {}
        for part in self._parts():
            path = part_path(self.directory, part)
            if not path.exists():
                raise InputError(f"{path} is missing: run launch.reference with the same config")
            try:
                for _, row in read_json_lines(path, _Row):
                    found[row["source"], row["id"]] = row["chosen"], row["rejected"]
            except InputError as error:
                raise InputError(f"{path} is corrupt ({error}); delete it and run launch.reference again") from error
        if len(found) != self.count:
            raise InputError(
                f"{self.directory} holds {len(found)} pairs of {self.count}; delete it and run launch.reference again"
            )
        return found

    def _parts(self) -> range:
        return range(-(-self.count // self.part))


def pairs_digest(pairs: Iterable[Example]) -> str:
    """A fingerprint of the pairs' texts, in order."""
    digest = hashlib.sha256()
    for e in pairs:
        fields = [e.source, e.id, [[t.role, t.text] for t in e.turns], e.response, e.rejected]
        digest.update(json.dumps(fields).encode())
    return digest.hexdigest()


class WithReference(Sequence):
    """A source's examples, its preference pairs with their reference log-probabilities; still read on access."""

    def __init__(self, examples: Sequence[Example], sums: dict[tuple[str, str], Sums]):
        self._examples, self._sums = examples, sums

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Example:
        example = self._examples[index]
        if not example.rejected:
            return example
        return dataclasses.replace(example, reference=self._sums[example.source, example.id])
