"""Rows and batches: one layout, in numpy, as shapes, and whatever is in it. What a placement says is in test_routing.py."""

import dataclasses

import jax
import numpy as np
import pytest
from make import random_rows, random_segment

from safety_align.data.pipeline import PipelineConfig
from safety_align.placement import Batch, Pair, RowShape
from safety_align.routing import IGNORED

SHAPES = [RowShape(40), RowShape(40, checks=3), RowShape(40, pairs=2), RowShape(40, checks=6, pairs=1)]


def in_row(rng, shape: RowShape) -> list:
    """A segment where there is room for its checks, a pair where there is room for one."""
    items: list = [random_segment(rng, 4, 5, windows=2, signal=shape.checks > 0)]
    if shape.pairs:
        rejected = dataclasses.replace(random_segment(rng, 4, 5, signal=False), train_lm=False)
        items.append(Pair(random_segment(rng, 4, 5, signal=False), rejected, (-3.0, -4.0)))
    return items


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_an_abstract_batch_has_the_shapes_of_a_real_one(shape):
    rng = np.random.default_rng(0)
    real, where = (
        Batch.of([in_row(rng, shape) for _ in range(3)], shape),
        jax.sharding.SingleDeviceSharding(jax.devices()[0]),
    )
    abstract = Batch.abstract(shape, 3, where)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), abstract) == jax.tree.map(lambda x: (x.shape, x.dtype), real)
    assert all(x.sharding == where for x in jax.tree.leaves(abstract))
    assert real.pair_weights.sum() == (3 if shape.pairs else 0)


def test_a_batch_is_filled_up_with_empty_rows():
    batch, packed = random_rows(np.random.default_rng(1), rows=2)
    shape = RowShape(48, checks=12)
    filled = Batch.of(packed, shape, 5)
    jax.tree.map(np.testing.assert_array_equal, filled.take([0, 1]), batch)
    empty = filled.take([2, 3, 4])
    assert (empty.cls_index == IGNORED).all()
    assert not any(leaf.any() for leaf in jax.tree.leaves(empty.replace(cls_index=np.zeros(0))))


def test_the_row_of_a_pipeline_has_room_for_what_its_config_says():
    mixture = (("embedded", 1.0),)
    assert PipelineConfig(96, 4, 12, mixture).row_shape == RowShape(96, 12)
    assert PipelineConfig(96, 4, 0, mixture, pairs_per_row=3).row_shape == RowShape(96, pairs=3)
