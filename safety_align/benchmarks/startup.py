"""`launch.benchmark startup`: seconds from a training's command to the end of its first step, in processes of their own."""

import os
import pathlib
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence

from safety_align.errors import InputError

TIMEOUT_S = 600


def startup(command: Sequence[str], progress: Callable[[int], object] | None = None) -> dict[str, float]:
    """{"cold_s", "compiled_s"}: the command of a training (`launch.train` and its config) run twice for three steps, first
    with an empty compilation cache; prepared data stay prepared. Raises InputError where it fails."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for run in ("cold_s", "compiled_s"):
            found[run] = _first_step(command, folder / run, folder / "compiled")
            if progress:
                progress(1)
    return found


def _first_step(command: Sequence[str], workdir: pathlib.Path, cache: pathlib.Path) -> float:
    command = [*command, f"--workdir={workdir}", "--config.steps=3", "--config.log_every=1"]
    environment = dict(os.environ, JAX_COMPILATION_CACHE_DIR=str(cache), JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0")
    started = time.monotonic()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            while time.monotonic() - started < TIMEOUT_S:
                if _stepped(workdir / "metrics.jsonl"):
                    seconds = time.monotonic() - started
                    process.wait(TIMEOUT_S)  # so that what it compiled is kept
                    return seconds
                if process.poll():
                    log.seek(0)
                    last = log.read().decode(errors="replace").strip().splitlines()[-1:]
                    raise InputError(f"the training failed: {''.join(last)}")
                time.sleep(0.05)
        finally:
            process.kill()
    raise InputError(f"no step within {TIMEOUT_S} s")


def _stepped(metrics: pathlib.Path) -> bool:
    return metrics.is_file() and '"step": 1' in metrics.read_text("utf-8")
