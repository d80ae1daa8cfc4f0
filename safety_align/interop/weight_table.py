"""Which Hugging Face tensor is which parameter: one table per family, complete, nothing guessed.

A linear layer is stored [out, in] there and as a matrix in → out here, its in or out axis split into heads. `{}` is
the layer. Paths are those of a block's parameters ("attention/wq"), or of the model's ("embedding").
"""

import dataclasses
import re

from safety_align.errors import InputError
from safety_align.model import TransformerConfig
from safety_align.model.readout import is_signal


@dataclasses.dataclass(frozen=True)
class Weight:
    """One row of a table: tensor name, parameter path, and whether the matrix is transposed."""

    name: str
    path: str
    transpose: bool = False

    @property
    def layered(self) -> bool:
        """One tensor for each layer."""
        return "{}" in self.name


_LAYER = "model.layers.{}."

_LLAMA = (
    Weight("model.embed_tokens.weight", "embedding"),
    Weight("model.norm.weight", "final_norm/scale"),
    Weight("lm_head.weight", "lm_head", transpose=True),
    Weight(_LAYER + "input_layernorm.weight", "attention_norm/scale"),
    Weight(_LAYER + "self_attn.q_proj.weight", "attention/wq", transpose=True),
    Weight(_LAYER + "self_attn.k_proj.weight", "attention/wk", transpose=True),
    Weight(_LAYER + "self_attn.v_proj.weight", "attention/wv", transpose=True),
    Weight(_LAYER + "self_attn.o_proj.weight", "attention/wo", transpose=True),
    Weight(_LAYER + "post_attention_layernorm.weight", "mlp_norm/scale"),
    Weight(_LAYER + "mlp.gate_proj.weight", "mlp/gate", transpose=True),
    Weight(_LAYER + "mlp.up_proj.weight", "mlp/up", transpose=True),
    Weight(_LAYER + "mlp.down_proj.weight", "mlp/down", transpose=True),
)

TABLES = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA
    + (
        Weight(_LAYER + "self_attn.q_proj.bias", "attention/bq"),
        Weight(_LAYER + "self_attn.k_proj.bias", "attention/bk"),
        Weight(_LAYER + "self_attn.v_proj.bias", "attention/bv"),
    ),
    "qwen3": _LLAMA
    + (
        Weight(_LAYER + "self_attn.q_norm.weight", "attention/q_norm/scale"),
        Weight(_LAYER + "self_attn.k_norm.weight", "attention/k_norm/scale"),
    ),
}

DERIVED = re.compile(r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.(original_)?inv_freq")
"""Buffers that some files carry, of each layer or of the model, and that follow from the config."""


def table_of(family: str, config: TransformerConfig) -> tuple[Weight, ...]:
    """The rows that a model of this config has: a tied model stores no LM head."""
    return tuple(w for w in TABLES[family] if not (config.tied_embeddings and w.path == "lm_head"))


def stored_shape(weight: Weight, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the tensor whose parameter, of one layer, has `shape`."""
    rows, columns = matrix_axes(weight.path, len(shape))
    sizes = [_product(shape[a] for a in axes) for axes in (rows, columns) if axes]
    return tuple(reversed(sizes)) if weight.transpose else tuple(sizes)


def matrix_axes(path: str, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Axes of a parameter that make the rows and the columns of its matrix; a vector, or a bias of heads, is one row
    of columns: no row axes."""
    name = path.rsplit("/", 1)[-1]
    if rank < 2 or name in ("bq", "bk", "bv"):
        return (), tuple(range(rank))
    if is_signal(name):
        first = rank - 1
    else:
        first = 2 if name == "wo" else 1  # wo is [heads, head size, width]
    return tuple(range(first)), tuple(range(first, rank))


def axis_range(shape: tuple[int, ...], part: tuple[tuple[int, int], ...], axes: tuple[int, ...]) -> tuple[int, int]:
    """The range `[lo, hi)` of the merged `axes` that `part` ((lo, hi) per axis) is; only the first may be sharded."""
    if not axes:
        return 0, 1
    inner = _product(shape[a] for a in axes[1:])
    for a in axes[1:]:
        if tuple(part[a]) != (0, shape[a]):
            raise InputError(f"cannot read a parameter of shape {shape} sharded along axis {a}; choose another mesh")
    lo, hi = part[axes[0]]
    return lo * inner, hi * inner


def _product(sizes) -> int:
    total = 1
    for size in sizes:
        total *= int(size)
    return total
