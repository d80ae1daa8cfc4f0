"""Weights of one byte each, for decoding: int8 values, and a float32 scale for every output channel.

Stored transposed, a channel's values beside one another: as products read them, so that no program lays them out anew.

A step of decoding reads every weight once, so a quarter (of bfloat16 a half) of the bytes is as much less time where memory is the
bound. Activations keep their dtype; norms, biases and the safety signal stay as they are. Rounding is to the nearest, the scale
the channel's largest magnitude over 127.

On a CPU a product of floats widens every weight first, which costs more than it saves where rows are few; a product of int8 by int8
is fast. Activations are written as two digits of int8 there (`digits_product`), 15 bits of a row's largest, so that in effect only weights
are rounded.
"""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from safety_align.errors import InputError

INT8 = "int8"
"""`TransformerConfig.param_dtype` of a model whose weights are of this form."""

CONTRACTED = {
    "wq": (0,), "wk": (0,), "wv": (0,), "wo": (0, 1), "gate": (0,), "up": (0,), "down": (0,),
    "embedding": (1,), "lm_head": (0,),
}  # fmt: skip
"""The weights that are quantised, by name, each with the axes that a product sums over: all others are its channels."""

LARGEST, DIGIT = 127, 254
"""Of int8 values, taken symmetric; and how many steps of the second digit make one of the first."""

MOST_ROWS = 32
"""Of a product in digits on a CPU: with more, widening the weight costs less than the second digit (`launch.benchmark products`)."""


@flax.struct.dataclass
class Int8Weight:
    """A weight [K…, M…] with channels M: values: int8 [M…, K…]; scale: float32 [M…]."""

    values: jax.Array
    scale: jax.Array


Weight = jax.Array | Int8Weight


def quantize(weight: jax.Array, axes: tuple[int, ...]) -> Int8Weight:
    """The nearest int8 weight; `axes` are contracted. A channel with a number that is not finite stays one: its scale is none."""
    channels = _channels(weight.ndim, axes)
    wide = weight.astype(jnp.float32).transpose(*channels, *axes)
    largest = jnp.max(jnp.abs(wide), axis=tuple(range(len(channels), wide.ndim)), keepdims=True)
    scale = jnp.where(largest == 0, 1.0, largest / LARGEST)
    return Int8Weight(jnp.round(wide / scale).astype(jnp.int8), scale.reshape(wide.shape[: len(channels)]))


