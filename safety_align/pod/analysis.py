"""What a compiled program uses: memory and collectives, and the formulas it is held against."""

import collections
import math
import re

import flax.linen as nn
import jax
import numpy as np

from safety_align import sharding
from safety_align.model import TransformerConfig, abstract_params
from safety_align.training.config import TrainConfig

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")


def memory(compiled) -> dict[str, int]:
    """Bytes per chip: arguments (parameters, optimizer, batch), temporaries, aliased (updated in place), peak."""
    found = compiled.memory_analysis()
    held = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return {
        "arguments": found.argument_size_in_bytes,
        "aliased": found.alias_size_in_bytes,
        "temporaries": found.temp_size_in_bytes,
        "program": found.generated_code_size_in_bytes,
        "peak": held + found.temp_size_in_bytes + found.generated_code_size_in_bytes,
    }


def parameter_bytes(model: TransformerConfig, mesh) -> int:
    """Bytes of the parameters on one chip."""
    boxed = abstract_params(model)
    where = sharding.param_shardings(mesh, boxed)
    sizes = jax.tree.map(lambda x, s: math.prod(s.shard_shape(x.shape)) * x.dtype.itemsize, nn.unbox(boxed), where)
    return sum(jax.tree.leaves(sizes))


def collectives(text: str) -> dict[str, dict[str, int]]:
    """Collectives of a compiled module's text by kind: how many instructions, and the bytes of their results.

    An instruction within the loop over layers is counted once, as it stands in the text.
    """
    found: dict[str, dict[str, int]] = collections.defaultdict(lambda: {"count": 0, "bytes": 0})
    for line in text.splitlines():
        if match := _COLLECTIVE.search(line):
            found[match[2]]["count"] += 1
            found[match[2]]["bytes"] += max((_bytes(*shape) for shape in _SHAPE.findall(match[1])), default=0)
    return dict(found)


_COLLECTIVE = re.compile(rf"= (\S.*?) ({'|'.join(COLLECTIVES)})(?:-start)?\(")
_SHAPE = re.compile(r"\b(pred|[a-z]+\d+)\[([\d,]*)\]")


def _bytes(dtype: str, dims: str) -> int:
    bits = 8 if dtype == "pred" else int(re.search(r"\d+", dtype)[0])
    return int(np.prod([int(n) for n in dims.split(",") if n], dtype=np.int64)) * bits // 8


def largest_collectives(text: str, kind: str) -> list[int]:
    """Bytes of the results of all collectives of a kind, largest first."""
    found = []
    for line in text.splitlines():
        if (match := _COLLECTIVE.search(line)) and match[2] == kind:
            found.append(max((_bytes(*shape) for shape in _SHAPE.findall(match[1])), default=0))
    return sorted(found, reverse=True)


def forward_flops(model: TransformerConfig, tokens: float, keys: float, logits: float) -> float:
    """FLOPs of a forward pass over `tokens` tokens that see `keys` keys each, with `logits` rows of next-token logits."""
    projections = model.width * model.head_dim * (2 * model.heads + 2 * model.kv_heads)
    matrices = tokens * model.layers * (projections + 3 * model.width * model.mlp_width)
    attention = tokens * keys * model.layers * 2 * model.heads * model.head_dim
    return 2 * (matrices + attention + logits * model.width * model.vocab_size)


def train_flops(config: TrainConfig) -> float:
    """Model FLOPs of one training step: forward, and twice that backward; what is recomputed does not count.

    Causal attention counted once (half the square); `[CLS]` rows as one more row of keys each.
    """
    data = config.pipeline
    tokens = data.batch_size * data.sequence_length
    forward = forward_flops(config.model, tokens, data.sequence_length / 2, tokens)
    checks = data.batch_size * data.checks_per_row * data.sequence_length
    return 3 * (forward + 2 * checks * config.model.layers * 2 * config.model.heads * config.model.head_dim)
