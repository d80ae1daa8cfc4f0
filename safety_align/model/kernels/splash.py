"""The TPU backend: JAX's Pallas flash kernel, packed segments and grouped heads, sharded over rows, heads and queries."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding

from safety_align import sharding

LANES = 128
"""Head sizes and row lengths of the kernel are multiples of this; others are padded."""


def splash_attention(q, k, v, segments, interpret: bool = False) -> jax.Array:
    """`kernels.causal_attention` without a window. `interpret`: in Pallas' interpreter, on any platform."""
    length, size = q.shape[1], q.shape[3]
    mesh, axes = jax.sharding.get_abstract_mesh(), sharding.axes_here()
    lanes = LANES * axes.get("sequence", 1)  # each shard of the queries is whole blocks
    padded = -(-length // lanes) * lanes
    # The kernel does not scale. Padding is a segment of its own.
    q = _pad((q * jnp.asarray(size**-0.5, q.dtype)).swapaxes(1, 2), padded)
    k, v = _pad(k, padded), _pad(v, padded)
    segments = jnp.pad(segments, ((0, 0), (0, padded - length)), constant_values=np.iinfo(np.int32).min)
    if AxisType.Auto in mesh.axis_types and mesh.size > 1:
        out = _sharded_splash(mesh, axes, q, k, v, segments, interpret)
    else:
        out = _kernel(q.shape[1], padded, 1, interpret)
        out = jax.vmap(out)(q, k, v, _segment_ids(segments, segments))
    return out[:, :, :length, :size].swapaxes(1, 2)


def _sharded_splash(mesh, axes: dict[str, int], q, k, v, segments, interpret: bool):
    """The kernel on every device: rows, heads, and queries along the sequence axis; keys and values come together. Along
    other axes than ours every device does the same."""
    shards, heads = axes.get("sequence", 1), axes.get("tensor", 1)
    kernel = _kernel(q.shape[1] // heads, q.shape[2], shards, interpret)
    spec = functools.partial(sharding.spec, axes)
    kernel_spec = kernel.manual_sharding_spec(NamedSharding(mesh, spec(None, sharding.LENGTH)))
    query = spec(sharding.BATCH, sharding.ACT_HEADS, sharding.LENGTH, None)
    key = spec(sharding.BATCH, sharding.ACT_KV_HEADS, None, None)

    @functools.partial(
        jax.shard_map,
        in_specs=(kernel_spec, query, key, key, spec(sharding.BATCH, sharding.LENGTH), spec(sharding.BATCH, None)),
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
