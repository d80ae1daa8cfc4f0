"""Causal attention within segments, by backend, behind one function. Axis legend in attention.py.

dense     the plain reference: every score at once; fastest for short rows
chunked   XLA, a block of queries at a time, recomputed in the backward pass: memory O(block S), never O(S²)
splash    TPU: the Pallas flash kernel of JAX; packed segments, grouped heads

The `[CLS]` rows are computed beside all of them (attention.py): one query each, O(S).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from safety_align.routing import in_window
from safety_align.sharding import ROWS

# Finite, so that a row that may attend to nothing (padding) stays finite; exp underflows to exactly zero beside any
# real score.
MASKED = -1e30

DENSE_LENGTH = 1024
"""Longest row for which "auto" computes all scores at once."""

CHUNK = 512
"""Queries of a block of the chunked backend."""

GROUPS = 4
"""Groups of blocks of the chunked backend: more of them compute fewer scores that the mask drops, and compile longer."""

LANES = 128
"""Head sizes and row lengths of the TPU kernel are multiples of this; others are padded."""


def choose(attention: str, platform: str) -> str:
    """The backend that the config's `attention` means on a platform ("tpu", "cpu", "gpu")."""
    if attention != "auto":
        return attention
    return "splash" if platform == "tpu" else "xla"


def causal_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    segments: jax.Array,
    positions: jax.Array,
    window: int | None = None,
    backend: str = "xla",
    interpret: bool = False,
) -> jax.Array:
    """Softmax attention of whole rows, each slot to the earlier slots of its segment.

    Args:
      q: [B, S, H, E].
      k, v: [B, K, S, E].
      segments, positions: [B, S] int32.
      window: a sliding window over position ids (`routing.in_window`), or None.
      backend: "dense", "chunked", "splash", or "xla": dense or chunked, by length. A window that binds has no TPU
        kernel: "splash" then is chunked.
      interpret: run the TPU kernel in Pallas' interpreter, on any platform.

    Returns:
      [B, S, H, E] in q's dtype.
    """
    length = q.shape[1]
    if window is not None and window >= length:
        window = None
    if backend == "splash" and window is not None:
        backend = "chunked"
    if backend == "xla":
        backend = "dense" if length <= DENSE_LENGTH else "chunked"
    if backend == "splash":
        return _splash(q, k, v, segments, interpret)
    slots = jnp.broadcast_to(jnp.arange(length), segments.shape)
    if backend == "dense":
        return _rows((q, segments, positions, slots), k, v, segments, positions, window)
    # Blocks of queries in groups, one after the other within a group: causal, so a group needs no slot after its last.
    blocks = -(-length // CHUNK)
    query = [
        _blocks(jnp.pad(x, ((0, 0), (0, blocks * CHUNK - length), *((0, 0),) * (x.ndim - 2))))
        for x in (q, segments, positions, slots)
    ]
    parts = []
    for group in np.array_split(np.arange(blocks), min(GROUPS, blocks)):
        stop = min((group[-1] + 1) * CHUNK, length)
        # Scores are recomputed in the backward pass, not kept.
        attend = jax.checkpoint(
            lambda rows, n=stop: _rows(rows, k[:, :, :n], v[:, :, :n], segments[:, :n], positions[:, :n], window)
        )
        parts.append(jax.lax.map(attend, [x[group[0] : group[-1] + 1] for x in query]))
    out = jnp.concatenate(parts).swapaxes(0, 1)
    return out.reshape(out.shape[0], -1, *out.shape[3:])[:, :length]


def _blocks(x: jax.Array) -> jax.Array:
    """[B, n · CHUNK, …] → [n, B, CHUNK, …]."""
    return x.reshape(x.shape[0], -1, CHUNK, *x.shape[2:]).swapaxes(0, 1)


def _rows(query, k, v, segments, positions, window: int | None) -> jax.Array:
    """Some queries (q, their segments, positions and slots) over keys that begin with the row."""
    q, own_segments, own_positions, own_slots = query
    slots = jnp.arange(segments.shape[1])
    mask = (own_segments[:, :, None] == segments[:, None, :]) & (own_slots[:, :, None] >= slots)
    if window is not None:
        mask &= in_window(own_positions[:, :, None], positions[:, None, :], window)
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


# --- the TPU kernel ---------------------------------------------------------------------------------------------------


def _splash(q, k, v, segments, interpret: bool) -> jax.Array:
    length, size = q.shape[1], q.shape[3]
    padded = -(-length // LANES) * LANES
    # The kernel does not scale. Padding is a segment of its own.
    q = _pad((q * jnp.asarray(size**-0.5, q.dtype)).swapaxes(1, 2), padded)
    k, v = _pad(k, padded), _pad(v, padded)
    segments = jnp.pad(segments, ((0, 0), (0, padded - length)), constant_values=np.iinfo(np.int32).min)
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        out = _kernel(q.shape[1], padded, 1, interpret)
        out = jax.vmap(out)(q, k, v, _segment_ids(segments, segments))
    else:
        out = _sharded_splash(mesh, q, k, v, segments, interpret)
    return out[:, :, :length, :size].swapaxes(1, 2)


def _sharded_splash(mesh, q, k, v, segments, interpret: bool):
    """The kernel on every device: rows, heads, and queries along the sequence axis; keys and values come together."""
    shards, heads = mesh.shape["sequence"], mesh.shape["tensor"]
    kernel = _kernel(q.shape[1] // heads, q.shape[2], shards, interpret)
    kernel_spec = kernel.manual_sharding_spec(NamedSharding(mesh, PartitionSpec(None, "sequence")))
    query, key = PartitionSpec(ROWS, "tensor", "sequence", None), PartitionSpec(ROWS, "tensor", None, None)

    @functools.partial(
        jax.shard_map,
        in_specs=(kernel_spec, query, key, key, PartitionSpec(ROWS, "sequence"), PartitionSpec(ROWS, None)),
        out_specs=query,
        check_vma=False,
    )
    def run(kernel, q, k, v, q_segments, kv_segments):
        return jax.vmap(kernel)(q, k, v, _segment_ids(q_segments, kv_segments))

    return run(kernel, q, k, v, segments, segments)


def _segment_ids(q, kv):
    from jax.experimental.pallas.ops.tpu.splash_attention import SegmentIds

    return SegmentIds(q=q, kv=kv)


def _kernel(heads: int, length: int, sequence_shards: int, interpret: bool):
    from jax.experimental.pallas.ops.tpu import splash_attention as splash

    block = next(b for b in (512, 384, 256, LANES) if length % b == 0)
    query = next(b for b in (block, LANES) if (length // sequence_shards) % b == 0)
    sizes = splash.BlockSizes(
        block_q=query, block_kv=block, block_kv_compute=block,
        block_q_dkv=query, block_kv_dkv=block, block_kv_dkv_compute=block,
        block_q_dq=query, block_kv_dq=block,
    )  # fmt: skip
    mask = splash.MultiHeadMask(
        [splash.CausalMask((length, length), shard_count=sequence_shards) for _ in range(heads)]
    )
    return splash.make_splash_mha(
        mask, head_shards=1, q_seq_shards=sequence_shards, block_sizes=sizes, interpret=interpret
    )


def _pad(x: jax.Array, length: int) -> jax.Array:
    """[B, heads, S, E] with S and E padded by zeros to `length` and a multiple of `LANES`."""
    return jnp.pad(x, ((0, 0), (0, 0), (0, length - x.shape[2]), (0, -x.shape[3] % LANES)))
