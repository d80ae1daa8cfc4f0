"""`launch.benchmark load`: how long, and in how much memory, a checkpoint is read onto devices."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import jax
import ml_dtypes
import numpy as np

from safety_align import sharding
from safety_align.errors import RunFailed
from safety_align.interop.huggingface import load_pretrained, planned_tensors
from safety_align.interop.tensor_file import write_file
from safety_align.model import TransformerConfig, preset
from safety_align.model.huggingface_config import family_of, write_config

MEASURE = (
    "import json, pathlib, sys; from safety_align.benchmarks.load import measure; "
    "print(json.dumps(measure(pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))"
)


def load(size: str, fsdp: int, tensor: int, progress: Callable[[int], object] | None = None) -> dict:
    """`measure` of a random checkpoint of the preset `size`, in a process of its own with `fsdp` x `tensor` fake devices;
    the second of two runs: the first may read from the disk. Raises RunFailed where the process fails."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={fsdp * tensor}"
    environment = dict(os.environ, XLA_FLAGS=flags, JAX_PLATFORMS="cpu")
    with tempfile.TemporaryDirectory() as folder:
        directory = pathlib.Path(folder) / "model"
        write_random(directory, preset(size, safety_signal=False))
        command = [sys.executable, "-c", MEASURE, str(directory), str(fsdp), str(tensor)]
        for _ in range(2):
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                last = done.stderr.strip().splitlines()[-1:]
                raise RunFailed(f"reading the checkpoint failed: {''.join(last)}")
            if progress:
                progress(1)
    return json.loads(done.stdout.splitlines()[-1])


def write_random(directory: pathlib.Path, config: TransformerConfig) -> int:
    """A bfloat16 checkpoint of random finite weights, one tensor in memory at a time; returns its bytes."""
    directory.mkdir()
    rng = np.random.default_rng(0)
    dtype = np.dtype(ml_dtypes.bfloat16)
    (directory / "config.json").write_text(json.dumps(write_config(config, family_of(config))))

    def make(shape):
        # Any 16 bits with the top exponent bit cleared: finite, and of no pattern that compresses.
        return lambda: (rng.integers(0, 1 << 16, shape, np.uint16) & np.uint16(0xBFFF)).view(dtype)

    shapes = planned_tensors(config)
    write_file(directory / "model.safetensors", [(name, shape, dtype, make(shape)) for name, shape in shapes.items()])
    return sum(2 * int(np.prod(shape)) for shape in shapes.values())


def measure(directory: pathlib.Path, fsdp: int, tensor: int) -> dict:
    """Loads `directory` onto a mesh in this process, which has done nothing else. bytes, seconds; peak counts resident
    memory beyond what the process had before."""
    mesh = sharding.make_mesh(data=1, fsdp=fsdp, tensor=tensor)
    jax.block_until_ready(jax.device_put(np.zeros(8), sharding.replicated(mesh)))
    files = sorted(directory.glob("*.safetensors"))
    started = time.perf_counter()
    for file in files:
        with file.open("rb", buffering=0) as stream:
            while stream.read(16 << 20):
                pass
    read = time.perf_counter() - started
    before = _resident("VmRSS")
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    started = time.perf_counter()
    params = jax.block_until_ready(load_pretrained(directory, mesh).params)
    seconds = time.perf_counter() - started
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    peak = _resident("VmHWM") - before
    return {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "parameter_bytes": size,
        "peak_bytes": peak,
        "peak_over_parameters": peak / size,
        "devices": mesh.size,
        "seconds": seconds,
        "read_seconds": read,
        "bytes_per_s": size / seconds,
        "read_bytes_per_s": size / read,
    }


def _resident(field: str) -> int:
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))
