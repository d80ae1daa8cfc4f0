"""Where every parameter lives, held against golden tables; after a change that is meant:

UPDATE_GOLDEN=1 python -m pytest tests/test_partition_specs.py
"""

import difflib
import os
import pathlib

import flax.linen as nn
import jax
import pytest
from jax.sharding import AbstractMesh, AxisType

from safety_align import sharding
from safety_align.model import abstract_params, preset
from safety_align.training.objective import Objective
from safety_align.training.optimizer import OptimizerConfig, make_optimizer
from safety_align.training.step import state_shardings

GOLDEN = pathlib.Path(__file__).parent / "golden"


def abstract_mesh() -> AbstractMesh:
    return AbstractMesh((1, 4, 1, 2), sharding.MESH_AXES, axis_types=(AxisType.Auto,) * len(sharding.MESH_AXES))


def table(name: str) -> str:
    """One line a parameter: name, shape, mesh axes of each of its axes, shape of a chip's part."""
    mesh = abstract_mesh()
    boxed = abstract_params(preset(name))
    shapes, where = nn.unbox(boxed), sharding.param_shardings(mesh, boxed)
    lines = [f"# {name} on a mesh of fsdp 4, tensor 2"]
    for (path, leaf), (_, place) in zip(
        jax.tree_util.tree_leaves_with_path(shapes), jax.tree_util.tree_leaves_with_path(where), strict=True
    ):
        key = jax.tree_util.keystr(path, simple=True, separator="/")
        spec = ", ".join("-" if axes is None else str(axes) for axes in (*place.spec, *[None] * leaf.ndim)[: leaf.ndim])
        lines.append(f"{key:36} {list(leaf.shape)!s:24} ({spec:28}) {list(place.shard_shape(leaf.shape))}")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", ["llama2_7b", "llama3_2_1b", "qwen2_5_7b", "qwen3_8b"])
def test_parameters_live_where_the_golden_table_says(name):
    path, found = GOLDEN / f"partition_specs_{name}.txt", table(name)
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(found)
    wanted = path.read_text()
    changes = difflib.unified_diff(wanted.splitlines(), found.splitlines(), str(path.name), "now", lineterm="", n=0)
    assert found == wanted, "\n" + "\n".join(changes)


def test_moments_live_where_their_parameters_live():
    """Both of Adam's, of every parameter; what belongs to none is on every device."""
    objective = Objective(preset("llama2_7b"))
    found = state_shardings(objective, make_optimizer(OptimizerConfig(), 10), abstract_mesh())
    adam = next(
        part for part in jax.tree.leaves(found.opt_state, is_leaf=lambda x: hasattr(x, "mu")) if hasattr(part, "mu")
    )
    assert adam.mu == adam.nu == found.params
    assert adam.count.is_fully_replicated and found.step.is_fully_replicated
    assert not all(where.is_fully_replicated for where in jax.tree.leaves(adam.mu))
