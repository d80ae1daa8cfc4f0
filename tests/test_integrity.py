"""Seals: a checkpoint counts only if just the files that are there were written, to the bit."""

import errno
import json
import os
import re

import pytest

from safety_align.errors import InputError
from safety_align.training import integrity
from safety_align.training.checkpoint import Checkpoints


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


def test_what_file_systems_and_file_managers_leave_is_no_damage(sealed):
    (sealed / ".nfs0001").write_bytes(b"")
    (sealed / "params" / ".DS_Store").write_bytes(b"x")
    assert damage(sealed) == [None, None]
    (sealed / ".listed").write_bytes(b"x")
    for process in range(2):
        integrity.seal(sealed, process, 2)
    assert damage(sealed) == [None, None]
    (sealed / ".listed").write_bytes(b"y")
    assert integrity.damage(sealed) == ".listed is not what was written"


def stale(*_):
    raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), "params/a")


@pytest.mark.parametrize("where", ["zlib.crc32", "os.scandir", "pathlib.Path.read_bytes"])
def test_a_file_that_cannot_be_read_is_not_damage(sealed, monkeypatch, where):
    monkeypatch.setattr(where, stale)
    with pytest.raises(OSError, match="[Ss]tale"):
        damage(sealed)


def run_of(tmp_path, *steps: int):
    """A run's directory with sealed checkpoints."""
    for step in steps:
        (folder := tmp_path / "checkpoints" / str(step)).mkdir(parents=True)
        (folder / "params").write_bytes(b"weights")
        integrity.seal(folder)
    return tmp_path


def steps_of(workdir, name: str = "checkpoints") -> list[str]:
    return sorted(path.name for path in (workdir / name).glob("*"))


def test_a_run_without_a_whole_checkpoint_does_not_begin_anew(tmp_path):
    workdir = run_of(tmp_path, 2, 4)
    (workdir / "checkpoints" / "2" / "params").write_bytes(b"Weights")
    (workdir / "checkpoints" / "4" / "checksums.0.json").unlink()
    for _ in range(2):  # nor at the second try
        with pytest.raises(
            InputError, match="no checkpoint in .* is whole .*not sealed.*; put a good one back, or delete"
        ):
            Checkpoints(workdir)
        assert steps_of(workdir) == ["2", "4"] and not (workdir / "damaged").exists()


def test_a_run_whose_first_checkpoint_was_cut_off_begins_anew(tmp_path):
    workdir = run_of(tmp_path, 2)
    (workdir / "checkpoints" / "2" / "checksums.0.json").unlink()
    checkpoints = Checkpoints(workdir)
    checkpoints.close()
    assert checkpoints.latest is None and steps_of(workdir, "damaged") == ["2"]


def test_a_checkpoint_that_cannot_be_read_stays_where_it_is(tmp_path, monkeypatch):
    workdir = run_of(tmp_path, 2, 4)
    monkeypatch.setattr("zlib.crc32", stale)
    with pytest.raises(InputError, match="checkpoints/4 cannot be read .*it may be whole: try again"):
        Checkpoints(workdir)
    assert steps_of(workdir) == ["2", "4"]
