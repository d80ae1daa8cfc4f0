"""Attention with the safety routing: causal for ordinary tokens, one masked row for each `[CLS]`.

Axes: B batch, S slots of a row, T slots of a cache, N new rows, M checks, H query heads, K key/value heads,
G = H / K query heads per key/value head, D width, E head size.
"""

import jax
import jax.numpy as jnp
import numpy as np

from safety_align.model.config import TransformerConfig
from safety_align.routing import Routing, causal_mask, cls_mask, in_window

# Finite, so that a row that may attend to nothing (padding) stays finite; exp underflows to exactly zero beside any
# real score.
MASKED = -1e30


def rotary_frequencies(config: TransformerConfig) -> np.ndarray:
    """Angle per position [E/2], float32, of each rotary pair, scaled as `config.rope_scaling` says."""
    frequencies = config.rope_theta ** (-np.arange(0, config.head_dim, 2, dtype=np.float64) / config.head_dim)
    scaling = config.rope_scaling
    if scaling is None:
        return frequencies.astype(np.float32)
    stretched = frequencies / scaling.factor
    if scaling.kind == "linear":
        return stretched.astype(np.float32)
    # llama3: turns within the original context decide; few turns: stretched, many: as they were, between: a blend.
    turns = scaling.original_length * frequencies / (2 * np.pi)
    kept = np.clip((turns - scaling.low_frequency) / (scaling.high_frequency - scaling.low_frequency), 0.0, 1.0)
    return (kept * frequencies + (1 - kept) * stretched).astype(np.float32)


def rotary_angles(positions: jax.Array, config: TransformerConfig) -> tuple[jax.Array, jax.Array]:
    """Cosine and sine [B, S, E/2], float32, of the rotary embedding at explicit position ids [B, S]."""
    angles = positions[..., None].astype(jnp.float32) * rotary_frequencies(config)
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x: jax.Array, angles: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Applies RoPE to x [B, S, heads, E]; pairs are (i, i + E/2), the Hugging Face layout."""
    cos, sin = (a[:, :, None, :] for a in angles)
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


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


def routed_attention(
    q: jax.Array, k: jax.Array, v: jax.Array, routing: Routing, positions: jax.Array, window: int | None = None
) -> jax.Array:
    """Attention of whole rows: causal within segments, then the M `[CLS]` rows computed beside and put in place.

    q [B, S, H, E]; k, v [B, K, S, E]; positions [B, S] → [B, S, H, E]. The `[CLS]` rows cost O(M S), not O(S²); a
    sliding `window` binds ordinary tokens only.
    """
    with jax.named_scope("causal"):
        mask = causal_mask(routing.segments)
        if window is not None:
            mask &= in_window(positions[:, :, None], positions[:, None, :], window)
        out = masked_attention(q, k, v, mask)
    if routing.cls_index.shape[1] == 0:
        return out
    with jax.named_scope("cls_rows"):
        batch = jnp.arange(q.shape[0])[:, None]
        rows = q[batch, jnp.minimum(routing.cls_index, q.shape[1] - 1)]
        return out.at[batch, routing.cls_index].set(masked_attention(rows, k, v, cls_mask(routing)), mode="drop")
