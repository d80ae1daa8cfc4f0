"""`launch.benchmark all`: a list of measurements, each in a process of its own, none of which can take the others down."""

import json
import os
import pathlib
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

from safety_align.errors import InputError
from safety_align.evaluation.report import strict_json
from safety_align.files import write_atomically
from safety_align.strict_json import read_json

RESULTS = "results.json"


def commands(parts: Mapping[str, str]) -> dict[str, tuple[dict[str, str], list[str]]]:
    """{name: (environment, arguments)} of `parts`, {name: "NAME=VALUE … decode --size=…"}; arguments are launch.benchmark's."""
    made = {}
    for name, text in parts.items():
        if not isinstance(text, str):
            raise InputError(f"config.parts.{name} must be a command, such as 'decode --size=base', got {text!r}")
        words, environment = shlex.split(text), {}
        while words and "=" in words[0] and not words[0].startswith("-"):
            key, _, value = words.pop(0).partition("=")
            environment[key] = value
        if not words or words[0] == "all":
            raise InputError(f"config.parts.{name} names no measurement: {text!r}")
        made[name] = environment, words
    return made


def suite(
    parts: Mapping[str, str], output: pathlib.Path, minutes: float, begin: Callable[[str], None] = lambda name: None
) -> dict[str, dict]:
    """{name: {"command", "seconds", "found" or "error"}} of every part, in order, also in `output`/results.json after each.

    What that file has already found is not measured again. No part begins after `minutes`, and one that runs then is stopped.
    `begin` is called with the name of each.
    """
    ends = time.monotonic() + 60 * minutes
    made, file = commands(parts), output / RESULTS
    before = read_json(file)["parts"] if file.exists() else {}
    found = {
        name: before[name]
        for name in parts
        if "found" in before.get(name, ()) and before[name]["command"] == parts[name]
    }
    for name, (environment, arguments) in made.items():
        begin(name)
        if name in found:
            continue
        left = ends - time.monotonic()
        found[name] = {"command": parts[name]} | (
            _measured(environment, arguments, left)
            if left > 0
            else {"error": f"not begun: {minutes:g} minutes are over"}
        )
        write_atomically(file, strict_json({"parts": {name: found[name] for name in parts if name in found}}) + "\n")
    return {name: found[name] for name in parts}


def _measured(environment: dict[str, str], arguments: list[str], seconds: float) -> dict:
    began = time.monotonic()
    # torch shares the accelerator: jax takes of its memory as it goes.
    around = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} | os.environ | environment
    command = [sys.executable, "-m", "launch.benchmark", *arguments, "--json"]
    try:
        done = subprocess.run(command, env=around, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return {"seconds": time.monotonic() - began, "error": "stopped: the time is over"}
    took = {"seconds": time.monotonic() - began}
    if done.returncode:
        return took | {"error": "".join(done.stderr.strip().splitlines()[-1:]) or f"exit code {done.returncode}"}
    return took | {"found": json.loads(done.stdout.splitlines()[-1])}
