"""A model's own answers, as `launch.answers` writes them: what its windows are to be judged by.

DIR/about.json      which model, which settings, how many answers
DIR/answers.jsonl   a line each: {"id", "source", "history", "prompt", "prefill", "response", "verdict", "label"}
DIR/counts.json     how many answers of each source have which label

`response` begins with the prefill. `label` is "benign", "malicious", or null for an answer that trains nothing; `verdict` is
the judge's, null for a benign prompt.
"""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Annotated, Literal, TypedDict

import msgspec

from safety_align.data.examples import BENIGN, MALICIOUS, Example
from safety_align.data.specs import SPECS
from safety_align.errors import InputError
from safety_align.files import complete_lines
from safety_align.strict_json import parse_json, read_json, read_json_lines
from safety_align.text import Turn

ANSWERS = "answers.jsonl"

ASKED = {name: spec.query_label for name, spec in SPECS.items()} | {"contrast": BENIGN}
"""The label of a query by its source; of `contrast` the safe side is asked."""


class AnswerRow(TypedDict):
    """A line of the file; `history`: earlier [user, assistant] exchanges."""

    id: str
    source: str
    history: list[tuple[str, str]]
    prompt: str
    prefill: str
    response: str
    verdict: str | None
    label: Literal["benign", "malicious"] | None


class _About(TypedDict):
    answers: Annotated[int, msgspec.Meta(ge=1)]


def read_own_answers(directory: str | pathlib.Path) -> list[Example]:
    """The answers of `directory` that have a label, in order, none of them for the LM loss; InputError where it is
    incomplete or a row is bad.

    The query's label is that of the prompt's source. The beginning of a refusal that somebody else wrote is no part of it:
    a refused prefill is left out of the response.
    """
    directory = pathlib.Path(directory)
    try:
        expected = read_json(directory / "about.json", _About)["answers"]
    except InputError as error:
        raise InputError(f"{directory} holds no answers ({error}); make them with launch.answers") from error
    rows = list(read_json_lines(directory / ANSWERS, AnswerRow))
    if len(rows) < expected:
        raise InputError(
            f"{directory / ANSWERS} holds {len(rows)} answers of {expected}: run the same launch.answers command again"
        )
    seen: dict[str, int] = {}
    examples = []
    for number, row in rows:
        where = f"{directory / ANSWERS}, line {number}"
        if (first := seen.setdefault(row["id"], number)) != number:
            raise InputError(f"{where}: the answer {row['id']!r} is already in line {first}")
        if row["label"] is not None:
            examples.append(_example(row, where))
    return examples


def rows_done(path: pathlib.Path, ids: Sequence[str]) -> int:
    """How many rows of `ids`, in order, the file at `path` already holds; a last line that was cut short is dropped.

    Raises InputError, naming the line, for a file that holds others.
    """
    if not path.exists():
        return 0
    lines, size = complete_lines(path)
    if len(lines) > len(ids):
        raise InputError(f"{path} has {len(lines)} answers, {len(ids)} are wanted; choose another --output")
    for number, (line, identity) in enumerate(zip(lines, ids, strict=False), 1):
        if (found := parse_json(line, f"{path}, line {number}", AnswerRow)["id"]) != identity:
            raise InputError(
                f"{path}, line {number}: {found!r} stands in place of {identity!r}; choose another --output"
            )
    os.truncate(path, size)
    return len(lines)


def append_rows(path: pathlib.Path, rows: Sequence[AnswerRow]) -> None:
    """Writes rows behind those that are there: all of them or, if interrupted, a beginning."""
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _example(row: AnswerRow, where: str) -> Example:
    query_label = ASKED.get(row["source"])
    if query_label is None:
        raise InputError(f"{where}: {row['source']!r} is no source of benign or malicious prompts")
    if row["label"] == "malicious" and query_label == BENIGN:
        raise InputError(f"{where}: a malicious answer to a benign prompt, of {row['source']}")
    if not row["response"].startswith(row["prefill"]):
        raise InputError(f"{where}: the response does not begin with its prefill")
    response = row["response"] if row["label"] == "malicious" else row["response"][len(row["prefill"]) :].strip()
    if not (row["prompt"].strip() and response.strip()):
        raise InputError(f"{where}: the prompt or the response is empty")
    turns = [turn for user, assistant in row["history"] for turn in (Turn("user", user), Turn("assistant", assistant))]
    label = MALICIOUS if row["label"] == "malicious" else BENIGN
    prompt = Turn("user", row["prompt"])
    return Example((*turns, prompt), response, query_label, label, False, "own_answers", row["id"])
