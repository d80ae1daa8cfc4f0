"""What a compiled program uses: memory and collectives, and the formulas it is held against."""

import collections
import dataclasses
import math
import re

import flax.linen as nn
import jax
import numpy as np

from safety_align import sharding
from safety_align.model import TransformerConfig, abstract_params
from safety_align.placement import Batch
from safety_align.training.config import TrainConfig
from safety_align.training.losses import Totals

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


def activation_bytes(config: TrainConfig, mesh) -> int:
    """Bytes per chip that the forward pass of a (micro)batch leaves for the backward pass, besides parameters.

    From the residuals of the loss's linearisation: what grows with the rows, taken to be spread evenly. XLA may keep fewer.
    """
    data = config.pipeline
    rows = data.batch_size // config.accumulation
    model = dataclasses.replace(config.model, attention="chunked")  # as the kernels, it keeps no scores
    objective = dataclasses.replace(config.objective, model=model)

    def residuals(params, batch):
        return jax.vjp(lambda p: objective.losses(p, batch, Totals.of(batch))[0], params)[1]

    def kept(rows: int) -> int:
        batch = Batch.abstract(data.row_shape, rows)
        found = jax.tree.leaves(jax.eval_shape(residuals, nn.unbox(abstract_params(model)), batch))
        return sum(math.prod(x.shape) * x.dtype.itemsize for x in found)

    shards = mesh.shape["data"] * mesh.shape["fsdp"] * mesh.shape["sequence"]
    return (kept(2 * rows) - kept(rows)) // shards


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


def copied_parameters(text: str) -> int:
    """Bytes off-chip that the entry computation of a compiled module copies to another layout, outside of its loops."""
    copies = (match for line in text[text.index("\nENTRY ") :].splitlines() if (match := _COPY.search(line)))
    return sum(_bytes(match[1], match[2]) for match in copies if "S(1)" not in match[3])  # S(1): on-chip memory


_COPY = re.compile(r"= (pred|[a-z]+\d+)\[([\d,]*)\](\S*) copy\(")


def largest_collectives(text: str, kind: str) -> list[int]:
    """Bytes of the results of all collectives of a kind, largest first."""
    found = []
    for line in text.splitlines():
        if (match := _COLLECTIVE.search(line)) and match[2] == kind:
            found.append(max((_bytes(*shape) for shape in _SHAPE.findall(match[1])), default=0))
    return sorted(found, reverse=True)
