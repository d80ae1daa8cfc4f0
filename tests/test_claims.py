"""Whose a place is: marks and locks; names that stay where they are; nothing of others is overwritten."""

import dataclasses
import errno
import json
import os
import pathlib
import subprocess
import sys

import pytest

from configs import embedded_gated
from safety_align import claims
from safety_align.claims import Owner, check_same, locked, locked_directory
from safety_align.errors import InputError
from safety_align.files import (
    check_name,
    check_new_directory,
    check_new_file,
    check_path,
    expanded,
    make_directory,
    new_directory,
)
from safety_align.interop.bundle import is_huggingface
from safety_align.interop.convert import detect
from safety_align.training.checkpoint import saved_steps
from safety_align.training.config import completed
from safety_align.training.from_dict import to_train_config


@pytest.mark.parametrize("name", ["gated", "sft_2", "Prüfung 3", "a.b-c", "7b"])
def test_names_that_are_fit_for_files(name):
    check_name(name, "--name")


@pytest.mark.parametrize("name", ["", " ", ".", "..", ".x", "../x", "a/b", "a\\b", "a\0", "a\nb", "a\x1b[2J", "\u202ea",
    "-o", "_x", "a|b", "x" * 101, "\ud800"])  # fmt: skip
def test_names_that_could_leave_their_directory_are_refused_in_one_line(name):
    with pytest.raises(InputError, match="--name") as caught:
        check_name(name, "--name")
    assert str(caught.value).isprintable()


def test_paths_are_without_control_characters():
    check_path(pathlib.Path("../runs/a b/.x"))
    for bad in ("a\nb", "a\0b", "x/\x1b[0m", "..", "/"):
        with pytest.raises(InputError, match="--output"):
            check_path(pathlib.Path(bad))


def test_an_output_is_a_file_of_its_own(tmp_path):
    source = tmp_path / "in"
    source.write_text("mine")
    check_new_file(tmp_path / "new", source)
    os.link(source, tmp_path / "hard")
    (tmp_path / "soft").symlink_to(source)
    (tmp_path / "nowhere").symlink_to(tmp_path / "absent")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "to_folder").symlink_to(tmp_path / "folder")
    cases = {
        "in": "same file", "folder/../in": "same file", "to_folder/../in": "same file", "hard": "same file",
        "soft": "is a link", "nowhere": "is a link", "pipe": "no regular file", "folder": "is a directory",
        "in/x": "Not a directory", "x" * 300: "too long",
    }  # fmt: skip
    for name, said in cases.items():
        with pytest.raises(InputError, match=said):
            check_new_file(tmp_path / name, source)
    with pytest.raises(InputError, match="no regular file"):
        check_new_file(pathlib.Path("/dev/null"))
    assert source.read_text() == "mine" and not (tmp_path / "absent").exists()


def test_a_path_that_leads_nowhere_is_named(tmp_path):
    (tmp_path / "7").mkdir()
    (tmp_path / "²").mkdir()  # a digit, but no number
    assert saved_steps(tmp_path) == [7] and saved_steps(tmp_path / "absent") == []
    long = tmp_path / ("x" * 300)
    for read in (saved_steps, is_huggingface, detect):
        with pytest.raises(InputError, match="name too long"):
            read(long)
    with pytest.raises(InputError, match=r"^cache_dir=~nobody-here/x: .*write the path out"):
        expanded("~nobody-here/x", "cache_dir")
    assert expanded("~/x", "cache_dir") == pathlib.Path.home() / "x"


def test_a_new_directory_is_made_where_nothing_is(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "nowhere").symlink_to(tmp_path / "absent")
    for name, said in {
        "file": "exists", "folder": "exists", "nowhere": "exists", "file/x": "Not a directory", "x" * 300: "too long",
        "nowhere/x/y": "nowhere is no directory", "a\0b": "null",
    }.items():  # fmt: skip
        with pytest.raises(InputError, match=said):
            check_new_directory(tmp_path / name)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder", "nowhere"]


def test_a_new_directory_appears_whole_and_beside_nothing_of_others(tmp_path):
    target, other = tmp_path / "a" / "model", tmp_path / "a" / "model.partial"
    other.mkdir(parents=True)
    (other / "precious").write_text("mine")
    with pytest.raises(KeyboardInterrupt), new_directory(target) as beside:
        (beside / "x").write_text("half")
        raise KeyboardInterrupt
    assert list(target.parent.iterdir()) == [other]
    with pytest.raises(InputError, match="meanwhile"), new_directory(target) as late:
        (late / "x").write_text("late")
        with new_directory(target) as beside:
            assert beside != late and not target.exists()
            (beside / "x").write_text("first")
    assert sorted(target.parent.iterdir()) == [target, other] and (target / "x").read_text() == "first"
    assert (other / "precious").read_text() == "mine"


def test_what_differs_is_named_with_both_values():
    there, here = {"a": {"b": 1, "c": [1, 2]}, "n": 1}, {"a": {"b": 2, "c": (1, 2)}, "n": 5, "new": None}
    with pytest.raises(InputError, match=r"^it is taken \(a\.b: 1 there, 2 here\); go away$"):
        check_same(there, here, "it is taken", "go away", may_differ=("n",))
    check_same(there, here, "", "", may_differ=("n", "a.b"))
    with pytest.raises(InputError, match=r"a\.b: nothing there, 2 here"):
        check_same([1], here, "it is taken", "go away")


