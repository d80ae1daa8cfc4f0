"""Requests from a JSON-lines file, results to another: in order, one line each, resumable."""

import dataclasses
import hashlib
import json
import math
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from safety_align.bounds import shown
from safety_align.claims import Owner
from safety_align.decoding.config import Sampling
from safety_align.decoding.requests import Request, Result
from safety_align.errors import InputError
from safety_align.files import check_new_file, complete_lines
from safety_align.strict_json import parse_json, read_json_lines
from safety_align.text import Turn

L, R = TypeVar("L"), TypeVar("R")


@dataclasses.dataclass(frozen=True)
class Row:
    """An input line: its id, as it stands in the file, and the request."""

    id: str | int
    request: Request


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    """A line as it stands in the file."""

    id: str | int
    prompt: str
    prefill: str = ""
    history: list[tuple[str, str]] | None = None


def read_requests(path: pathlib.Path, sampling: Sampling, seed: int) -> list[Row]:
    """Rows `{"id", "prompt", optional "prefill", optional "history"}` of a (gzipped) file.

    history is a list of earlier [user, assistant] exchanges. A row's sampling seed is drawn from `seed` and its id, so
    it does not depend on the other rows. Raises InputError, naming the line, for any row that is not right.
    """
    return read_identified(path, _Line, lambda line, where: _row(line, where, sampling, seed))


def read_identified(path: pathlib.Path, schema: type[L], make: Callable[[L, str], R]) -> list[R]:
    """What `make(line, where)` makes of each line of a (gzipped) file; lines are of `schema`, with an `id` that no other has.
    Raises InputError, naming the line, for any that is not right, and for a file without lines."""
    rows: list[R] = []
    seen: dict[str | int, int] = {}
    for number, line in read_json_lines(path, schema):
        where = f"{path}, line {number}"
        rows.append(make(line, where))
        if line.id in seen:
            raise InputError(f"{where}: id {shown(line.id)} is already used in line {seen[line.id]}")
        seen[line.id] = number
    if not rows:
        raise InputError(f"input file {path} has no rows")
    return rows


def _row(line: _Line, where: str, sampling: Sampling, seed: int) -> Row:
    if not line.prompt.strip():
        raise InputError(f"{where}: prompt is empty")
    turns = []
    for user, assistant in line.history or []:
        if not (user.strip() and assistant.strip()):
            raise InputError(f"{where}: history has an empty turn")
        turns += [Turn("user", user), Turn("assistant", assistant)]
    drawn = int.from_bytes(hashlib.sha256(f"{seed} {line.id!r}".encode()).digest()[:4])
    return Row(line.id, Request((*turns, Turn("user", line.prompt)), line.prefill, seed=drawn, sampling=sampling))


def to_json(identity: str | int, result: Result) -> str:
    """One output line; a score that does not exist (no gate) is null."""

    def number(value: float):
        return round(value, 6) if math.isfinite(value) else None

    return json.dumps(
        {
            "id": identity,
            "response": result.response,
            "refused": result.refused,
            "query_score": number(result.query_score),
            "max_score": number(result.max_score),
            "reread_score": number(result.reread_score),
            "status": result.status,
            "transition_step": result.transition_step,
            "stop_reason": result.stop_reason,
            "checks": [[check.step, number(check.probability)] for check in result.checks],
        }
    )


class Identified(Protocol):
    """A row of an input file."""

    @property
    def id(self) -> str | int:
        """As it stands in the file, where no other row has it."""


class ResultsFile:
    """An output file that an interrupted run can go on with.

    `about` says which run it is (checkpoint, gate, input …) and stands beside the file, in `FILE.run.json`. A file of
    another run is refused untouched, and so is a `FILE.run.json` of anything else. A last line that was cut short is
    written anew. One process at a time: whoever makes one holds its lock (`claims.locked`).
    """

    def __init__(self, path: pathlib.Path, about: dict):
        self.path = path
        check_new_file(path)
        mark = path.with_name(path.name + ".run.json")
        if path.exists() and not os.path.lexists(mark):
            raise InputError(
                f"{path} exists and is not this command's ({mark.name} is missing); choose another --output"
            )
        taken, advice = f"{path} belongs to another run", "choose another --output"
        if not path.exists():
            taken, advice = f"{mark}, without its {path.name}, is of another run", f"{advice}, or delete that one"
        Owner(about, taken, advice).claim(mark)
        try:
            path.touch()
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror}; {advice}") from error

    def done(self, rows: Sequence[Identified]) -> int:
        """How many of `rows` the file already holds; drops a line that was cut short."""
        lines, size = complete_lines(self.path)
        for line, row in zip(lines, rows, strict=False):
            try:
                same = parse_json(line, str(self.path), dict[str, Any]).get("id") == row.id
            except InputError:
                same = False
            if not same:
                raise InputError(
                    f"{self.path} is not what this command wrote (at id {row.id!r}); choose another --output"
                )
        if len(lines) > len(rows):
            raise InputError(f"{self.path} has {len(lines)} rows, the input {len(rows)}; choose another --output")
        os.truncate(self.path, size)
        return len(lines)

    def append(self, lines: Sequence[str]) -> None:
        """Writes lines (without their ends) in order, all of them or, if interrupted, a beginning. OSError names the file."""
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                for line in lines:
                    file.write(line + "\n")
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error


def blocks(rows: Sequence[R], size: int) -> Iterator[Sequence[R]]:
    """`rows` in runs of `size`."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