def _channels(ndim: int, axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(axis for axis in range(ndim) if axis not in axes)


def widened(weight: Weight, axes: tuple[int, ...]) -> jax.Array:
    """The weight as a float32 array; `axes` are contracted."""
    if not isinstance(weight, Int8Weight):
        return weight.astype(jnp.float32)
    scale = weight.scale.reshape(*weight.scale.shape, *[1] * len(axes))
    order = (*_channels(weight.values.ndim, axes), *axes)
    return (weight.values.astype(jnp.float32) * scale).transpose([order.index(axis) for axis in range(len(order))])


def matrix(weight: Weight) -> jax.Array:
    """A weight of two axes, the first contracted, as an array; floats as they are."""
    return widened(weight, (0,)) if isinstance(weight, Int8Weight) else weight


def product(x: jax.Array, weight: Weight) -> jax.Array:
    """x [N, K] times a weight [K…, M…], whose leading axes make K and whose others make M → [N, M], of x's dtype."""
    if not isinstance(weight, Int8Weight):
        return x @ weight.reshape(x.shape[-1], -1)
    return product32(x, weight).astype(x.dtype)


def product32(x: jax.Array, weight: Int8Weight) -> jax.Array:
    """`product` with an int8 weight, in float32."""
    return _dot(x, weight.values.reshape(-1, x.shape[-1])) * weight.scale.reshape(-1)


def rows(table: Weight, ids: jax.Array, dtype) -> jax.Array:
    """Rows `ids` [...] of a table [V, D], whose channels they are → [..., D]."""
    if not isinstance(table, Int8Weight):
        return jnp.take(table, ids, axis=0)
    values, scale = (jnp.take(part, ids, axis=0) for part in (table.values, table.scale))
    return (values.astype(jnp.float32) * scale[..., None]).astype(dtype)


@jax.custom_jvp
def _dot(x: jax.Array, values: jax.Array) -> jax.Array:
    """x [N, K] times int8 values [M, K] → [N, M] float32."""
    return jax.lax.platform_dependent(
        x, values, cpu=digits_product if len(x) <= MOST_ROWS else floats_product, default=floats_product
    )


@_dot.defjvp
def _dot_jvp(primals, tangents):
    # Rounding to digits has no slope; the product that it stands for has.
    return _dot(*primals), floats_product(tangents[0], primals[1])


def floats_product(x: jax.Array, values: jax.Array) -> jax.Array:
    """x [N, K] times int8 values [M, K], widened to x's dtype → [N, M] float32."""
    return jnp.einsum("nk,mk->nm", x, values.astype(x.dtype), preferred_element_type=jnp.float32)


def digits_product(x: jax.Array, values: jax.Array) -> jax.Array:
    """The same by x = unit * (first + second / 254), both digits int8; the sums of their products are exact in int32.

    The digits stand beside one another as rows: XLA's CPU backend has a fast product from two rows on, and none for one.
    """
    wide = x.astype(jnp.float32)
    largest = jnp.max(jnp.abs(wide), axis=-1, keepdims=True)
    unit = jnp.where(largest == 0, 1.0, largest / LARGEST)
    first = jnp.round(wide / unit)
    second = jnp.round((wide / unit - first) * DIGIT)
    digits = jnp.stack([first, second]).astype(jnp.int8)
    sums = jnp.einsum("dnk,mk->dnm", digits, values, preferred_element_type=jnp.int32).astype(jnp.float32)
    return (sums[0] + sums[1] / DIGIT) * unit


def check_weights(weights: str | None) -> None:
    """Raises InputError for a way of rounding that there is not."""
    if weights not in (None, INT8):
        raise InputError(f"weights {weights!r} is not {INT8!r}, or None for weights that are not rounded")


def quantize_params(params: dict, consume: bool = False) -> dict:
    """Parameters (unboxed, layers unrolled) with int8 weights, each where it was; the others as they are.

    `consume` frees each weight once its int8 form is there: a model that fills the devices never stands there twice, and
    `params` must not be used afterwards.
    """
    return jax.tree_util.tree_map_with_path(lambda path, leaf: quantize_leaf(path[-1].key, leaf, consume), params)


def quantize_leaf(name: str, leaf: jax.Array, consume: bool = False) -> Weight:
    """The parameter of that name: int8 if it is a weight, else as it is. `consume`: as of `quantize_params`."""
    if name not in CONTRACTED:
        return leaf
    found = jax.block_until_ready(_quantize(leaf, CONTRACTED[name]))
    if consume:
        leaf.delete()
    return found


_quantize = jax.jit(quantize, static_argnums=1)


def abstract(boxed: dict) -> dict:
    """The shapes and logical axes of `quantize_params`, of those of float parameters (`transformer.abstract_params`)."""

    def one(path, box):
        axes = CONTRACTED.get(path[-1].key)
        if axes is None:
            return box
        channels = _channels(len(box.names), axes)

        def part(order, dtype):
            shape, names = (tuple(sizes[axis] for axis in order) for sizes in (box.value.shape, box.names))
            return box.replace(value=jax.ShapeDtypeStruct(shape, dtype), names=names)

        return Int8Weight(part((*channels, *axes), jnp.int8), part(channels, jnp.float32))

    return jax.tree_util.tree_map_with_path(one, boxed, is_leaf=lambda x: isinstance(x, nn.Partitioned))