def test_a_run_older_than_some_fields_of_its_config_goes_on(tmp_path):
    values = embedded_gated.get_config()
    values.data.system_turns = values.data.other_roles = 0.0
    config = to_train_config(values.to_dict())
    identity = dataclasses.asdict(config)
    old = json.loads(json.dumps(identity))
    for name in ("system_turns", "other_roles", "passages", "passages_from"):
        del old["data"][name]
    for group, name in (("gate", "tau"), ("model", "rope_scaling")):
        del old[group][name]
    del old["mesh"], old["dpo"]
    mark = tmp_path / "config.json"

    def go_on(stored, config=config):
        mark.write_text(json.dumps(stored))
        identity = dataclasses.asdict(config)
        owner = Owner(identity, "taken", may_differ=("gate.tau",), completed=lambda there: completed(there, config))
        owner.claim(mark)

    go_on(old)
    assert json.loads(mark.read_text()) == json.loads(json.dumps(identity))  # and is of this version from now on
    other = dataclasses.replace(config, data=dataclasses.replace(config.data, system_turns=0.5))
    with pytest.raises(InputError, match=r"taken \(data.system_turns: 0.0 there, 0.5 here\)"):
        go_on(old, other)
    del old["model"]["layers"]  # has no default
    with pytest.raises(InputError, match="model.layers: nothing there"):
        go_on(old)
    with pytest.raises(InputError, match="taken"):
        go_on([1])


def test_a_mark_is_made_once_and_kept_from_others(tmp_path):
    mark = tmp_path / "new" / "about.json"
    for _ in range(2):
        Owner({"a": 1}, "taken", "advice").claim(mark)
    before = mark.read_bytes()
    with pytest.raises(InputError, match=r"taken \(a: 1 there, 2 here\); advice"):
        Owner({"a": 2}, "taken", "advice").claim(mark)
    assert mark.read_bytes() == before
    mark.write_text("my notes")
    with pytest.raises(InputError, match="not JSON.*; advice"):
        Owner({"a": 1}, "taken", "advice").claim(mark)
    assert mark.read_text() == "my notes"
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="a file is in its place"):
        Owner({}, "taken").claim(tmp_path / "file" / "about.json")


def test_a_lock_keeps_others_out_and_leaves_nothing_behind(tmp_path):
    for place, lock in ((tmp_path / "out.jsonl", "out.jsonl.lock"), (tmp_path / "run", "run/.lock")):
        if lock.startswith("run"):
            place.mkdir()
        with locked(place):
            with pytest.raises(InputError, match=rf"in use by another run \(process {os.getpid()} on"), locked(place):
                raise AssertionError("two at once")
            assert (tmp_path / lock).exists()  # the one who came second has not removed it
        assert not (tmp_path / lock).exists()
        with locked(place):
            pass


def test_a_lock_goes_with_its_process_however_that_ends(tmp_path):
    code = """import sys, pathlib; from safety_align.claims import locked
with locked(pathlib.Path(sys.argv[1])): print(1, flush=True); input()"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout.readline() == b"1\n"
        with pytest.raises(InputError, match=f"process {child.pid} on"), locked_directory(tmp_path):
            pass
    finally:
        child.kill()
        child.wait()
    assert (tmp_path / ".lock").exists()
    with locked_directory(tmp_path):
        pass
    assert not (tmp_path / ".lock").exists()


def test_a_lock_that_was_deleted_is_not_in_the_way_and_takes_no_other_with_it(tmp_path):
    with locked(tmp_path):
        (tmp_path / ".lock").unlink()  # as the message says, where the machine is gone
        with locked(tmp_path):
            pass
        (tmp_path / ".lock").write_text("process 1 on another machine\n")
    assert (tmp_path / ".lock").exists()


def test_a_lock_is_never_another_file(tmp_path):
    notes = tmp_path / "out.lock"
    notes.write_text("my notes")
    with pytest.raises(InputError, match="not a lock of ours"), locked(tmp_path / "out"):
        pass
    assert notes.read_text() == "my notes"
    (tmp_path / "b.lock").symlink_to(tmp_path / "target")
    os.mkfifo(tmp_path / "c.lock")
    for name in ("b", "c"):
        with pytest.raises(InputError, match=rf"{name}\.lock"), locked(tmp_path / name):
            pass
    assert not (tmp_path / "target").exists()


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch, capsys):
    def refuse(handle, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(claims.fcntl, "flock", refuse)
    with locked(tmp_path):
        assert "no locks at" in capsys.readouterr().err
    assert not (tmp_path / ".lock").exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    def full(path, text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(claims, "write_atomically", full)
    with pytest.raises(InputError, match="about.json cannot be written: No space left on device; make room"):
        Owner({}, "taken").claim(tmp_path / "about.json")
    with pytest.raises(InputError, match="cannot be (written|a directory)"):
        make_directory(pathlib.Path("/proc/nothing/here"))
