"""Plain text with a guard model's probabilities, as `launch.label` writes it: the pretraining stage's data.

DIR/about.json            which guard, which text, how many passages
DIR/part-00000.jsonl.gz   PART passages each, in order: {"source", "id", "text", "unsafe": probability}
"""

import pathlib
from collections.abc import Sequence
from typing import Annotated, TypedDict

import msgspec

from safety_align.data.examples import Example
from safety_align.data.parts import part_path, write_rows
from safety_align.errors import InputError
from safety_align.strict_json import read_json, read_json_lines

PART = 512
"""Passages of a part; what is lost at most when labelling is interrupted."""


def write_part(path: pathlib.Path, examples: Sequence[Example], probabilities: Sequence[float]) -> None:
    """Writes a part; the file is there only once it is whole."""
    both = zip(examples, probabilities, strict=True)
    write_rows(
        path, ({"source": e.source, "id": e.id, "text": e.response, "unsafe": round(float(p), 6)} for e, p in both)
    )


class _About(TypedDict):
    passages: Annotated[int, msgspec.Meta(ge=1)]


class _Row(TypedDict):
    source: str
    id: str
    text: str
    unsafe: Annotated[float, msgspec.Meta(ge=0, le=1)]


def read_labelled(directory: str | pathlib.Path) -> list[Example]:
    """All passages of `directory`, in order, `text_label` set; InputError where it is incomplete or a row is bad."""
    directory = pathlib.Path(directory)
    try:
        passages = read_json(directory / "about.json", _About)["passages"]
    except InputError as error:
        raise InputError(f"{directory} holds no labelled text ({error}); make it with launch.label") from error
    examples = []
    for part in range(-(-passages // PART)):
        path = part_path(directory, part)
        if not path.exists():
            raise InputError(f"{path} is missing: run the same launch.label command again")
        try:
            rows = [row for _, row in read_json_lines(path, _Row)]
        except InputError as error:
            raise InputError(f"{path} is corrupt ({error}); delete it and run launch.label again") from error
        if len(rows) != (expected := min(PART, passages - part * PART)):
            raise InputError(f"{path} holds {len(rows)} passages of {expected}; delete it and run launch.label again")
        examples += [Example((), r["text"], None, None, True, r["source"], r["id"], r["unsafe"]) for r in rows]
    return examples
