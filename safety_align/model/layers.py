"""The pieces of a block: norm, attention, SwiGLU. Axis legend in attention.py."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from safety_align import sharding
from safety_align.model import kernels
from safety_align.model.attention import in_parts, rotate, routed_attention
from safety_align.model.cache import LayerCache
from safety_align.model.config import TransformerConfig
from safety_align.model.quantized import Int8Weight, Weight, product
from safety_align.model.readout import Adapter
from safety_align.routing import Routing


def parameter(module: nn.Module, name: str, shape: tuple[int, ...], axes: tuple[str | None, ...], init) -> Weight:
    """Declares a parameter that carries its logical axes, cast for activations; one of int8 stays so."""
    config: TransformerConfig = module.config
    if isinstance(held := module.get_variable("params", name), Int8Weight):
        return held
    value = module.param(name, nn.with_logical_partitioning(init, axes), shape, jnp.dtype(config.float_dtype))
    return value.astype(config.dtype)


def fan_in(*axes: int):
    """Normal initialiser with variance 1 / fan-in, the fan-in being the product of `axes`."""
    return nn.initializers.variance_scaling(1.0, "fan_in", "normal", in_axis=axes, out_axis=-1)


class RMSNorm(nn.Module):
    """x / rms(x) * scale over the last axis, in float32."""

    config: TransformerConfig

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init = nn.with_logical_partitioning(nn.initializers.ones, (None,))
        scale = self.param("scale", init, (x.shape[-1],), jnp.dtype(self.config.float_dtype)).astype(jnp.float32)
        wide = x.astype(jnp.float32)
        wide *= jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + self.config.norm_eps)
        return (wide * scale).astype(x.dtype)


class Attention(nn.Module):
    """Grouped-query attention with RoPE; biases and head norms where the family has them."""

    config: TransformerConfig

    def setup(self):
        c = self.config
        width, query, kv = sharding.WIDTH, sharding.HEADS, sharding.KV_HEADS
        self.wq = parameter(self, "wq", (c.width, c.heads, c.head_dim), (width, query, None), _heads_out)
        self.wk = parameter(self, "wk", (c.width, c.kv_heads, c.head_dim), (width, kv, None), _heads_out)
        self.wv = parameter(self, "wv", (c.width, c.kv_heads, c.head_dim), (width, kv, None), _heads_out)
        self.wo = parameter(self, "wo", (c.heads, c.head_dim, c.width), (query, None, width), fan_in(0, 1))
        if c.qkv_bias:
            zeros = nn.initializers.zeros
            self.bq = parameter(self, "bq", (c.heads, c.head_dim), (query, None), zeros)
            self.bk = parameter(self, "bk", (c.kv_heads, c.head_dim), (kv, None), zeros)
            self.bv = parameter(self, "bv", (c.kv_heads, c.head_dim), (kv, None), zeros)
        if c.qk_norm:
            self.q_norm, self.k_norm = RMSNorm(c), RMSNorm(c)

    def _project(self, x, angles, adapter: Adapter | None = None):
        q, k, v = (_heads(x, weight, self.config.head_dim) for weight in (self.wq, self.wk, self.wv))
        if adapter is not None:
            q, k, v = (adapter.add(name, x, y) for name, y in (("wq", q), ("wk", k), ("wv", v)))
        if self.config.qkv_bias:
            q, k, v = q + self.bq, k + self.bk, v + self.bv
        if self.config.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = rotate(q, angles), rotate(k, angles)
        q = sharding.constrain(q, sharding.BATCH, sharding.LENGTH, sharding.ACT_HEADS, None)
        # Along the sequence axis every device has its queries, and all keys and values.
        k, v = (sharding.constrain(t, sharding.BATCH, sharding.ALL_LENGTH, sharding.ACT_KV_HEADS, None) for t in (k, v))
        return q, k.swapaxes(1, 2), v.swapaxes(1, 2)

    def _output(self, heads, adapter: Adapter | None = None):
        rows = heads.reshape(-1, heads.shape[2] * heads.shape[3])
        out = product(rows, self.wo).reshape(*heads.shape[:2], -1)
        return out if adapter is None else adapter.add("wo", heads, out)

    def __call__(self, x: jax.Array, angles, routing: Routing, positions) -> tuple[jax.Array, LayerCache]:
        """Whole rows: x [B, S, D] → ([B, S, D], keys and values of the row)."""
        q, k, v = self._project(x, angles)
        backend = kernels.choose(self.config.attention, jax.default_backend())
        out = routed_attention(q, k, v, routing, positions, self.config.sliding_window, backend)
        return self._output(out), LayerCache(k, v)

    def over(self, x, angles, cache: LayerCache, masks, adapter=None) -> tuple[jax.Array, LayerCache]:
        """New rows over a cache → (what they get, their keys and values); see `SafetyTransformer.over`."""
        q, k, v = self._project(x, angles, adapter)
        return self._output(kernels.over_cache(q, cache.keys, cache.values, k, v, *masks), adapter), LayerCache(k, v)

    def beside(self, x, angles, tokens: LayerCache, reads, adapter=None) -> jax.Array:
        """Check rows x [B, M, D], each over the keys that it `reads` [B, M, S] among the `tokens`', and its own."""
        q, k, v = self._project(x, angles, adapter)
        attend = lambda q, k, v, reads: kernels.with_own_key(q, tokens.keys, tokens.values, k, v, reads)  # noqa: E731
        own = (k.swapaxes(1, 2), v.swapaxes(1, 2))
        return self._output(in_parts(attend, q, *own, reads), adapter)


