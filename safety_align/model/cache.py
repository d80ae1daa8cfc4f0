"""Keys and values that later rows attend to: how they lie, how they are written, sharded and grown."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from safety_align import sharding
from safety_align.model.config import TransformerConfig


class Write(NamedTuple):
    """New row `row` writes its keys and values to cache slot `slot`: a scalar for the whole batch, or [B]. A slice of rows writes
    to as many slots from `slot` on, a scalar then, and there are no checks beside them."""

    row: int | slice
    slot: jax.Array | int


def apart(mask: jax.Array, writes: Sequence[Write]) -> tuple[jax.Array, jax.Array]:
    """What new rows see of the slots that stay, and of one another, while they are not in the cache yet.

    mask: [B, N, T] over the slots as they will be. Returns ([B, N, T] without the slots that are written, [B, N, N] over the new
    rows). Every row writes a slot of its own.
    """
    places = jnp.arange(mask.shape[2])
    if isinstance(writes[0].row, slice):  # all rows, to as many slots
        (write,) = writes
        start, count = write.slot, mask.shape[1]
        written = (places >= start) & (places < start + count)
        return mask & ~written, jax.lax.dynamic_slice_in_dim(mask, start, count, axis=2)
    slots = [jnp.broadcast_to(write.slot, mask.shape[:1]) for write in sorted(writes, key=lambda write: write.row)]
    here = jnp.stack(slots, axis=1)[:, :, None] == places
    return mask & ~here.any(1)[:, None], (mask[:, :, None] & here[:, None]).any(-1)


@flax.struct.dataclass
class LayerCache:
    """Of one layer: keys and values, each [B, K, T, E] (axis legend in attention.py): rows and heads apart, so that they
    shard, and the slots of a head together, as attention reads them."""

    keys: jax.Array
    values: jax.Array

    def write(self, new: "LayerCache", writes: Sequence[Write]) -> "LayerCache":
        """With new rows [B, K, N, E] in the slots that `writes` name, each its own, as far as they are among the N."""
        return jax.tree.map(lambda old, rows: _place(_write(old, rows, writes)), self, new)

    def arrange(self, parts: Sequence[slice | int]) -> "LayerCache":
        """Other slots, in the order of `parts`: a slice of the present ones, or a number of new, blank ones."""
        return jax.tree.map(lambda x: _place(_arrange(x, parts)), self)


@flax.struct.dataclass
class Cache:
    """Of all layers, in their order; `scores` [B, 1, T, 2 E J] float32 is what a probe keeps of each token (readout.py)."""

    layers: tuple[LayerCache, ...]
    scores: jax.Array | None = None

    @classmethod
    def abstract(cls, config: TransformerConfig, rows: int, slots: int) -> "Cache":
        """Shapes and dtypes; nothing is allocated."""
        shape = (rows, config.kv_heads, slots, config.head_dim)
        one = jax.ShapeDtypeStruct(shape, jnp.dtype(config.dtype))
        scores = None
        if config.safety_signal and config.signal.kind == "probe":
            scores = jax.ShapeDtypeStruct((rows, 1, slots, config.signal.scores), jnp.float32)
        return cls((LayerCache(one, one),) * config.layers, scores)

    @classmethod
    def blank(cls, config: TransformerConfig, rows: int, slots: int, scores: bool) -> "Cache":
        """Zeros; `scores`: with a probe's."""
        shapes = cls.abstract(config, rows, slots)
        found = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes if scores else shapes.replace(scores=None))
        return found.placed()

    @property
    def slots(self) -> int:
        """T."""
        return self.layers[0].keys.shape[2]

    @property
    def bytes(self) -> int:
        """All of it, on all devices together."""
        return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(self))

    def arrange(self, parts: Sequence[slice | int]) -> "Cache":
        """`LayerCache.arrange` of every layer: to grow, `[slice(None), more]`."""
        scores = None if self.scores is None else _arrange(self.scores, parts)
        return Cache(tuple(layer.arrange(parts) for layer in self.layers), scores)

    def placed(self) -> "Cache":
        """The same, sharded by the rules table."""
        scores = None if self.scores is None else sharding.constrain(self.scores, sharding.BATCH, None, None, None)
        return Cache(jax.tree.map(_place, self.layers), scores)

    def write(self, new: "Cache", writes: Sequence[Write]) -> "Cache":
        """With new rows, N for slots, in the slots that `writes` name; layers that some rows do not reach have fewer."""
        layers = tuple(old.write(rows, writes) for old, rows in zip(self.layers, new.layers, strict=True))
        return Cache(layers, None if self.scores is None else _write(self.scores, new.scores, writes))


def _write(cache: jax.Array, new: jax.Array, writes: Sequence[Write]) -> jax.Array:
    for write in writes:
        if not isinstance(write.row, slice) and write.row >= new.shape[2]:
            continue
        value = new[:, :, write.row].astype(cache.dtype)
        if isinstance(write.row, slice):
            cache = jax.lax.dynamic_update_slice_in_dim(cache, value, write.slot, axis=2)
        else:
            # By rows even where all share a slot: written as one block, the TPU compiler would want the cache in another layout.
            slots = sharding.constrain(jnp.broadcast_to(write.slot, cache.shape[:1]), sharding.BATCH)
            cache = cache.at[jnp.arange(cache.shape[0]), :, slots].set(value)
    return cache


def _arrange(x: jax.Array, parts: Sequence[slice | int]) -> jax.Array:
    def part(which: slice | int) -> jax.Array:
        if isinstance(which, slice):
            return x[:, :, which]
        return jnp.zeros((*x.shape[:2], which, x.shape[3]), x.dtype)

    return jnp.concatenate([part(which) for which in parts], axis=2)


def _place(x: jax.Array) -> jax.Array:
    """Rows and key/value heads where the rules table has them, from the first write to the last: a loop that carries the
    cache then never moves it."""
    return sharding.constrain(x, sharding.BATCH, sharding.ACT_KV_HEADS, None, None)
