"""Kills a real training at random moments, many times, and compares it with one left alone:

    python tests/kill_harness.py --kills=20

Every step is followed by a checkpoint, so that most kills (SIGKILL) fall into the writing of one. Prints where each
kill fell; fails unless losses, parameters and the places of the data streams equal the uninterrupted run's to the bit.
"""

import argparse
import os
import pathlib
import random
import sys
import tempfile
import time
import warnings

import numpy as np

os.environ.setdefault("JAX_PLATFORMS", "cpu")
warnings.filterwarnings("ignore", "Sharding info not provided")
sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent), str(pathlib.Path(__file__).resolve().parent.parent)]

from orbax.checkpoint import v1 as ocp  # noqa: E402
from processes import log, losses, run, start  # noqa: E402

import jax  # noqa: E402  # isort: skip

STEPS_PER_LIFE = 6


def torment(folder: pathlib.Path, kills: int, seed: int, say=print) -> list[str]:
    """Runs the experiment in `folder`; what differs between the two runs: [] if nothing does."""
    rng = random.Random(seed)
    steps = kills * STEPS_PER_LIFE + 2
    changes = (f"--config.steps={steps}", "--config.save_every=1")
    whole, killed = folder / "whole", folder / "killed"
    assert run(whole, *changes) == [0], log(whole)[-2000:]
    for number in range(kills):
        before = max(losses(killed), default=0)
        (process,) = start(killed, *changes)
        # A life of some steps beyond the last one seen, then a moment that has nothing to do with the step's phase.
        goal = before + rng.randint(0, STEPS_PER_LIFE - 1)
        while max(losses(killed), default=0) < goal and process.poll() is None:
            time.sleep(0.005)
        time.sleep(rng.random() * (4.0 if goal == before else 0.3))
        assert process.poll() is None, f"it ended by itself: {log(killed)[-2000:]}"
        process.kill()
        process.wait()
        saved = sorted(p.name for p in (killed / "checkpoints").glob("*"))
        say(
            f"kill {number + 1:3}: after step {max(losses(killed), default=0):4}; on disk {', '.join(saved) or 'nothing'}"
        )
    assert run(killed, *changes) == [0], log(killed)[-2000:]
    ours, theirs = losses(killed), losses(whole)
    different = [f"loss of step {i + 1}" for i in range(steps) if i + 1 not in ours or ours[i + 1] != theirs.get(i + 1)]
    different += [f"step {step} is one too many" for step in ours if not 1 <= step <= steps]
    states = [ocp.load_checkpointables(w / "checkpoints" / str(steps)) for w in (killed, whole)]
    leaves, structures = zip(*(jax.tree.flatten_with_path(state) for state in states), strict=True)
    if structures[0] != structures[1]:
        return [*different, "the checkpoints hold other things"]
    for (path, one), (_, other) in zip(*leaves, strict=True):
        if not np.array_equal(one, other):
            different.append(jax.tree_util.keystr(path))
    return different


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        different = torment(pathlib.Path(folder), arguments.kills, arguments.seed)
    if different:
        sys.exit("differs from the uninterrupted run: " + ", ".join(different))
    print(f"{arguments.kills} kills: losses, state and data streams equal the uninterrupted run's to the bit")
