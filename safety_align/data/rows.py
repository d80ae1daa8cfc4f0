"""Raw files → checked rows: JSON lines and CSV, with bad rows counted by reason and refused beyond a fraction."""

import collections
import csv
import gzip
import io
import json
import pathlib
from collections.abc import Callable, Iterator

from safety_align.errors import InputError

MAX_CHARACTERS = 20_000
"""A field longer than this is a bad row ("over length")."""


class BadRow(Exception):
    """Why a row is not used; the message is the reason."""


class RowReport:
    """How many rows of a file were used, and why the others were not."""

    def __init__(self, path: pathlib.Path, max_bad_fraction: float):
        self.path, self.max_bad_fraction = path, max_bad_fraction
        self.good, self.bad = 0, collections.Counter()

    def __str__(self) -> str:
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.bad.most_common())
        return f"{self.path.name}: {self.good} rows used, {sum(self.bad.values())} not ({reasons or 'none bad'})"

    def close(self) -> None:
        """Raises InputError if too many rows were bad."""
        bad = sum(self.bad.values())
        if bad > self.max_bad_fraction * (bad + self.good) or not self.good:
            raise InputError(
                f"{self.path}: {bad} of {bad + self.good} rows are bad ({dict(self.bad)}), more than the fraction "
                f"{self.max_bad_fraction} allowed; repair the file or raise max_bad_fraction"
            )


def read_lines(path: pathlib.Path) -> Iterator[bytes]:
    """Lines of a file, gzipped or not, split at `\\n` only (texts hold other Unicode separators)."""
    if not path.is_file():
        raise InputError(f"data file {path} does not exist; put it there or set data.data_dir")
    opened = gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb")
    try:
        with opened as file:
            for line in file:
                if line.strip():
                    yield line
    except (EOFError, gzip.BadGzipFile) as error:
        raise InputError(f"data file {path} is truncated or not gzip: {error}; copy it again") from error


def read_json_rows(
    path: pathlib.Path, fields: dict[str, type], report: RowReport, parse: Callable[[dict], object]
) -> Iterator:
    """`(line number, parse(row))` for each good row.

    A row is bad if it is not UTF-8, not JSON, lacks a field of `fields`, has one of another type, is over length, or
    if `parse` raises `BadRow`. Counts go to `report`, which the caller closes.
    """
    for number, line in enumerate(read_lines(path)):
        try:
            value = parse(_checked(line, fields))
        except BadRow as error:
            report.bad[str(error)] += 1
            continue
        report.good += 1
        yield number, value


def _checked(line: bytes, fields: dict[str, type]) -> dict:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise BadRow("not UTF-8") from None
    except ValueError:
        raise BadRow("not JSON") from None
    if not isinstance(row, dict):
        raise BadRow("wrong type")
    for name, kind in fields.items():
        if name not in row:
            raise BadRow("missing field")
        if not isinstance(row[name], kind):
            raise BadRow("wrong type")
        if kind is str and len(row[name]) > MAX_CHARACTERS:
            raise BadRow("over length")
    return row


def require_text(text: str) -> str:
    """`text` stripped; an empty one is a bad row."""
    if not text.strip():
        raise BadRow("empty")
    return text.strip()


def read_csv(path: pathlib.Path) -> list[dict[str, str]]:
    """Rows of a (gzipped) CSV file with a header."""
    if not path.is_file():
        raise InputError(f"data file {path} does not exist; put it there or set data_dir")
    raw = gzip.open(path, "rb").read() if path.suffix == ".gz" else path.read_bytes()
    return list(csv.DictReader(io.StringIO(raw.decode("utf-8"), newline="")))
