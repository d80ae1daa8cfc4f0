"""A long result in parts, `DIR/part-00000.jsonl.gz` and so on: those that are there are whole and need no second making."""

import gzip
import json
import pathlib
from collections.abc import Iterable

from safety_align.files import written_whole


def part_path(directory: pathlib.Path, part: int) -> pathlib.Path:
    """The file of a part."""
    return directory / f"part-{part:05}.jsonl.gz"


def write_rows(path: pathlib.Path, rows: Iterable[dict]) -> None:
    """Writes a part, a line of JSON for each row; the file is there only once it is whole. Numbers come back to the bit."""
    with written_whole(path) as beside, gzip.open(beside, "wt", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
