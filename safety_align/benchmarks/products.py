"""`launch.benchmark products`: a product with weights of one byte, by rows, over the same in float32."""

import statistics

import jax
import jax.numpy as jnp
import numpy as np

from safety_align.benchmarks.timing import median_ratio, paired, timed
from safety_align.model.quantized import MOST_ROWS, Int8Weight, digits_product, floats_product, quantize

ROWS = (1, 2, 4, 8, 16, MOST_ROWS, 64, 128, 256, 512)


def products(width: int, channels: int, weights: int, rounds: int, progress=None) -> dict:
    """`weights` matrices [width, channels], one after the other, times as many rows as `ROWS` says.

    Returns, by rows: float32_ms; and over it "digits" (activations as two int8 digits), "widened" (the weight as floats, its scale
    behind the product) and "scaled" (the weight as floats, scaled before the product, as `qwix` has it).
    """
    rng = np.random.default_rng(0)
    whole = [jnp.asarray(rng.normal(size=(width, channels)), jnp.float32) for _ in range(weights)]
    rounded = [quantize(weight, (0,)) for weight in whole]
    kinds = {
        "float32": (lambda x, weight: x @ weight, whole),
        "digits": (lambda x, weight: digits_product(x, weight.values) * weight.scale, rounded),
        "widened": (lambda x, weight: floats_product(x, weight.values) * weight.scale, rounded),
        "scaled": (_scaled, rounded),
    }
    runs = {}
    for rows in ROWS:
        x = jnp.asarray(rng.normal(size=(rows, width)), jnp.float32)
        for name, (multiply, held) in kinds.items():
            runs[name, rows] = _run(multiply, x, held)
    seconds = paired(runs, rounds, progress)
    found: dict = {"float32_ms": {str(rows): 1e3 * statistics.median(seconds["float32", rows]) for rows in ROWS}}
    for name in ("digits", "widened", "scaled"):
        found[name] = {str(rows): median_ratio(seconds[name, rows], seconds["float32", rows]) for rows in ROWS}
    return found


def _scaled(x: jax.Array, weight: Int8Weight) -> jax.Array:
    return jnp.einsum("nk,mk->nm", x, weight.values.astype(x.dtype) * weight.scale[:, None])


def _run(multiply, x: jax.Array, held: list):
    @jax.jit
    def all_of_them(x, held):
        total = jnp.zeros((), x.dtype)
        for weight in held:
            out = multiply(x, weight)
            total += out.sum()
            x = x + 1e-9 * out[:, :1]  # the next waits for this one
        return total

    jax.block_until_ready(all_of_them(x, held))  # compiles
    return timed(lambda: all_of_them(x, held))
