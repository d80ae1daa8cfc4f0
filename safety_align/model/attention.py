"""Attention with the safety routing: causal for ordinary tokens, one masked row for each `[CLS]`.

Axes: B batch, S slots of a row, T slots of a cache, N new rows, M checks, H query heads, K key/value heads,
G = H / K query heads per key/value head, D width, E head size.
"""

import jax
import jax.numpy as jnp
import numpy as np

from safety_align.model.config import TransformerConfig
from safety_align.model.kernels import causal_attention, masked_attention
from safety_align.routing import Routing, cls_mask

COPIES = 64
"""Copies of `[CLS]` in a row whose scores are in memory at once."""


def rotary_frequencies(config: TransformerConfig) -> np.ndarray:
    """Angle per position [E/2], float32, of each rotary pair, scaled as `config.rope_scaling` says."""
    frequencies = config.rope_theta ** (-np.arange(0, config.head_dim, 2, dtype=np.float64) / config.head_dim)
    scaling = config.rope_scaling
    if scaling is None:
        return frequencies.astype(np.float32)
    stretched = frequencies / scaling.factor
    if scaling.kind == "linear":
        return stretched.astype(np.float32)
    # Turns within the original context decide; few turns: stretched, many: as they were, between: a blend.
    few, many = scaling.low_frequency, scaling.high_frequency
    if scaling.kind == "llama3":  # linear in the turns
        turns = scaling.original_length * frequencies / (2 * np.pi)
        kept = np.clip((turns - few) / (many - few), 0.0, 1.0)
    else:  # yarn: linear in the number of the pair, between the whole pairs around those that turn so often
        pair = np.log(scaling.original_length / (2 * np.pi * np.array([many, few]))) / np.log(config.rope_theta)
        first, last = pair * config.head_dim / 2
        first, last = max(np.floor(first), 0), min(np.ceil(last), config.head_dim - 1)
        last += 0.001 * (first == last)
        kept = 1 - np.clip((np.arange(len(frequencies)) - first) / (last - first), 0.0, 1.0)
    return (kept * frequencies + (1 - kept) * stretched).astype(np.float32)


def rotary_angles(positions: jax.Array, config: TransformerConfig) -> tuple[jax.Array, jax.Array]:
    """Cosine and sine [B, S, E/2], float32, of the rotary embedding at explicit position ids [B, S].

    YaRN multiplies both, so that logits of queries and keys grow by the square of its attention factor.
    """
    angles = positions[..., None].astype(jnp.float32) * rotary_frequencies(config)
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    if config.rope_scaling is None or config.rope_scaling.attention_factor == 1:
        return cos, sin
    return cos * config.rope_scaling.attention_factor, sin * config.rope_scaling.attention_factor


def rotate(x: jax.Array, angles: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Applies RoPE to x [B, S, heads, E]; pairs are (i, i + E/2), the Hugging Face layout."""
    cos, sin = (a[:, :, None, :] for a in angles)
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


def routed_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    routing: Routing,
    positions: jax.Array,
    sliding_window: int | None = None,
    backend: str = "xla",
) -> jax.Array:
    """Attention of whole rows: causal within segments, then the M `[CLS]` rows computed beside and put in place.

    q [B, S, H, E]; k, v [B, K, S, E]; positions [B, S] → [B, S, H, E]. The `[CLS]` rows cost O(M S), not O(S²); a
    `sliding_window` binds ordinary tokens only. `backend`: of the causal part, see kernels/.
    """
    with jax.named_scope("causal"):
        out = causal_attention(q, k, v, routing.segments, positions, sliding_window, backend)
    if routing.cls_index.shape[1] == 0:
        return out
    with jax.named_scope("cls_rows"):
        # Row by row (vmap), so that rows on different devices stay apart.
        index = jnp.minimum(routing.cls_index, q.shape[1] - 1)
        rows = jax.vmap(lambda row, at: row[at])(q, index)
        rows = in_parts(lambda rows, mask: masked_attention(rows, k, v, mask), rows, cls_mask(routing))
        return jax.vmap(lambda row, at, new: row.at[at].set(new, mode="drop"))(out, routing.cls_index, rows)


def in_parts(attend, *arrays: jax.Array) -> jax.Array:
    """`attend(*arrays)` → [B, M, …], of arrays [B, M, …], with at most `COPIES` of the M at once: a long prefilled answer
    has a copy for each of its windows, and their scores must not be a square in memory."""
    copies = arrays[0].shape[1]
    if copies <= COPIES:
        return attend(*arrays)
    parts = -(-copies // COPIES)

    def split(x):
        x = jnp.pad(x, ((0, 0), (0, parts * COPIES - copies), *((0, 0),) * (x.ndim - 2)))
        return x.reshape(x.shape[0], parts, COPIES, *x.shape[2:]).swapaxes(0, 1)

    out = jax.lax.map(lambda part: attend(*part), tuple(split(x) for x in arrays)).swapaxes(0, 1)
    return out.reshape(out.shape[0], -1, *out.shape[3:])[:, :copies]
