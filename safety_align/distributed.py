"""Several processes that run one program: a TPU pod, a GKE job, a Slurm job, or bare processes."""

import contextlib
import itertools
import json
import os
import re
import sys

import jax
import numpy as np
from jax.experimental import multihost_utils

from safety_align.errors import InputError
from safety_align.visible import visible

HEARTBEAT_S = 30
"""After this many seconds without a sign of life of one process, the others end with an error."""

CPU_THREADS = "16"
"""Threads of XLA's CPU backend, where there are several processes; more than there are collectives at once."""

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
    # On CPUs a collective holds a thread until all have come to it. With too few threads, or a second step under way, those
    # that it waits for may find none, and no process would get on.
    os.environ.setdefault("NPROC", CPU_THREADS)
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    try:
        jax.distributed.initialize(heartbeat_timeout_seconds=HEARTBEAT_S, **options)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"--distributed={spec}: {str(error).strip().splitlines()[0][:300]}") from error


def is_main() -> bool:
    """Whether this process is the one that writes and speaks for all."""
    return jax.process_index() == 0


def say(text: str) -> None:
    """A line on stderr, for all processes once; what no terminal should get is escaped."""
    if is_main():
        print(visible(text), file=sys.stderr)


def all_agree(value: bool) -> bool:
    """Whether `value` is true in every process."""
    if jax.process_count() == 1:
        return value
    return bool(np.all(multihost_utils.process_allgather(np.array(value))))


def gather(value) -> list:
    """`value` (anything that JSON keeps as it is) of every process, in their order; in all of them."""
    if jax.process_count() == 1:
        return [value]
    own = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.array(own.size, np.int32))
    padded = np.zeros(sizes.max(), np.uint8)
    padded[: own.size] = own
    rows = multihost_utils.process_allgather(padded)
    return [json.loads(bytes(row[:size])) for row, size in zip(rows, sizes, strict=True)]


def from_main(value):
    """Process 0's `value` (anything that JSON keeps as it is), in all processes; the others' is not looked at."""
    if jax.process_count() == 1:
        return value
    own = np.frombuffer(json.dumps(value).encode() if is_main() else b"", np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.array(own.size, np.int32)))
    padded = np.zeros(size, np.uint8)
    if is_main():
        padded[:] = own
    return json.loads(bytes(multihost_utils.broadcast_one_to_all(padded)))


def sync(name: str) -> None:
    """Returns once every process has come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def must_equal(what: dict) -> None:
    """Raises InputError in all processes, naming the keys, unless `what` (JSON) is the same in all of them.

    Processes that see different files, say, would run programs of different shapes and wait for each other for ever.
    """
    if jax.process_count() == 1:
        return
    what = json.loads(json.dumps(what))
    first = from_main(what)
    with agreed():
        keys = sorted(key for key in what.keys() | first.keys() if what.get(key) != first.get(key))
        if keys:
            raise InputError(f"not the same as in process 0: {', '.join(keys)}; give all processes the same files")


@contextlib.contextmanager
def agreed():
    """An InputError in the body of any process is raised in all of them, which then end together (see cli.run).

    The body must not wait for other processes: one that fails alone would never come.
    """
    problem = None
    try:
        yield
    except InputError as error:
        problem = error
    _settle(problem)


def _settle(problem: InputError | None) -> None:
    """Raises `problem`, or another process's, in all processes; returns if none has one."""
    if jax.process_count() == 1 or (problem is not None and problem.shared):
        if problem is not None:
            raise problem
        return
    problems = gather(None if problem is None else str(problem))
    failed = [index for index, text in enumerate(problems) if text is not None]
    if not failed:
        return
    text = problems[failed[0]]
    raise InputError(
        text if len(failed) == len(problems) or failed[0] == 0 else f"process {failed[0]}: {text}", shared=True
    )


@contextlib.contextmanager
def main_first(name: str):
    """The body runs in process 0, then in all others, which find what it has written; an InputError as in `agreed`."""
    problem = None
    if not is_main():
        _settle(None)  # raises what process 0's body has raised
    try:
        yield
    except InputError as error:
        problem = error
    if is_main():
        _settle(problem)
        problem = None
    _settle(problem)
    sync(name)


class Stopped(SystemExit):
    """The scheduler has asked this run of several processes to stop. What was done is written; the exit code is 1, and
    the first process says so."""

    def __init__(self):
        super().__init__("stopped as asked; the same command goes on" if is_main() else 1)


_POLLS = itertools.count(1)


def stop_requested() -> bool:
    """Whether the scheduler has asked any process to stop (SIGTERM), told to all of them at the same call.

    To be called at the same places by all processes. In one process SIGTERM is not taken, and this is False.
    """
    return jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(next(_POLLS))


def stop_if_requested() -> None:
    """Raises Stopped in all processes at the same call once one of them is asked to stop."""
    if stop_requested():
        raise Stopped
