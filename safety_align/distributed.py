"""Several processes that run one program: a TPU pod, a GKE job, a Slurm job, or bare processes."""

import contextlib
import re

import jax
import numpy as np
from jax.experimental import multihost_utils

from safety_align.errors import InputError

HEARTBEAT_S = 30
"""After this many seconds without a sign of life of one process, the others end with an error."""

_SPEC = re.compile(r"(?P<coordinator>[^,]+:\d+),(?P<processes>\d+),(?P<index>\d+)")


def start(spec: str | None) -> None:
    """Joins the other processes; must come before jax is used.

    spec: None for one process; "auto" where jax finds the others itself (Cloud TPU, GKE, Slurm, MPI); or
    "HOST:PORT,PROCESSES,INDEX" with the address of process 0. Raises InputError if they cannot be reached.
    """
    if spec is None:
        return
    options = {}
    if spec != "auto":
        match = _SPEC.fullmatch(spec)
        if not match or not int(match["index"]) < int(match["processes"]):
            raise InputError(
                f"--distributed={spec}: expected auto, or HOST:PORT,PROCESSES,INDEX with INDEX below PROCESSES"
            )
        options = dict(
            coordinator_address=match["coordinator"],
            num_processes=int(match["processes"]),
            process_id=int(match["index"]),
            cluster_detection_method="deactivate",
        )
    try:
        jax.distributed.initialize(heartbeat_timeout_seconds=HEARTBEAT_S, **options)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"--distributed={spec}: {str(error).strip().splitlines()[0][:300]}") from error


def is_main() -> bool:
    """Whether this process is the one that writes and speaks for all."""
    return jax.process_index() == 0


def all_agree(value: bool) -> bool:
    """Whether `value` is true in every process."""
    if jax.process_count() == 1:
        return value
    return bool(np.all(multihost_utils.process_allgather(np.array(value))))


def sync(name: str) -> None:
    """Returns once every process has come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


@contextlib.contextmanager
def main_first(name: str):
    """The body runs in process 0, then in all others, which find what it has written."""
    if not is_main():
        sync(name)
    yield
    if is_main():
        sync(name)


def stop_requested(step: int) -> bool:
    """Whether the scheduler has asked any process to stop (SIGTERM), told to all of them at the same `step`."""
    return jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(step)
