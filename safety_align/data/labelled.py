"""Plain text with a guard model's probabilities, as `launch.label` writes it: the pretraining stage's data.

DIR/about.json            which guard, which text, how many passages
DIR/part-00000.jsonl.gz   PART passages each, in order: {"source", "id", "text", "unsafe": probability}
"""

import gzip
import json
import pathlib
import zlib
from collections.abc import Sequence

from safety_align.data.examples import Example
from safety_align.errors import InputError
from safety_align.files import written_whole

PART = 512
"""Passages of a part; what is lost at most when labelling is interrupted."""


def part_path(directory: pathlib.Path, part: int) -> pathlib.Path:
    """The file of a part."""
    return directory / f"part-{part:05}.jsonl.gz"


def write_part(path: pathlib.Path, examples: Sequence[Example], probabilities: Sequence[float]) -> None:
    """Writes a part; the file is there only once it is whole."""
    with written_whole(path) as beside, gzip.open(beside, "wt", encoding="utf-8") as file:
        for e, p in zip(examples, probabilities, strict=True):
            row = {"source": e.source, "id": e.id, "text": e.response, "unsafe": round(float(p), 6)}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_labelled(directory: str | pathlib.Path) -> list[Example]:
    """All passages of `directory`, in order, `text_label` set; InputError where it is incomplete or a row is bad."""
    directory = pathlib.Path(directory)
    try:
        about = json.loads((directory / "about.json").read_text("utf-8"))
        parts = -(-int(about["passages"]) // PART)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{directory} holds no labelled text ({error}); make it with launch.label") from error
    examples = []
    for part in range(parts):
        path = part_path(directory, part)
        try:
            with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
                examples += [_example(json.loads(line)) for line in file]
        except FileNotFoundError:
            raise InputError(f"{path} is missing: run the same launch.label command again") from None
        except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is corrupt ({error}); delete it and run launch.label again") from error
    return examples


def _example(row: dict) -> Example:
    label = float(row["unsafe"])
    if not 0 <= label <= 1:
        raise ValueError(f"passage {row['id']}: unsafe is {label}, not a probability")
    return Example((), row["text"], None, None, True, row["source"], row["id"], label)
