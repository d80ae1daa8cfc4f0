"""The XLA backends: every score at once, or a block of queries at a time; and the plain attention under both."""

import jax
import jax.numpy as jnp
import numpy as np

from safety_align.routing import in_sliding_window

# Finite, so that a row that may attend to nothing (padding) stays finite; exp underflows to exactly zero beside any
# real score.
MASKED = -1e30

CHUNK = 512
"""Queries of a block of the chunked backend, unless asked otherwise."""

GROUPS = 4
"""Groups of blocks of the chunked backend: more of them compute fewer scores that the mask drops, and compile longer."""


def dense_attention(q, k, v, segments, positions, sliding_window: int | None = None) -> jax.Array:
    """`kernels.causal_attention`, the plain reference: all scores at once."""
    slots = jnp.broadcast_to(jnp.arange(q.shape[1]), segments.shape)
    return _rows((q, segments, positions, slots), k, v, segments, positions, sliding_window)


def chunked_attention(q, k, v, segments, positions, sliding_window: int | None = None, chunk: int = CHUNK) -> jax.Array:
    """`kernels.causal_attention`, scores of `chunk` queries at a time, made again in the backward pass."""
    length = q.shape[1]
    slots = jnp.broadcast_to(jnp.arange(length), segments.shape)
    # Blocks of queries in groups, one after the other within a group: causal, so a group needs no slot after its last.
    blocks = -(-length // chunk)
    query = [
        _blocks(jnp.pad(x, ((0, 0), (0, blocks * chunk - length), *((0, 0),) * (x.ndim - 2))), chunk)
        for x in (q, segments, positions, slots)
    ]
    parts = []
    for group in np.array_split(np.arange(blocks), min(GROUPS, blocks)):
        stop = min((group[-1] + 1) * chunk, length)
        # Scores are recomputed in the backward pass, not kept.
        attend = jax.checkpoint(
            lambda rows, n=stop: _rows(
                rows, k[:, :, :n], v[:, :, :n], segments[:, :n], positions[:, :n], sliding_window
            )
        )
        parts.append(jax.lax.map(attend, [x[group[0] : group[-1] + 1] for x in query]))
    out = jnp.concatenate(parts).swapaxes(0, 1)
    return out.reshape(out.shape[0], -1, *out.shape[3:])[:, :length]


def _blocks(x: jax.Array, chunk: int) -> jax.Array:
    """[B, n · chunk, …] → [n, B, chunk, …]."""
    return x.reshape(x.shape[0], -1, chunk, *x.shape[2:]).swapaxes(0, 1)


def _rows(query, k, v, segments, positions, sliding_window: int | None) -> jax.Array:
    """Some queries (q, their segments, positions and slots) over keys that begin with the row."""
    q, own_segments, own_positions, own_slots = query
    slots = jnp.arange(segments.shape[1])
    mask = (own_segments[:, :, None] == segments[:, None, :]) & (own_slots[:, :, None] >= slots)
    if sliding_window is not None:
        mask &= in_sliding_window(own_positions[:, :, None], positions[:, None, :], sliding_window)
    return masked_attention(q, k, v, mask)


def masked_attention(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array) -> jax.Array:
    """Softmax attention, float32 inside.

    Args:
      q: [B, N, H, E].
      k, v: [B, K, T, E] (heads first, the layout of the cache: contiguous per head).
      mask: [B, N, T] bool, or anything that broadcasts to it.

    Returns:
      [B, N, H, E] in q's dtype.
    """
    batch, rows, heads, size = q.shape
    kv_heads = k.shape[1]
    q = q.reshape(batch, rows, kv_heads, heads // kv_heads, size)
    # Heads first before the product: otherwise XLA's CPU backend copies a cache of batch 1 several times a step.
    scores = einsum32("bkgne,bkte->bkgnt", q.transpose(0, 2, 3, 1, 4), k) * size**-0.5
    scores = jnp.where(mask[:, None, None], scores, MASKED)
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    out = einsum32("bkgnt,bkte->bnkge", weights, v)
    return out.reshape(batch, rows, heads, size).astype(q.dtype)


def over_cache(q, k, v, new_k, new_v, mask, new_mask) -> jax.Array:
    """`masked_attention` over a cache and a few new rows that are not in it yet.

    The cache is only read. Were the new rows written first, the TPU compiler would update a layer's whole keys and values
    on the chip and write all of them back, at every step.

    Args:
      q: [B, N, H, E].
      k, v: [B, K, T, E] of the cache; new_k, new_v: [B, K, M, E] of the new rows.
      mask: [B, N, T] over the cache; new_mask: [B, N, M] over the new rows.
    """
    batch, rows, heads, size = q.shape
    kv_heads = k.shape[1]
    q = q.reshape(batch, rows, kv_heads, heads // kv_heads, size).transpose(0, 2, 3, 1, 4)
    scores, new = (
        jnp.where(seen[:, None, None], einsum32("bkgne,bkte->bkgnt", q, keys) * size**-0.5, MASKED)
        for keys, seen in ((k, mask), (new_k, new_mask))
    )
    most = jax.lax.stop_gradient(jnp.maximum(scores.max(-1, keepdims=True), new.max(-1, keepdims=True)))
    scores, new = jnp.exp(scores - most), jnp.exp(new - most)
    parts = ((scores, v), (new, new_v))
    out = sum(einsum32("bkgnt,bkte->bkgne", weights.astype(v.dtype), values) for weights, values in parts)
    out /= scores.sum(-1, keepdims=True) + new.sum(-1, keepdims=True)
    return out.transpose(0, 3, 1, 2, 4).reshape(batch, rows, heads, size).astype(q.dtype)


def with_own_key(q, k, v, own_k, own_v, mask) -> jax.Array:
    """`masked_attention` of rows that also attend to themselves, beside the keys: own_k, own_v [B, N, K, E], one key and
    value for each row."""
    batch, rows, heads, size = q.shape
    kv_heads = k.shape[1]
    q = q.reshape(batch, rows, kv_heads, heads // kv_heads, size).transpose(0, 2, 3, 1, 4)
    scores = einsum32("bkgne,bkte->bkgnt", q, k)
    own = einsum32("bkgne,bnke->bkgn", q, own_k)
    scores = jnp.where(mask[:, None, None], scores, MASKED)
    weights = jax.nn.softmax(jnp.concatenate([scores, own[..., None]], axis=-1) * size**-0.5, axis=-1).astype(v.dtype)
    out = einsum32("bkgnt,bkte->bnkge", weights[..., :-1], v)
    out += einsum32("bkgn,bnke->bnkge", weights[..., -1], own_v)
    return out.reshape(batch, rows, heads, size).astype(own_k.dtype)


def einsum32(spec: str, a: jax.Array, b: jax.Array) -> jax.Array:
    """`jnp.einsum` that adds up, and returns, float32. XLA's CPU backend has no such product of two bfloat16 arrays in
    every layout; widening them first gives the same numbers there."""

    def narrow(a, b):
        return jnp.einsum(spec, a, b, preferred_element_type=jnp.float32)

    if a.dtype == jnp.float32:
        return narrow(a, b)
    return jax.lax.platform_dependent(
        a, b, cpu=lambda a, b: narrow(a.astype(jnp.float32), b.astype(jnp.float32)), default=narrow
    )
