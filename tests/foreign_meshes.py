"""Run by test_other_code.py on four fake devices: the model under meshes that are not this project's. Prints one line each."""

import os

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from make import TINY, random_params, random_rows

from safety_align.model import SafetyTransformer, abstract_params

TOLERANCE = 2e-5  # of the largest number of an array: float32, sums in another order
AUTO, EXPLICIT = AxisType.Auto, AxisType.Explicit


def logits(params, batch):
    out = SafetyTransformer(TINY).apply({"params": params}, *batch.inputs)
    return out.logits, out.safety_logits


def total(params, batch):
    return sum((x**2).sum() for x in logits(params, batch))


def main():
    seed = int(np.random.default_rng().integers(1 << 30))
    print("seed", seed)
    batch, _ = random_rows(np.random.default_rng(seed), rows=4)
    params = random_params()
    expected, gradient = jax.jit(logits)(params, batch), jax.jit(jax.grad(total))(params, batch)

    def check(name, found, wanted=expected):
        for a, b in zip(*map(jax.tree.leaves, (found, wanted)), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE * max(1, np.abs(b).max()))
        print("right:", name)

    for shape, names in (((4,), ("x",)), ((2, 2), ("data", "model")), ((2, 2), ("tensor", "y")), ((4,), ("sequence",))):
        mesh = jax.make_mesh(shape, names, axis_types=(AUTO,) * len(names))
        with jax.set_mesh(mesh):
            rows = jax.device_put(batch, NamedSharding(mesh, PartitionSpec(names[0])))
            check(f"{names}", jax.jit(logits)(params, rows))
    mesh = jax.make_mesh((2, 2), ("tensor", "y"), axis_types=(AUTO, AUTO))
    with jax.set_mesh(mesh):
        check("gradients", jax.jit(jax.grad(total))(params, batch), gradient)
        axes = jax.tree.map(lambda like: like.names if isinstance(like, nn.LogicallyPartitioned) else None,
            abstract_params(TINY), is_leaf=lambda like: isinstance(like, nn.LogicallyPartitioned))  # fmt: skip
        boxed = jax.tree.map(nn.LogicallyPartitioned, params, axes)
        check("parameters with their axes", jax.jit(logits)(boxed, batch))

    mesh = jax.make_mesh((2, 2), ("data", "tensor"), axis_types=(EXPLICIT,) * 2)
    with jax.set_mesh(mesh):
        check("explicit axes, everything on every device", jax.jit(logits)(params, batch))
        rows = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
        inner = jax.sharding.auto_axes(logits, out_sharding=PartitionSpec("data"))
        check("explicit axes left to the compiler", jax.jit(inner)(params, rows))

    mesh = jax.make_mesh((2, 2), ("data", "tensor"), axis_types=(AUTO,) * 2)
    rows = PartitionSpec("data")
    whole = jax.shard_map(logits, mesh=mesh, in_specs=(PartitionSpec(), rows), out_specs=rows, check_vma=False)
    check("shard_map", jax.jit(whole)(params, batch))
    part = jax.shard_map(
        logits, mesh=mesh, in_specs=(PartitionSpec(), rows), out_specs=rows, axis_names={"data"}, check_vma=False
    )
    check("shard_map of one axis, the other one left to the compiler", jax.jit(part)(params, batch))


main()
