"""`launch.benchmark startup`: seconds from the command to the end of a training's first step, in processes of their own."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from launch import cli
from safety_align.errors import InputError

TIMEOUT_S = 600


def add_arguments(parser) -> None:
    """The command's options."""
    parser.add_argument("--config", default="configs/embedded_base.py", metavar="FILE", help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def main(arguments, overrides: list[str]) -> int:
    """Starts the training twice, first with an empty compilation cache; prepared data stay prepared."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        found = {
            name: _first_step(arguments.config, overrides, folder / name, folder / "compiled")
            for name in ("cold_s", "compiled_s")
        }
    if arguments.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:18} {value:,.1f}")
    return cli.EXIT_OK


def _first_step(config: str, overrides: list[str], workdir: pathlib.Path, cache: pathlib.Path) -> float:
    command = [sys.executable, "-m", "launch.train", f"--config={config}", f"--workdir={workdir}", *overrides]
    command += ["--config.steps=3", "--config.log_every=1"]
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
