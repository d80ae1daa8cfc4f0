"""Behaviour files and CSV: read as they are meant, or one line that names file, line and column."""

import gzip
import json
import os
import pathlib
import re

import pytest

from safety_align.attacks.behaviors import load_behaviors
from safety_align.data.rows import read_csv
from safety_align.errors import InputError

CASES = pathlib.Path(__file__).parents[2] / "shared" / "cases" / "16_csv"

PLAIN = 'goal,target\r\n"Do ""X"",\nnow","Sür\u2028e"\n\nDo Y,Sure\n'
ROWS = [{"goal": 'Do "X",\nnow', "target": "Sür\u2028e"}, {"goal": "Do Y", "target": "Sure"}]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("packed", [False, True])
def test_every_encoding_with_a_mark_is_read(tmp_path, encoding, packed):
    path = tmp_path / ("a.csv.gz" if packed else "a.csv")
    raw = PLAIN.encode(encoding)
    path.write_bytes(gzip.compress(raw) if packed else raw)
    assert read_csv(path, ("goal", "target")) == ROWS


@pytest.mark.parametrize(
    "raw, named",
    [
        (b"", "no column 'goal'"),
        (b"goal,target\n", "no rows"),
        (b"Index,Goal,Target\n0,Do X,Sure\n", "no column 'goal'.*'Index', 'Goal', 'Target'"),
        (b"goal;target\nDo X;Sure\n", "no column 'goal'.*'goal;target'"),
        (b"goal,target,goal\na,b,c\n", "two columns of one name"),
        (b"goal,target\nDo X,Sure\nDo \xe9,Sure\n", "line 3 is not UTF-8 .byte 0xe9"),
        ("goal,target\nDo X,Sure\n".encode("utf-16-le"), "NUL"),
        ("goal,target\nDo X,Sure\n".encode("utf-16")[:-1], "not UTF-16"),
        (b"goal,target\nDo X,Su\0re\n", "line 2 holds a NUL"),
        (b"goal,target\nDo X\n", "line 2: 1 fields under 2 columns"),
        (b"goal,target\nDo X,Sure,here\n", "line 2: 3 fields under 2 columns"),
        (b'goal,target\n"Do X,Sure\n', "line 2 is not CSV"),
        (b'goal,target\n"Do X" now,Sure\n', "line 2 is not CSV"),
        (b"goal,target\n" + b"x" * 200_000 + b",Sure\n", "line 2 is not CSV: field larger"),
        (b"goal,target\n \t,Sure\n", "line 2: the column 'goal' is blank"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, raw, named):
    path = tmp_path / "eval" / "advbench.csv"
    path.parent.mkdir()
    path.write_bytes(raw)
    with pytest.raises(InputError, match=re.escape(str(path)) + ".*" + named) as caught:
        load_behaviors("advbench", str(tmp_path), 3)
    assert "\n" not in str(caught.value)


def test_truncated_and_endless_files_are_named(tmp_path):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(PLAIN.encode() * 99)[:-9])
    with pytest.raises(InputError, match="truncated or not gzip"):
        read_csv(path, ())
    path.write_bytes(gzip.compress(b"goal\n" + b"x\n" * 10**6))
    with pytest.raises(InputError, match="more than 1 MiB"):
        read_csv(path, (), most=1 << 20)
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match="a pipe"):
        read_csv(pipe, ())


NESTED = {"topic": "t", "plain_attack": "a", "inception_attack": "i"}
SUFFIXED = {"source_model": "m", "goal": "g", "target": "t", "suffix": "!"}


@pytest.mark.parametrize(
    "name, file, good, bad, named",
    [
        ("deepinception", "deepinception.json", [NESTED], [NESTED, {"topic": "t"}], r"\[1\].*plain_attack"),
        ("deepinception", "deepinception.json", [NESTED], {"a": NESTED}, "array"),
        ("deepinception", "deepinception.json", [NESTED], [NESTED | {"plain_attack": " "}], "plain_attack"),
        ("deepinception", "deepinception.json", [NESTED], [], "empty"),
        ("malicious_instruct", "malicious_instruct.txt", "Do X\n\nDo Y\n", "Do X\nDo \xe9".encode("latin-1"), "line 2"),
        ("malicious_instruct", "malicious_instruct.txt", "\ufeffDo X\n", "\n \n", "no lines"),
    ],
)
def test_other_behaviour_files(tmp_path, name, file, good, bad, named):
    path = tmp_path / "eval" / file
    path.parent.mkdir()

    def write(value):
        text = value if isinstance(value, str | bytes) else json.dumps(value)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())

    write(good)
    assert load_behaviors(name, str(tmp_path), 9)[0].goal in ("a", "Do X")
    write(bad)
    with pytest.raises(InputError, match=named):
        load_behaviors(name, str(tmp_path), 9)


def test_suffixes_and_harmbench(tmp_path):
    folder = tmp_path / "eval"
    folder.mkdir()

    def suffixes(*rows):
        (folder / "gcg_suffixes.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
        return load_behaviors("gcg", str(tmp_path), 9)

    assert suffixes(SUFFIXED)[0].prompt == "g !"
    with pytest.raises(InputError, match="line 2.*target"):
        suffixes(SUFFIXED, {"goal": "g", "source_model": "m", "suffix": "!"})
    (folder / "harmbench_behaviors.csv").write_text(
        "Behavior,SemanticCategory,ContextString,BehaviorID\nDo X,c,seen,x\n"
    )
    (folder / "harmbench_targets.json").write_text('{"x": "Sure"}')
    (behavior,) = load_behaviors("harmbench", str(tmp_path), 9)
    assert (behavior.goal, behavior.target) == ("seen\n\nDo X", "Sure")
    with pytest.raises(InputError, match="FunctionalCategory"):
        load_behaviors("harmbench_standard", str(tmp_path), 9)
    (folder / "harmbench_behaviors.csv").write_text(
        "Behavior,FunctionalCategory,SemanticCategory,ContextString,BehaviorID\nDo X,standard,c,,x\nSing Y,copyright,d,,y\n"
    )
    for part, goals in (("standard", ["Do X"]), ("copyright", ["Sing Y"])):
        assert [b.goal for b in load_behaviors(f"harmbench_{part}", str(tmp_path), 9)] == goals
    with pytest.raises(InputError, match="harmbench_contextual.*empty"):
        load_behaviors("harmbench_contextual", str(tmp_path), 9)
    for text, named in (('{"x": 3}', "expected `str`"), ('{"x": "a", "x": "b"}', "twice"), ("[]", "object")):
        (folder / "harmbench_targets.json").write_text(text)
        with pytest.raises(InputError, match="harmbench_targets.json.*" + named):
            load_behaviors("harmbench", str(tmp_path), 9)


@pytest.mark.skipif(not CASES.is_dir(), reason="the reported files are not beside this checkout")
def test_reported_files():
    assert [b.goal for b in load_behaviors("advbench", str(CASES / "bom"), 3)] == ["Do X"]
    with pytest.raises(InputError, match="advbench.csv has no column 'goal'"):
        load_behaviors("advbench", str(CASES / "other_columns"), 3)
