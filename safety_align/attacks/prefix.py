"""What stands before the free stretch of an attack's row is the same for all candidates: it is read once [ours].

The rest of the row goes over its keys and values by the decoder's own `extend`. Of `[CLS]` rows that stand among the tokens, and of
probes; a signal of rows beside the tokens reads whole rows.
"""

import functools

import jax
import jax.numpy as jnp

from safety_align.model import Cache, SafetyTransformer, TransformerConfig, Write
from safety_align.model.watch import used_checks, watch
from safety_align.routing import Routing, causal_mask, check_reads, cls_mask, in_sliding_window

STEP = 16
"""Of which the slots before the free stretch, and others, are a multiple, so that goals of about one length share a program."""


@functools.partial(jax.jit, static_argnums=(0, 1))
def read_prefix(
    config: TransformerConfig, free: int, params: dict, vectors: jax.Array, positions: jax.Array, routing: Routing
) -> Cache | None:
    """The cache of the slots before `free`, where a row's free stretch begins, from the vectors [1, S, D] of the whole row; None where
    it cannot be read apart. Layers are unrolled."""
    if config.signal.in_stream:
        model, arguments = SafetyTransformer(config), (vectors, positions, routing)
        cache = model.apply({"params": params}, *arguments, method="hidden")[1]
    elif config.signal.kind == "probe":
        cache = watch(config, params, vectors, positions, routing, whole=True).cache
    else:
        return None
    return cache.arrange([slice(0, free)])


def slots_of(prefix: Cache | None) -> int:
    """How many slots of a row are read already."""
    return 0 if prefix is None else prefix.slots


def read_rest(
    config: TransformerConfig, params: dict, cache: Cache, vectors: jax.Array, positions: jax.Array, routing: Routing
) -> tuple[jax.Array, jax.Array]:
    """Hidden states [B, N, D] of the last N slots, whose vectors are given, and the safety logits [B, M] of the row's checks.

    cache: of the first S - N slots of one row; positions [B, S], routing: of whole rows.
    """
    (rows, new, _), first = vectors.shape, cache.slots
    cache = jax.tree.map(lambda x: jnp.broadcast_to(x, (rows, *x.shape[1:])), cache.arrange([slice(None), new]))
    mask = row_mask(config, positions, routing)[:, first:]
    writes, model = [Write(slice(0, new), first)], SafetyTransformer(config)
    arguments = (vectors, positions[:, first:], cache, writes, mask)
    hidden, _, cache = model.apply({"params": params}, *arguments, method="extend")
    if config.signal.in_stream:
        # Every check stands behind the free stretch's beginning.
        there = routing.replace(cls_index=jnp.where(used_checks(routing), routing.cls_index - first, new))
        return hidden, model.apply({"params": params}, hidden, there, method="read_checks")
    logits = model.apply({"params": params}, cache, check_reads(routing), method="pooled")
    return hidden, jnp.where(used_checks(routing), logits, 0.0)


def row_mask(config: TransformerConfig, positions: jax.Array, routing: Routing) -> jax.Array:
    """[B, S, S] bool: who attends to whom in whole rows, `[CLS]` rows among the others where they are."""
    mask = causal_mask(routing.segments)
    if config.sliding_window is not None:
        mask &= in_sliding_window(positions[:, :, None], positions[:, None, :], config.sliding_window)
    if not config.signal.in_stream:
        return mask
    put = jax.vmap(lambda row, at, new: row.at[at].set(new, mode="drop"))
    return put(mask, routing.cls_index, cls_mask(routing))
