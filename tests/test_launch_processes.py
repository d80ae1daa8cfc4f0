"""launch.processes: what it starts, whose exit code it has, stops and kills; the children are small shell programs."""

import argparse
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from launch.processes import commands
from safety_align.errors import InputError

TRAIN = ["python", "-m", "launch.train", "--config=a b"]


def arguments(**changes) -> argparse.Namespace:
    return argparse.Namespace(**dict(local=None, hosts=None, port=None) | changes)


def test_local_processes_share_a_free_port_and_know_their_number():
    started = commands(arguments(local=3), TRAIN)
    address = started[0][-1].removeprefix("--distributed=").split(",")[0]
    assert address.startswith("127.0.0.1:") and int(address.split(":")[1]) > 0
    assert started == [[*TRAIN, f"--distributed={address},3,{i}"] for i in range(3)]
    assert commands(arguments(local=1, port=7), TRAIN) == [[*TRAIN, "--distributed=127.0.0.1:7,1,0"]]


def test_hosts_start_over_ssh_in_this_directory_and_the_first_coordinates(tmp_path, monkeypatch):
    (tmp_path / "two words").mkdir()
    monkeypatch.chdir(tmp_path / "two words")
    started = commands(arguments(hosts="me@a,b"), TRAIN)
    remote = "python -m launch.train '--config=a b'"
    assert started == [
        ["ssh", "-tt", host, f"cd '{tmp_path}/two words' && exec {remote} --distributed=a:8476,2,{i}"]
        for i, host in enumerate(("me@a", "b"))
    ]
    assert "--distributed=a:99,2,1" in commands(arguments(hosts="a,b", port=99), TRAIN)[1][-1]


@pytest.mark.parametrize("changes", [{}, {"local": 2, "hosts": "a"}, {"local": 0}, {"local": -1}, {"hosts": ","}])
def test_what_cannot_be_started_is_refused(changes):
    with pytest.raises(InputError, match="--local"):
        commands(arguments(**changes), TRAIN)


@pytest.mark.parametrize(
    "host", ["-oProxyCommand=touch x", "a,-D9", "me@-x", "a b", "a;b", "a\n", "$(x)", "@a", "a@b@c"]
)
def test_hosts_are_no_options_or_commands(host):
    with pytest.raises(InputError, match="--hosts"):
        commands(arguments(hosts=host), TRAIN)


def test_no_command_is_refused():
    with pytest.raises(InputError, match="after --"):
        commands(arguments(local=1), [])


def start(*options: str, script: str) -> subprocess.Popen:
    """launch.processes with a shell script as the command; the script's $0 is its --distributed argument."""
    command = [sys.executable, "-u", "-m", "launch.processes", *options, "--", "sh", "-c", script]
    root = pathlib.Path(__file__).resolve().parent.parent
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root)


def finish(started: subprocess.Popen) -> tuple[int, str]:
    try:
        out, _ = started.communicate(timeout=30)
    finally:
        started.kill()
    return started.returncode, out


def test_a_dry_run_starts_nothing(tmp_path):
    started = start("--local=2", "--dry-run", script=f"touch {tmp_path}/started")
    _, shown = started.communicate(timeout=30)
    assert started.returncode == 0 and shown.count("+ sh -c") == 2 and not list(tmp_path.iterdir())


def test_output_carries_the_number_of_the_process():
    code, out = finish(start("--local=2", script='echo "this is $0"; echo oh >&2'))
    assert code == 0 and sorted(line[:4] for line in out.splitlines()) == ["[0] ", "[0] ", "[1] ", "[1] "]
    assert "[0] this is --distributed=127.0.0.1:" in out and ",2,1\n" in out


@pytest.mark.parametrize(
    "script, code",
    [
        ('case $0 in *,1) exit 3 ;; *) sleep 1; exit 4 ;; esac', 3),
        ('case $0 in *,0) exit 5 ;; *) sleep 1; exit 4 ;; esac', 5),
        ('case $0 in *,2) sleep 0.5; kill -9 $$ ;; *) exit 0 ;; esac', 128 + signal.SIGKILL),
        ("exit 0", 0),
    ],
)  # fmt: skip
def test_the_exit_code_is_the_first_failure(script, code):
    assert finish(start("--local=3", script=script))[0] == code


def test_what_outlives_a_failure_is_killed_after_the_grace_period(tmp_path):
    script = f"""case $0 in *,0) sleep 0.3; exit 6 ;; esac
        trap '' TERM; echo $$ >{tmp_path}/pid; while :; do sleep 0.05; done"""
    began = time.monotonic()
    assert finish(start("--local=2", "--grace=0.5", script=script))[0] == 6
    assert time.monotonic() - began < 20
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_all_processes_which_end_in_their_own_way(number):
    script = "trap 'echo saved; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    started = start("--local=2", script=script)
    lines = [started.stdout.readline() for _ in range(2)]
    assert sorted(lines) == ["[0] ready\n", "[1] ready\n"]
    started.send_signal(number)
    code, out = finish(started)
    assert code == 0 and "[0] saved" in out and "[1] saved" in out


def test_bad_input_is_one_line_and_exit_code_2():
    started = start("--locla=2", script="exit 0")
    _, errors = started.communicate(timeout=30)
    assert started.returncode == 2 and "--locla" in errors and len(errors.splitlines()) == 1
