"""JSON that came from outside: one reader for every file, line and header.

Python's own reader takes the last of two equal keys, NaN, numbers that no float holds, and lone surrogates, which no
file can be written with; deep nesting ends it in a RecursionError. Here each of these is an InputError of one line.
"""

import dataclasses
import json
import math
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from safety_align.errors import InputError
from safety_align.files import MAX_LINE, read_bytes, read_lines

MAX_DEPTH = 100
"""Levels of nesting; no file that we read has a dozen."""

NO_LIMIT = str(int(1e30))
"""What `transformers` writes for "no limit" into every tokenizer_config.json; no other number is so long."""

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")


class JsonError(InputError):
    """Text that is not what it should be. `reason`: which kind of wrong, in a few words that name no place."""

    def __init__(self, message: str, reason: str):
        super().__init__(message)
        self.reason = reason


def read_json(path: pathlib.Path, schema: Any = Any) -> Any:
    """The JSON file at `path`, as `parse_json` gives it."""
    return parse_json(read_bytes(path), str(path), schema)


def read_json_lines(path: pathlib.Path, schema: Any = Any, longest: int = MAX_LINE) -> Iterator[tuple[int, Any]]:
    """`(line number, value)` of each line of a (gzipped) JSON-lines file, as `parse_json` gives it; `longest`: see
    `read_lines`."""
    for number, line in read_lines(path, longest):
        yield number, parse_json(line, f"{path}, line {number}", schema)


def parse_json(data: str | bytes, where: str, schema: Any = Any) -> Any:
    """The value that `data` spells, converted to `schema`.

    Args:
      data: text, or bytes in UTF-8 (with or without a byte order mark).
      where: what errors call it: a path, a path and a line.
      schema: a type as msgspec knows it: a Struct, a TypedDict (fields that it does not name are dropped), `dict[str,
        str]` …; `Any` is whatever stands there.

    Raises JsonError, which names the place and the field, for what is not JSON or not of `schema`.
    """
    try:
        text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
        value = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite, parse_int=_integer
        )
        _check_depth(value)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()  # a pair of surrogates is one character by now
    except RecursionError:
        raise JsonError(f"{where} is nested too deeply", "nested too deeply") from None
    except UnicodeEncodeError:
        raise _half_a_pair(where) from None
    except UnicodeDecodeError as error:
        raise JsonError(f"{where} is not UTF-8 (byte {error.start})", "not UTF-8") from None
    except ValueError as error:
        raise JsonError(f"{where} is not JSON: {error}", "not JSON") from None
    return value if schema is Any else check_type(value, schema, where)


def check_type(value: Any, schema: Any, where: str) -> Any:
    """`value` (of JSON types) converted to `schema`; JsonError names the field that is missing or has another type."""
    try:
        return msgspec.convert(value, schema, strict=True)
    except UnicodeEncodeError:  # a value that no file held: one made in Python
        raise _half_a_pair(where) from None
    except msgspec.ValidationError as error:
        what, _, field = str(error).partition(" - at `$")
        field = field.rstrip("`").lstrip(".")
        reason = "missing field" if "missing required" in what else "wrong type"
        raise JsonError(f"{where}: {f'{field}: ' if field else ''}{what[:1].lower()}{what[1:]}", reason) from None


def check_dataclass(values: Any, schema: type, where: str) -> Any:
    """`check_type` for a dataclass, whose fields alone `values` may have."""
    values = check_type(values, dict[str, Any], where)
    if unknown := sorted(values.keys() - {field.name for field in dataclasses.fields(schema)}):
        raise InputError(f"{where} has an unknown field {unknown[0]!r}")
    return check_type(values, schema, where)


def _half_a_pair(where: str) -> JsonError:
    what = "half of a surrogate pair"
    return JsonError(f"{where} holds {what} (\\ud800 … \\udfff), which is no character", what)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(n for n in names if names.count(n) > 1)!r} is there twice")
    return found


def _no_constant(name: str):
    raise ValueError(f"{name} is not a number of JSON")


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"the number {text[:40]} is too large")
    return value


def _integer(text: str) -> int:
    if len(text) > 20 and text != NO_LIMIT:
        raise ValueError(f"the number {text[:20]}… is too large")
    return int(text)


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level := [
        child for v in level if isinstance(v, dict | list) for child in (v.values() if isinstance(v, dict) else v)
    ]:
        depth += 1
        if depth > MAX_DEPTH:
            raise RecursionError
