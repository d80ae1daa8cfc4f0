"""Attention with the safety routing: causal for ordinary tokens, one masked row for each `[CLS]`.

Axes: B batch, S slots of a row, T slots of a cache, N new rows, M checks, H query heads, K key/value heads,
G = H / K query heads per key/value head, D width, E head size.
"""

import jax
import jax.numpy as jnp

from safety_align.routing import Routing, causal_mask, cls_mask

# Finite, so that a row that may attend to nothing (padding) stays finite; exp underflows to exactly zero beside any
# real score.
MASKED = -1e30


def rotary_angles(positions: jax.Array, head_dim: int, theta: float) -> tuple[jax.Array, jax.Array]:
    """Cosine and sine [B, S, E/2], float32, of the rotary embedding at explicit position ids [B, S]."""
    frequencies = theta ** (-jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim)
    angles = positions[..., None].astype(jnp.float32) * frequencies
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x: jax.Array, angles: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Applies RoPE to x [B, S, heads, E]; pairs are (i, i + E/2), the Hugging Face layout."""
    cos, sin = (a[:, :, None, :] for a in angles)
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


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
    scores = (
        jnp.einsum("bkgne,bkte->bkgnt", q.transpose(0, 2, 3, 1, 4), k, preferred_element_type=jnp.float32) * size**-0.5
    )
    scores = jnp.where(mask[:, None, None], scores, MASKED)
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    out = jnp.einsum("bkgnt,bkte->bnkge", weights, v, preferred_element_type=jnp.float32)
    return out.reshape(batch, rows, heads, size).astype(q.dtype)


def routed_attention(q: jax.Array, k: jax.Array, v: jax.Array, routing: Routing) -> jax.Array:
    """Attention of whole rows: causal within segments, then the M `[CLS]` rows computed beside and put in place.

    q [B, S, H, E]; k, v [B, K, S, E] → [B, S, H, E]. The `[CLS]` rows cost O(M S), not O(S²).
    """
    with jax.named_scope("causal"):
        out = masked_attention(q, k, v, causal_mask(routing.segments))
    if routing.cls_index.shape[1] == 0:
        return out
    with jax.named_scope("cls_rows"):
        batch = jnp.arange(q.shape[0])[:, None]
        rows = q[batch, jnp.minimum(routing.cls_index, q.shape[1] - 1)]
        return out.at[batch, routing.cls_index].set(masked_attention(rows, k, v, cls_mask(routing)), mode="drop")
