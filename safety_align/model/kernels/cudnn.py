"""The GPU backend: cuDNN's flash attention over packed rows.

cuDNN takes a row as runs of slots, each a sequence of its own; a packed row is such a sequence of runs (routing.py:
`prompt [CLS] response` is one, the hidden copies behind it another). A segment that something else cuts in two is not:
rows with such a segment go by the chunked backend. JAX reaches this form of cuDNN through a function
that is not public, with the contract that `_packed` states; tests/test_kernels.py holds a plain stand-in to it.
"""

import jax
import jax.numpy as jnp

from safety_align.errors import InputError
from safety_align.model.kernels.xla import chunked_attention

MAX_RUNS = 64
"""Runs of a row that cuDNN is asked for, unless asked otherwise."""


def cudnn_attention(q, k, v, segments, positions, most: int = MAX_RUNS) -> jax.Array:
    """`kernels.causal_attention` without a window; bfloat16 or float16, head sizes that are multiples of 8. A batch with a
    row of more than `most` runs goes by the chunked backend.

    Raises InputError for another dtype: cuDNN has no float32 flash attention.
    """
    if q.dtype not in (jnp.bfloat16, jnp.float16):
        raise InputError(f"model.attention cudnn needs model.dtype bfloat16, got {q.dtype}; or use model.attention xla")
    length = q.shape[1]
    offsets, lengths, fits = runs(_even(segments), min(most, length + length % 2))

    def packed():
        # Keys and values once for each query head: JAX counts a run's place in them as if they had as many heads.
        groups = q.shape[2] // k.shape[1]
        keys, values = (jnp.repeat(x.swapaxes(1, 2), groups, axis=2) for x in (k, v))
        return _packed(_even(q), _even(keys), _even(values), offsets, lengths)[:, :length]

    return jax.lax.cond(fits, packed, lambda: chunked_attention(q, k, v, segments, positions))


def _even(x: jax.Array) -> jax.Array:
    """x [B, S, …] with a slot more where S is odd, which cuDNN's backward pass does not take."""
    return jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), *((0, 0),) * (x.ndim - 2)))


def runs(segments: jax.Array, most: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Maximal runs of equal segment ids: segments [B, S] → first slots [B, most + 1] and lengths [B, most], both -1
    behind a row's last run, and whether cuDNN can serve them (scalar bool): every row has at
    most `most`, and every segment of ordinary tokens (its id is positive) is one run."""
    batch, length = segments.shape
    starts = jnp.concatenate([jnp.ones((batch, 1), bool), segments[:, 1:] != segments[:, :-1]], axis=1)
    number = jnp.cumsum(starts, axis=1) - 1
    slots = jnp.broadcast_to(jnp.arange(length), segments.shape)
    first = jnp.full((batch, most + 1), -1, jnp.int32)
    rows = jnp.arange(batch)[:, None]
    first = first.at[rows, jnp.where(starts, number, most + 1)].set(slots, mode="drop")
    count = number[:, -1] + 1
    exists = jnp.arange(most) < count[:, None]
    ends = jnp.where(jnp.arange(1, most + 1) < count[:, None], first[:, 1:], length)
    lengths = jnp.where(exists, ends - first[:, :-1], -1)
    ordered = jnp.sort(segments, axis=1)
    new = jnp.concatenate([jnp.ones((batch, 1), bool), ordered[:, 1:] != ordered[:, :-1]], axis=1)
    whole = jnp.sum(starts & (segments > 0), axis=1) == jnp.sum(new & (ordered > 0), axis=1)
    return first, lengths, jnp.all((count <= most) & whole)


def _packed(q, k, v, offsets, lengths) -> jax.Array:
    """cuDNN: q, k, v [B, S, H, E]; run i of a row is `lengths[:, i]` slots from `offsets[:, i]` on, and each of its slots
    attends to the run's slots up to itself. JAX strings the rows' offsets, and their lengths, together by dropping what is
    -1: a row has as many of the one as of the other."""
    from jax._src.cudnn.fused_attention_stablehlo import MaskType, dot_product_attention

    return dot_product_attention(
        q, k, v, q_seqlen=lengths, kv_seqlen=lengths, q_offsets=offsets, kv_offsets=offsets,
        scale=q.shape[-1] ** -0.5, mask_type=MaskType.PADDING_CAUSAL, qkv_layout="BTNH",
    )  # fmt: skip
