"""What stands before the free stretch of an attack's row is the same for all candidates: it is read once [ours].

The rest of the row goes over its keys and values by the decoder's own `extend`. Of `[CLS]` rows that stand among the tokens, and of
probes; a signal of rows beside the tokens reads whole rows.
"""

import jax
import jax.numpy as jnp

from safety_align.model import Cache, SafetyTransformer, TransformerConfig, Write
from safety_align.model.watch import used_checks, watch
from safety_align.routing import Routing, causal_mask, check_reads, cls_mask, in_sliding_window

STEP = 16
"""Of which the slots before the free stretch, and others, are a multiple, so that goals of about one length share a program."""


def prefix_slots(config: TransformerConfig, free: int) -> int:
    """P, the slots that are read once: those before the free stretch, which begins at slot `free`; 0 where none can be."""
    return free if config.signal.in_stream or config.signal.kind == "probe" else 0


def read_prefix(
    config: TransformerConfig, params: dict, vectors: jax.Array, positions: jax.Array, routing: Routing
) -> Cache:
    """The cache of a row's S slots, whose first P are to be kept, from its vectors [1, S, D]; layers are unrolled."""
    if config.signal.in_stream:
        return SafetyTransformer(config).apply({"params": params}, vectors, positions, routing, method="hidden")[1]
    return watch(config, params, vectors, positions, routing, whole=True).cache


def read_rest(
    config: TransformerConfig, params: dict, cache: Cache, vectors: jax.Array, positions: jax.Array, routing: Routing
) -> tuple[jax.Array, jax.Array]:
    """Hidden states [B, N, D] of the last N slots, whose vectors are given, and the safety logits [B, M] of the row's checks.

    cache: of one row of S slots, the first S - N of which are kept; positions [B, S], routing: of whole rows.
    """
    rows, new = vectors.shape[:2]
    first = cache.slots - new
    cache = jax.tree.map(lambda x: jnp.broadcast_to(x, (rows, *x.shape[1:])), cache)
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
