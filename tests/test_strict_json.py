"""The reader of JSON from outside: what it refuses, and that everything else is what Python reads."""

import gzip
import json
import os
import pathlib
import re
from typing import TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safety_align.errors import InputError
from safety_align.strict_json import MAX_DEPTH, parse_json, read_json, read_json_lines

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)  # fmt: skip


@given(_VALUES)
def test_what_python_writes_is_read_back(value):
    for ascii_only in (True, False):
        assert parse_json(json.dumps(value, ensure_ascii=ascii_only), "it") == value
    assert parse_json(b"\xef\xbb\xbf" + json.dumps(value).encode(), "it") == value


@pytest.mark.parametrize(
    "text, why",
    [
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "'c' is there twice"),
        ("[NaN]", "NaN"),
        ("-Infinity", "-Infinity"),
        ("1e999", "too large"),
        ("9" * 30, "too large"),
        (r'{"a": "\ud800"}', "surrogate"),
        (r'{"\udfff": 1}', "surrogate"),
        ('"\ud83d"', "surrogate"),
        ("[" * 100_000, "nested too deeply"),
        ("[" * (MAX_DEPTH + 2) + "]" * (MAX_DEPTH + 2), "nested too deeply"),
        ('{"a":' * 200 + "1" + "}" * 200, "nested too deeply"),
        (b"\xff", "not UTF-8"),
        ("", "not JSON"),
        ("{'a': 1}", "not JSON"),
        ("1 2", "not JSON"),
    ],
)  # fmt: skip
def test_each_kind_of_bad_text_is_one_line_that_names_the_place(text, why):
    with pytest.raises(InputError, match=re.escape(why)) as caught:
        parse_json(text, "row 7 of x.jsonl")
    assert str(caught.value).startswith("row 7 of x.jsonl") and "\n" not in str(caught.value)


def test_a_pair_of_surrogates_is_a_character():
    assert parse_json(r'"\ud83d\ude00 \\ud800"', "it") == "\U0001f600 \\ud800"


def test_a_field_of_another_type_is_named():
    class Facts(TypedDict, total=False):
        theta: float
        inner: dict[str, int]

    assert parse_json('{"theta": 1, "else": []}', "f", Facts) == {"theta": 1.0}
    with pytest.raises(InputError, match="f: theta: expected `float`, got `str`"):
        parse_json('{"theta": "1"}', "f", Facts)
    with pytest.raises(InputError, match="f: .*expected `object`, got `array`"):
        parse_json("[]", "f", Facts)


def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path):
    loop, pipe = tmp_path / "loop", tmp_path / "pipe"
    loop.symlink_to(loop)
    os.mkfifo(pipe)
    for path in (tmp_path, tmp_path / "absent", loop, pipe, pathlib.Path("/dev/null"), pathlib.Path("a\0b")):
        with pytest.raises(InputError, match=re.escape(str(path))):
            read_json(path)
        with pytest.raises(InputError, match=re.escape(str(path))):
            list(read_json_lines(path))


def test_lines_are_numbered_as_they_stand_and_may_not_fill_the_memory(tmp_path):
    path = tmp_path / "rows.jsonl.gz"

    def read(raw: bytes, **longest):
        path.write_bytes(gzip.compress(raw))
        return list(read_json_lines(path, dict[str, int], **longest))

    assert read(b'\xef\xbb\xbf{"a": 1}\r\n\n  \n{"b": 2}') == [(1, {"a": 1}), (4, {"b": 2})]
    with pytest.raises(InputError, match="line 3: .*expected `int`"):
        read(b'{"a": 1}\n\n{"a": "1"}\n')
    with pytest.raises(InputError, match="line 2 is longer than"):
        read(b'{"a": 1}\n' + b" " * 10**6, longest=1000)
