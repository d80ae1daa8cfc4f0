"""TPU chips, and meshes of chips that are not there."""

import dataclasses
import os
import re

import numpy as np

from safety_align.errors import InputError


@dataclasses.dataclass(frozen=True)
class Chip:
    """Published figures of one chip: how its slices are named, HBM bytes, HBM bytes/s, and bytes/s of its links to other
    chips, all together. FLOP/s: see `training.flops.peak_flops`."""

    slice_name: str
    memory: float
    bandwidth: float
    links: float


CHIPS = {
    "v5e": Chip("v5litepod", 16 * 2**30, 819e9, 200e9),
    "v5p": Chip("v5p", 95 * 2**30, 2765e9, 600e9),
    "v6e": Chip("v6e", 32 * 2**30, 1640e9, 448e9),
}


def topology(name: str):
    """(chip, devices) of a topology such as "v5e:4x4" or "v5p:2x2x1"; InputError for one that libtpu does not know."""
    kind, _, shape = name.partition(":")
    if kind not in CHIPS or not re.fullmatch(r"\d+(x\d+){1,2}", shape):
        raise InputError(f"topology {name!r} is not of the form KIND:AxB or KIND:AxBxC with KIND in {', '.join(CHIPS)}")
    sizes = [int(n) for n in shape.split("x")]
    chips = int(np.prod(sizes))
    # A single chip is a host of its own; libtpu takes hosts for four chips.
    options = {"chips_per_host_bounds": (1, 1, 1)} if chips == 1 else {}
    cores = 2 * chips if kind == "v5p" else chips  # v5p slices are named by their cores
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", f"{CHIPS[kind].slice_name}-{cores}")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # no chip is taken, so no lock is needed
    try:
        from jax.experimental import topologies

        return CHIPS[kind], topologies.get_topology_desc(platform="tpu", topology_name=name, **options).devices
    except Exception as error:  # libtpu raises what it likes
        reason = str(error).strip().split("\n")[0][:200]
        raise InputError(f"topology {name!r} cannot be compiled for ({reason}); is libtpu installed?") from error
