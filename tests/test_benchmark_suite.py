"""`launch.benchmark all`: a list of measurements; none takes the others down, and none is made twice."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import time

import pytest

from launch import cli
from launch.benchmark import parser_of_all
from safety_align.benchmarks.suite import commands, suite
from safety_align.errors import InputError

PRODUCTS = "products --width=16 --channels=8 --weights=2 --rounds=1"


@pytest.mark.parametrize("config", ["gpu", "rehearsal"])
def test_every_part_of_a_config_is_a_command(config):
    parts = cli.load_config(f"configs/benchmark/{config}.py").parts.to_dict()
    made = commands(parts)
    whats = {parser_of_all().parse_args(words).what for _, words in made.values()}
    assert {"decode", "train", "signal", "gcg", "throughput", "latency", "pipeline", "packing", "startup"} == whats


def test_a_part_that_fails_takes_no_other_down_and_none_is_measured_twice(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    parts = {"broken": "decode --size=vast", "whole": f"SOME=thing {PRODUCTS}"}
    names = []
    found = suite(parts, tmp_path, 5.0, names.append)
    assert names == list(parts) == list(found)
    assert "vast" in found["broken"]["error"] and found["whole"]["found"]["float32_ms"]["1"] > 0
    assert json.loads((tmp_path / "results.json").read_text())["parts"] == found
    assert "vast" in (tmp_path / "broken.log").read_text()
    over = suite(parts | {"late": PRODUCTS}, tmp_path, 0.0)
    assert over["whole"] == found["whole"] and "not begun" in over["late"]["error"]
    assert suite({"late": PRODUCTS}, tmp_path, 0.0).keys() == {"late"}
    assert json.loads((tmp_path / "results.json").read_text())["parts"]["whole"] == found["whole"]  # not lost
    with pytest.raises(InputError, match="whole of another command"):
        suite({"whole": PRODUCTS}, tmp_path, 0.0)
    (tmp_path / "results.json").write_text('{"models": {}}')
    with pytest.raises(InputError, match="something else"):
        suite(parts, tmp_path, 0.0)


def test_a_part_that_is_stopped_leaves_nothing_running(tmp_path, monkeypatch):
    """In place of a measurement, a script that starts a process of its own and waits for it."""
    script = tmp_path / "measure"
    script.write_text("#!/bin/sh\nsleep 600 &\ntouch $MARK/begun\nwait\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    found = suite({"endless": f"MARK={tmp_path} {PRODUCTS}"}, tmp_path, 0.1)
    assert "time is over" in found["endless"]["error"] and (tmp_path / "begun").exists()
    until = time.monotonic() + 30  # it is killed, and gone when the kernel gets to it
    while marked(tmp_path) and time.monotonic() < until:
        time.sleep(0.05)
    assert not marked(tmp_path)


def marked(mark: pathlib.Path) -> list[bytes]:
    """Command lines of the processes that have MARK in their environment."""
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone meanwhile
            if f"MARK={mark}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_bytes())
    return [line for line in found if line]


@pytest.mark.parametrize(
    "text, named",
    [("all --config=x", "names no measurement"), ("A=1", "names no"), (3, "command"), ("decode 'x", "quotation")],
)
def test_what_is_no_part_is_named(text, named):
    with pytest.raises(InputError, match=rf"config\.parts\.odd.*{named}"):
        commands({"odd": text})


@pytest.mark.slow
def test_the_rehearsal_of_the_gpu_list(tmp_path):
    """Every part at the smallest size, on a CPU."""
    command = [sys.executable, "-m", "launch.benchmark", "all", "--config=configs/benchmark/rehearsal.py"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [*command, f"--output={tmp_path}"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    parts = json.loads((tmp_path / "results.json").read_text())["parts"]
    assert len(parts) == 10 and all("cpu" in part["found"]["device"] for part in parts.values())
    found = {name: part["found"] for name, part in parts.items()}
    assert found["gcg"]["steps_per_s"]["plain"] > 0 and found["decode_tiny_2"]["torch_over_ours"] > 0
    assert {"tokens_per_s", "ratio_safety", "batch", "parameters", "mfu", "torch_over_ours"} <= found["train"].keys()
    assert len(found["latency"]["first_token_p99_ms"]) == 16 and min(found["latency"]["tokens_per_s"].values()) > 0
    assert all(found["throughput"][name].keys() == {"0%", "50%", "90%"} for name in ("tokens_per_s", "ratio"))
