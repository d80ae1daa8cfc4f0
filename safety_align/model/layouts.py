"""How weights lie in a TPU's memory for decoding: as the loop reads them, so that its program need not lay them out anew at each call.

Left to itself the compiler takes arguments as they come and copies two thirds of a 7B model's weights; so, of one row alone, a few. The
order of axes was read from what it copied them to (`launch.compile_pod` prints how much is `copied`). Shapes and values stay as they are.
"""

import jax
from jax.experimental.layout import Format, Layout

MAJOR_TO_MINOR = {
    "wq": (1, 2, 0), "wk": (1, 2, 0), "wv": (1, 2, 0), "gate": (0, 1), "up": (0, 1), "lm_head": (0, 1),
}  # fmt: skip
"""Order of the axes of a weight in memory, by name; of others the default."""


def decoding_format(path: tuple, sharding: jax.sharding.Sharding, platform: str) -> jax.sharding.Sharding | Format:
    """Where a parameter lies, and on a TPU in which order; `path`: its keys in the tree of parameters."""
    order = MAJOR_TO_MINOR.get(getattr(path[-1], "key", None)) if platform == "tpu" else None
    return sharding if order is None else Format(Layout(order), sharding)


def lay_out(params: dict, platform: str | None = None) -> dict:
    """Unrolled parameters as a program on `platform` (None: theirs) reads them. Those that are moved are freed, one after the other: a
    model that fills the devices never stands there twice."""

    def placed(path, leaf: jax.Array) -> jax.Array:
        where = platform or next(iter(leaf.sharding.device_set)).platform
        form = decoding_format(path, leaf.sharding, where)
        return leaf if form is leaf.sharding else jax.block_until_ready(jax.device_put(leaf, form, donate=True))

    return jax.tree_util.tree_map_with_path(placed, params)
