"""What stands before the free stretch of an attack's row is the same for all candidates: it is read once [ours].

The rest of the row goes over its keys and values (decoding/prefix.py). Of `[CLS]` rows that stand among the tokens, and of
probes; a signal of rows beside the tokens reads whole rows.
"""

import functools

import jax

from safety_align.decoding.prefix import cache_of
from safety_align.model import Cache, TransformerConfig
from safety_align.routing import Routing

STEP = 16
"""Of which the slots before the free stretch, and others, are a multiple, so that goals of about one length share a program."""


@functools.partial(jax.jit, static_argnums=(0, 1))
def read_prefix(
    config: TransformerConfig, free: int, params: dict, vectors: jax.Array, positions: jax.Array, routing: Routing
) -> Cache | None:
    """The cache of the slots before `free`, where a row's free stretch begins, from the vectors [1, S, D] of the whole row; None where
    it cannot be read apart. Layers are unrolled."""
    probes = config.signal.kind == "probe"
    if not config.signal.in_stream and not probes:
        return None
    return cache_of(config, params, vectors, positions, routing, probes).arrange([slice(0, free)])


def slots_of(prefix: Cache | None) -> int:
    """How many slots of a row are read already."""
    return 0 if prefix is None else prefix.slots
