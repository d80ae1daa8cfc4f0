"""`launch.benchmark all`: a list of measurements; none takes the others down, and none is made twice."""

import json
import os
import subprocess
import sys

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
    assert {"decode", "train", "signal", "gcg", "throughput", "pipeline", "packing", "startup"} == whats


def test_a_part_that_fails_takes_no_other_down_and_none_is_measured_twice(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    parts = {"broken": "decode --size=vast", "whole": f"SOME=thing {PRODUCTS}"}
    names = []
    found = suite(parts, tmp_path, 5.0, names.append)
    assert names == list(parts) == list(found)
    assert "vast" in found["broken"]["error"] and found["whole"]["found"]["float32_ms"]["1"] > 0
    assert json.loads((tmp_path / "results.json").read_text())["parts"] == found
    over = suite(parts | {"late": PRODUCTS}, tmp_path, 0.0)
    assert over["whole"] == found["whole"] and "not begun" in over["late"]["error"]
    changed = suite({"whole": PRODUCTS}, tmp_path, 0.0)  # another command: the old figure is not its own
    assert "found" not in changed["whole"]


@pytest.mark.parametrize(
    "text, named", [("all --config=x", "names no measurement"), ("A=1", "names no"), (3, "command")]
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
    assert len(parts) == 9 and all("cpu" in part["found"]["device"] for part in parts.values())
    found = {name: part["found"] for name, part in parts.items()}
    assert found["gcg"]["over_nanogcg"] > 0 and found["decode_tiny_2"]["torch_over_ours"] > 0
    assert {"tokens_per_s", "ratio_safety", "batch", "parameters", "mfu", "torch_over_ours"} <= found["train"].keys()
    assert all(found["throughput"][name].keys() == {"0%", "50%", "90%"} for name in ("tokens_per_s", "ratio"))