def _heads(x: jax.Array, weight: Weight, size: int) -> jax.Array:
    """x [B, S, D] and weight [D, heads, E = size] → [B, S, heads, E], as a matmul of two axes: as an einsum of three, XLA's
    CPU backend keeps a transposed copy of the weight through the whole decoding loop."""
    return product(x.reshape(-1, x.shape[-1]), weight).reshape(*x.shape[:2], -1, size)


def _heads_out(key, shape, dtype):
    return fan_in(0)(key, (shape[0], shape[1] * shape[2]), dtype).reshape(shape)


class SwiGLU(nn.Module):
    """(silu(x W_gate) * x W_up) W_down."""

    config: TransformerConfig

    @nn.compact
    def __call__(self, x: jax.Array, adapter: Adapter | None = None) -> jax.Array:
        c = self.config
        gate = parameter(self, "gate", (c.width, c.mlp_width), (sharding.WIDTH, sharding.MLP), fan_in(0))
        up = parameter(self, "up", (c.width, c.mlp_width), (sharding.WIDTH, sharding.MLP), fan_in(0))
        down = parameter(self, "down", (c.mlp_width, c.width), (sharding.MLP, sharding.WIDTH), fan_in(0))
        # Rows and slots as one axis: the CPU backend runs the backward pass of the 2D form 1.5 times as fast.
        flat = x.reshape(-1, c.width)
        gated, raised = product(flat, gate), product(flat, up)
        if adapter is not None:
            gated, raised = (
                adapter.add(name, x, y.reshape(*x.shape[:2], -1)).reshape(y.shape)
                for name, y in (("gate", gated), ("up", raised))
            )
        hidden = jax.nn.silu(gated) * raised
        hidden = sharding.constrain(hidden, sharding.SLOTS, sharding.ACT_MLP)
        out = product(hidden, down).reshape(x.shape)
        return out if adapter is None else adapter.add("down", hidden.reshape(*x.shape[:2], -1), out)


class Block(nn.Module):
    """Pre-norm attention and MLP with residuals."""

    config: TransformerConfig

    def setup(self):
        self.attention_norm, self.mlp_norm = RMSNorm(self.config), RMSNorm(self.config)
        self.attention, self.mlp = Attention(self.config), SwiGLU(self.config)

    def _residual(self, x, attended, adapter: Adapter | None = None):
        x = sharding.constrain(x + attended, sharding.BATCH, sharding.LENGTH, sharding.ACT_WIDTH)
        with jax.named_scope("mlp"):
            x = x + self.mlp(self.mlp_norm(x), adapter)
        return sharding.constrain(x, sharding.BATCH, sharding.LENGTH, sharding.ACT_WIDTH)

    def __call__(self, x: jax.Array, angles, routing: Routing, positions) -> tuple[jax.Array, LayerCache]:
        """x [B, S, D], positions [B, S] → ([B, S, D], keys and values)."""
        with jax.named_scope("attention"):
            attended, cache = self.attention(self.attention_norm(x), angles, routing, positions)
        return self._residual(x, attended), cache

    def over(self, x, angles, cache: LayerCache, masks, adapter=None) -> tuple[jax.Array, LayerCache]:
        """x [B, N, D] over a cache → ([B, N, D], its keys and values)."""
        with jax.named_scope("attention"):
            attended, new = self.attention.over(self.attention_norm(x), angles, cache, masks, adapter)
        return self._residual(x, attended, adapter), new

    def beside(self, x, angles, tokens: LayerCache, reads, adapter=None) -> jax.Array:
        """Check rows x [B, M, D] over the keys and values of tokens that they do not belong to → [B, M, D]."""
        with jax.named_scope("cls_rows"):
            attended = self.attention.beside(self.attention_norm(x), angles, tokens, reads, adapter)
        return self._residual(x, attended, adapter)

    def normed(self, x: jax.Array) -> jax.Array:
        """x [B, N, D] as this block's attention reads it."""
        return self.attention_norm(x)
