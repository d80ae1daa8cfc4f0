"""Raw files → checked rows: JSON lines and CSV, with bad rows counted by reason and refused beyond a fraction."""

import codecs
import collections
import csv
import io
import pathlib
from collections.abc import Callable, Iterator, Sequence

from safety_align.bounds import shown
from safety_align.errors import InputError
from safety_align.files import read_bounded, read_lines
from safety_align.strict_json import JsonError, parse_json

MAX_CSV = 256 << 20
"""Bytes of a CSV file, unpacked."""

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


def read_json_rows(
    path: pathlib.Path, fields: dict[str, type], report: RowReport, parse: Callable[[dict], object]
) -> Iterator:
    """`(row number, parse(row))` for each good row; rows count from 0.

    A row is bad if `parse_json` refuses it, if it lacks a field of `fields`, has one of another type, is over length,
    or if `parse` raises `BadRow`. Counts go to `report`, which the caller closes.
    """
    for number, (_, line) in enumerate(read_lines(path)):
        try:
            value = parse(_checked(line, fields))
        except BadRow as error:
            report.bad[str(error)] += 1
            continue
        report.good += 1
        yield number, value


def _checked(line: bytes, fields: dict[str, type]) -> dict:
    try:
        row = parse_json(line, "row")
    except JsonError as error:
        raise BadRow(error.reason) from None
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


def read_csv(path: pathlib.Path, columns: Sequence[str], most: int = MAX_CSV) -> list[dict[str, str]]:
    """Rows of a (gzipped) CSV file with a header; UTF-8, or UTF-16 with a byte order mark.

    Raises InputError, naming the file and the line, unless the header has `columns`, none of them is blank in any row,
    every row has as many fields as the header, quotes are closed, and there is a row.
    """
    rows: list[dict[str, str]] = []
    reader = csv.reader(io.StringIO(_csv_text(path, most), newline=""), strict=True)
    try:
        header = next(reader, [])
        if missing := [column for column in columns if column not in header]:
            raise InputError(f"{path} has no column {missing[0]!r}; its columns are {shown(header)}")
        if len(set(header)) < len(header):
            raise InputError(f"{path} has two columns of one name: {shown(header)}")
        for fields in reader:
            if not fields:  # an empty line
                continue
            if len(fields) != len(header):
                raise InputError(f"{path}, line {reader.line_num}: {len(fields)} fields under {len(header)} columns")
            rows.append(dict(zip(header, fields, strict=True)))
            if blank := [column for column in columns if not rows[-1][column].strip()]:
                raise InputError(f"{path}, line {reader.line_num}: the column {blank[0]!r} is blank")
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num} is not CSV: {error}") from None
    if not rows:
        raise InputError(f"{path} has no rows")
    return rows


def _csv_text(path: pathlib.Path, most: int) -> str:
    raw = read_bounded(path, most)
    encoding = "utf-16" if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}, line {line} is not {encoding.upper().removesuffix('-SIG')} (byte 0x{raw[error.start]:02x} at "
            f"{error.start}); save it as UTF-8"
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"{path}, line {line} holds a NUL character; save it as UTF-8 text")
    return text


def read_text_lines(path: pathlib.Path) -> list[str]:
    """Lines of a text file in UTF-8, stripped, without blank ones; InputError names a line that is none."""
    lines = []
    for number, line in read_lines(path):
        try:
            lines.append(line.decode("utf-8").strip())
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}, line {number} is not UTF-8 (byte 0x{line[error.start]:02x}); save it as UTF-8"
            ) from None
    if not (lines := [line for line in lines if line]):
        raise InputError(f"{path} has no lines")
    return lines
