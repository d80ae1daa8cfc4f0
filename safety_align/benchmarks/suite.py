"""`launch.benchmark all`: a list of measurements, each in a process of its own, none of which can take the others down."""

import contextlib
import json
import os
import pathlib
import re
import shlex
import signal
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
        try:
            words, environment = shlex.split(text), {}
        except ValueError as error:  # a quote that does not end
            raise InputError(f"config.parts.{name}: {error}: {text!r}") from error
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
    """{name: {"command", "seconds", "found" or "error"}} of every part, in order, also in `output`/results.json after each; what a part
    printed besides is in `output`/NAME.log.

    What that file has already found is not measured again. No part begins after `minutes`, and one that runs then is stopped.
    `begin` is called with the name of each. InputError where the file is of other commands.
    """
    ends = time.monotonic() + 60 * minutes
    made, file = commands(parts), output / RESULTS
    found = _before(file, parts) if file.exists() else {}
    for name, (environment, arguments) in made.items():
        begin(name)
        if "found" in found.get(name, ()):
            continue
        left = ends - time.monotonic()
        if left > 0:
            part = _measured(environment, arguments, left, output / f"{name}.log")
        else:
            part = {"error": f"not begun: {minutes:g} minutes are over"}
        found[name] = {"command": parts[name]} | part
        write_atomically(file, strict_json({"parts": found}) + "\n")
    return {name: found[name] for name in parts}


def _before(file: pathlib.Path, parts: Mapping[str, str]) -> dict[str, dict]:
    there = read_json(file)
    found = there.get("parts") if isinstance(there, dict) else None
    if not isinstance(found, dict) or not all(isinstance(part, dict) and "command" in part for part in found.values()):
        raise InputError(f"{file} holds something else; choose another --output")
    if other := [name for name, part in found.items() if parts.get(name, part["command"]) != part["command"]]:
        raise InputError(
            f"{file} has {other[0]} of another command ({found[other[0]]['command']}); choose another --output"
        )
    return found


def _measured(environment: dict[str, str], arguments: list[str], seconds: float, log: pathlib.Path) -> dict:
    began = time.monotonic()
    # torch shares the accelerator: jax takes of its memory as it goes.
    around = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} | os.environ | environment
    command = [sys.executable, "-m", "launch.benchmark", *arguments, "--json"]
    with log.open("w", encoding="utf-8") as errors:
        # A session of its own, so that what it has started goes with it.
        running = subprocess.Popen(
            command, env=around, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        )
        try:
            printed, _ = running.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            return {"seconds": time.monotonic() - began, "error": "stopped: the time is over"}
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
            running.wait()
    took = {"seconds": time.monotonic() - began}
    if not running.returncode:
        with contextlib.suppress(ValueError, IndexError):
            return took | {"found": json.loads(printed.splitlines()[-1])}
    return took | {"error": f"failed, see {log.name}{_reason(log)}"}


def _reason(log: pathlib.Path) -> str:
    """The last line of a log that names an error."""
    lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines()]
    return next((f": {line}" for line in reversed(lines) if re.match(r"(error|[\w.]*(Error|Exception))\b", line)), "")
