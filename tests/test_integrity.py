"""Seals: a checkpoint counts only if just the files that are there were written, to the bit."""

import json
import os
import re

import pytest

from safety_align.training import integrity


@pytest.fixture
def sealed(tmp_path):
    """A folder with two files, sealed by two processes."""
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "a").write_bytes(b"weights")
    (tmp_path / "_METADATA").write_bytes(b"{}")
    for process in range(2):
        integrity.seal(tmp_path, process, 2)
    return tmp_path


def damage(folder) -> list[str | None]:
    return [integrity.damage(folder, process, 2) for process in range(2)]


def rewrite(folder, process: int, **changes) -> None:
    path = folder / f"checksums.{process}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_was_written_is_whole_for_any_number_of_processes(sealed):
    assert damage(sealed) == [None, None]
    assert integrity.damage(sealed) is None and integrity.damage(sealed, 4, 5) is None
    (sealed / "checksums.0.json.99.part").write_text("of a process that was killed")
    assert damage(sealed) == [None, None]


def test_a_seal_of_nothing_vouches_for_nothing(tmp_path):
    integrity.seal(tmp_path)
    assert integrity.damage(tmp_path) == "its checksums list no file"
    (tmp_path / "data").write_bytes(b"x")
    integrity.seal(tmp_path)
    assert integrity.damage(tmp_path) is None
    assert integrity.damage(tmp_path, below=("params/",)) == "its checksums list no file of params/"


@pytest.mark.parametrize(
    "harm, named",
    [
        (lambda f: (f / "extra").write_bytes(b""), "extra is not in its checksums"),
        (lambda f: (f / "_METADATA").unlink(), "_METADATA is missing"),
        (lambda f: os.replace(f / "params" / "a", f / "params" / "b"), "params/a is missing"),
        (lambda f: (f / "checksums.1.json").unlink(), "not sealed"),
        (lambda f: os.replace(f / "checksums.1.json", f / "checksums.7.json"), "not sealed"),
        (lambda f: rewrite(f, 0, processes=1), "not sealed"),
        (lambda f: rewrite(f, 0, processes="2"), "processes: expected `int`"),
        (lambda f: rewrite(f, 0, processes=2.0), "processes: expected `int`"),
        (lambda f: rewrite(f, 0, files=[]), "files: expected `object`"),
        (lambda f: rewrite(f, 0, files={}), "not in its checksums"),
        (lambda f: rewrite(f, 0, files={"../a": [1, 2]}), r"\.\./a is missing"),
        (lambda f: (f / "checksums.0.json").write_text("[" * 9999), "nested too deeply"),
        (lambda f: (f / "checksums.0.json").write_bytes(b"\xff"), "not UTF-8"),
        (lambda f: (f / "params" / "a").write_bytes(b"Weights"), "params/a is not what was written"),
    ],
)
def test_everything_else_is_damage(sealed, harm, named):
    harm(sealed)
    found = [text for text in damage(sealed) if text]
    assert found and all(re.search(named, text) for text in found)


def test_a_pipe_among_the_files_is_not_opened(sealed):
    (sealed / "params" / "a").unlink()
    os.mkfifo(sealed / "params" / "a")
    assert damage(sealed) == ["params/a is missing"] * 2
