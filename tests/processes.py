"""Real runs in processes of their own, for tests of several processes and of faults."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TINY_RUN = [
    "--config=configs/embedded_gated.py", "--config.model.preset=tiny", "--config.model.vocab_size=400",
    "--config.init_from=", "--config.data.sequence_length=192", "--config.tokenizer_texts=200", "--config.data.batch_size=8",
    "--config.data.validation_examples=24", "--config.log_every=1", "--config.eval_every=100",
]  # fmt: skip
TIMEOUT = 240
CHILD = str(ROOT / "tests" / "child.py")
"""Runs a module or a script; quicker to start than by itself."""


def start(workdir: pathlib.Path, *changes: str, **options) -> list:
    """Starts `launch.train` on a tiny model; options as for `start_command`."""
    return start_command(workdir, "-m", "launch.train", f"--workdir={workdir}", *TINY_RUN, *changes, **options)


def start_command(name: pathlib.Path, *command: str, processes: int = 1, devices: int = 1, **options) -> list:
    """Starts `-m MODULE …`, a script or `-c CODE …` as `processes` processes of `devices` fake devices each; logs go beside `name`."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{one.getsockname()[1]}"
    environment = dict(
        os.environ, JAX_PLATFORMS="cpu", XLA_FLAGS=f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}",
        JAX_COMPILATION_CACHE_DIR=os.environ.get("JAX_COMPILATION_CACHE_DIR", str(name.parent / "compiled")),
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
    )  # fmt: skip
    started, child = [], [] if command[0] == "-c" else [CHILD]
    for index in range(processes):
        spec = [f"--distributed={address},{processes},{index}"] if processes > 1 else []
        log = open(name.parent / f"{name.name}.{index}.log", "ab")
        arguments = [sys.executable, *child, *command[command[0] == "-m" :], *spec]
        started.append(subprocess.Popen(arguments, stdout=log, stderr=log, cwd=ROOT, env=environment, **options))
    return started


def finish(started: list, timeout: float = TIMEOUT) -> list[int]:
    """Exit codes; TimeoutExpired, after killing them, if they hang."""
    end = time.monotonic() + timeout
    try:
        return [process.wait(max(end - time.monotonic(), 1)) for process in started]
    finally:
        for process in started:
            process.kill()


def run(workdir: pathlib.Path, *changes: str, **options) -> list[int]:
    """`start`, then `finish`."""
    return finish(start(workdir, *changes, **options))


def log(workdir: pathlib.Path, index: int = 0) -> str:
    """What process `index` has printed so far."""
    return (workdir.parent / f"{workdir.name}.{index}.log").read_text()


def losses(workdir: pathlib.Path) -> dict[int, float]:
    """Loss by step, of all complete lines."""
    path = workdir / "metrics.jsonl"
    found = {}
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if "loss" in row:
            assert row["step"] not in found, "a step was written twice"
            found[row["step"]] = row["loss"]
    return found


def wait_for_step(workdir: pathlib.Path, step: int, started: list) -> None:
    """Returns once the run has written the metrics of `step`."""
    end = time.monotonic() + TIMEOUT
    while step not in losses(workdir):
        assert time.monotonic() < end, "the run makes no steps"
        assert all(process.poll() is None for process in started), log(workdir)[-2000:]
        time.sleep(0.02)
