"""Weights of one byte: products against float64, whole models against the same weights widened, and the ways in which they are read."""

import dataclasses
import os
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from make import random_params

from configs import embedded_gated
from safety_align.errors import InputError
from safety_align.interop import load_pretrained, load_unrolled, save_pretrained
from safety_align.model import SafetyTransformer, abstract_params, preset
from safety_align.model.quantized import (
    CONTRACTED,
    MOST_ROWS,
    Int8Weight,
    matrix,
    product,
    quantize,
    quantize_params,
    rows,
    widened,
)
from safety_align.routing import Routing
from safety_align.training.from_dict import to_train_config

AXES = [(0,), (0, 1), (1,)]


def is_int8(leaf) -> bool:
    return isinstance(leaf, Int8Weight)


def all_widened(params: dict) -> dict:
    def one(path, leaf):
        return widened(leaf, CONTRACTED[path[-1].key]) if is_int8(leaf) else leaf

    return jax.tree_util.tree_map_with_path(one, params, is_leaf=is_int8)


@pytest.mark.parametrize("axes", AXES, ids=str)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_weight_is_off_by_half_a_step_of_its_channel_at_most(axes, seed):
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(12, 10, 6)[: max(axes) + 2]).astype(np.float32) * rng.uniform(0.1, 10)
    found = quantize(jnp.asarray(weight), axes)
    step = np.abs(weight).max(axis=axes, keepdims=True) / 127
    back = np.asarray(widened(found, axes))
    assert back.shape == weight.shape and found.values.dtype == jnp.int8
    # Half a step, and float32's own rounding of a quotient that stands between two values.
    assert (np.abs(back - weight) <= step * (0.5 + 1e-5)).all()
    assert np.abs(np.asarray(found.values)).max() == 127


def test_a_channel_of_zeros_and_one_with_a_number_that_is_none():
    weight = jnp.asarray([[0.0, 1.0, np.nan, np.inf], [0.0, -2.0, 1.0, 1.0]])
    back = np.asarray(widened(quantize(weight, (0,)), (0,)))
    assert (back[:, 0] == 0).all() and back[1, 1] == -2
    assert np.isnan(back[:, 2]).all() and not np.isfinite(back[:, 3]).any()


@pytest.mark.parametrize("count", [1, 2, 9, MOST_ROWS, MOST_ROWS + 1])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_product_is_as_if_the_weight_were_widened(count, seed):
    """Two digits are half a 254th of a 127th of a row's largest number off at most; with as many terms as K, and their signs
    at random, four times the root of K is rarely reached: here a bound that no case of two thousand did."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 48)).astype(np.float32) * np.exp(rng.normal(size=(count, 1))).astype(np.float32)
    weight = quantize(jnp.asarray(rng.normal(size=(48, 4, 8)), jnp.float32), (0,))
    whole = np.asarray(widened(weight, (0,)), np.float64).reshape(48, 32)
    found = np.asarray(jax.jit(product)(jnp.asarray(x), weight))
    off = 0.5 / (127 * 254) * np.abs(x).max(1, keepdims=True) * np.abs(whole).max(0) * 4 * np.sqrt(48)
    assert found.dtype == np.float32 and (np.abs(found - x @ whole) <= off + 1e-5).all()


def test_the_second_digit_counts():
    """One digit alone would be a hundred times further off."""
    x = jnp.asarray([[1.0, 0.0032, -0.0017, 0.0041]])
    weight = quantize(jnp.ones((4, 3)), (0,))
    np.testing.assert_allclose(product(x, weight), [[1.0056] * 3], atol=3e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_stays_so_in_its_row(bad):
    x = jnp.ones((3, 8)).at[1, 2].set(bad)
    found = np.asarray(product(x, quantize(jnp.ones((8, 5)), (0,))))
    assert not np.isfinite(found[1]).any() and np.isfinite(found[[0, 2]]).all()


def test_a_row_of_zeros():
    assert (np.asarray(product(jnp.zeros((2, 8)), quantize(jnp.ones((8, 5)), (0,)))) == 0).all()


def test_bfloat16_in_and_out():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 32)), jnp.bfloat16)
    weight = quantize(jnp.asarray(np.random.default_rng(1).normal(size=(32, 6)), jnp.float32), (0,))
    found, whole = product(x, weight), x.astype(jnp.float32) @ widened(weight, (0,))
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        found.astype(jnp.float32), whole, rtol=2**-8, atol=1e-3
    )  # the last rounding is bfloat16's


def test_an_attacker_sees_the_slope():
    """Through digits, which are rounded, a gradient would be zero, and an attack by gradients would seem to fail."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(4, 32)), jnp.float32)
    weight = quantize(jnp.asarray(rng.normal(size=(32, 6)), jnp.float32), (0,))
    found = jax.grad(lambda x: jnp.sum(jnp.sin(product(x, weight))))(x)
    wanted = jax.grad(lambda x: jnp.sum(jnp.sin(x @ widened(weight, (0,)))))(x)
    np.testing.assert_allclose(found, wanted, atol=2e-3)
    assert np.abs(wanted).max() > 1


def test_rows_of_a_table():
    table = jnp.asarray(np.random.default_rng(0).normal(size=(9, 4)), jnp.float32)
    found = quantize(table, (1,))
    ids = np.array([[3, 0], [8, 3]])
    np.testing.assert_array_equal(rows(found, ids, "float32"), np.asarray(widened(found, (1,)))[ids])
    assert rows(found, ids, "bfloat16").dtype == jnp.bfloat16


def logits(config, params, seed: int = 0):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, config.vocab_size, (2, 12))
    positions = np.arange(12)[None].repeat(2, 0) + 1
    routing = Routing(
        np.zeros((2, 12), np.int32), np.ones((2, 12), bool), np.zeros((2, 0), np.int32), np.zeros((2, 0, 2), np.int32)
    )
    return SafetyTransformer(config).apply({"params": params}, tokens, positions, routing).logits


@pytest.mark.parametrize("change", [{}, dict(tied_embeddings=False), dict(qkv_bias=True), dict(qk_norm=True)], ids=str)
def test_a_model_of_int8_is_the_model_of_its_widened_weights(change):
    config = preset("tiny", scan_layers=False, **change)
    params = random_params(config, seed=3)
    rounded = quantize_params(params)
    found = logits(dataclasses.replace(config, param_dtype="int8"), rounded)
    # The digits' error, of a few 1e-5 of the largest activation at each product, through two layers.
    np.testing.assert_allclose(found, logits(config, all_widened(rounded)), atol=2e-3)
    assert np.abs(found - logits(config, params)).max() > 2e-3  # rounding itself shows: it is another model


@pytest.mark.parametrize("tied", [True, False])
def test_a_loss_reads_the_head_as_an_array(tied):
    config = preset("tiny", scan_layers=False, tied_embeddings=tied)
    rounded = quantize_params(random_params(config, seed=7))

    def head(model):
        return matrix(model.head())

    found, wanted = (
        SafetyTransformer(c).apply({"params": p}, method=head)
        for c, p in ((dataclasses.replace(config, param_dtype="int8"), rounded), (config, all_widened(rounded)))
    )
    np.testing.assert_array_equal(found, wanted)


def test_the_abstract_model_is_the_real_one():
    config = preset("tiny", scan_layers=False, tied_embeddings=False)
    abstract = nn.unbox(abstract_params(dataclasses.replace(config, param_dtype="int8")))
    real = quantize_params(random_params(config))
    assert jax.tree.structure(abstract) == jax.tree.structure(real)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), abstract) == jax.tree.map(lambda x: (x.shape, x.dtype), real)
    left = {
        path[-1].key for path, leaf in jax.tree_util.tree_leaves_with_path(real, is_leaf=is_int8) if not is_int8(leaf)
    }
    assert left == {"scale", "cls_embedding", "safety_kernel", "safety_bias"}


def test_training_in_int8_is_refused():
    with pytest.raises(InputError, match="param_dtype int8 is of a model that is decoded"):
        preset("tiny", param_dtype="int8")


def test_training_in_int8_is_refused_with_unrolled_layers_too():
    values = embedded_gated.get_config().to_dict()
    values["model"] |= dict(param_dtype="int8", scan_layers=False)
    with pytest.raises(InputError, match="train in float32 or bfloat16"):
        to_train_config(values)


def test_another_way_of_rounding_is_refused(directory):
    for read in (
        lambda: load_pretrained(directory, weights="int4"),
        lambda: load_unrolled(directory, None, weights="bfloat16"),
    ):
        with pytest.raises(InputError, match="is not 'int8'"):
            read()


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    config = preset("tiny", safety_signal=False, tied_embeddings=False)
    path = tmp_path_factory.mktemp("int8") / "model"
    save_pretrained(path, config, random_params(config, seed=5))
    return path


def test_a_directory_read_in_int8_is_the_directory_rounded(directory):
    whole = load_pretrained(directory, scan_layers=False)
    found = load_pretrained(directory, scan_layers=False, weights="int8")
    assert (found.config.param_dtype, found.config.dtype) == ("int8", "float32")
    same = jax.tree.map(
        lambda a, b: bool((np.asarray(a) == np.asarray(b)).all()), found.params, quantize_params(whole.params)
    )
    assert all(jax.tree.leaves(same))
    with pytest.raises(InputError, match="scan_layers=False"):
        load_pretrained(directory, weights="int8")


SHARDED = """
import sys, jax, numpy as np
from safety_align import sharding
from safety_align.interop import load_pretrained
from safety_align.model import unroll
whole = jax.device_get(load_pretrained(sys.argv[1], scan_layers=False, weights="int8").params)
for shape in [dict(fsdp=4, tensor=2), dict(data=4, tensor=2), dict(fsdp=8)]:
    mesh = sharding.make_mesh(**({"data": 1} | shape))
    loaded = load_pretrained(sys.argv[1], mesh, scan_layers=False, weights="int8")
    _, placed = unroll(loaded.config, loaded.params, mesh)
    same = jax.tree.map(lambda a, b: np.asarray(a).tobytes() == b.tobytes(), placed, whole)
    assert all(jax.tree.leaves(same)), shape
    for values in (loaded.params["layer_0"]["attention"]["wq"].values, placed["layer_0"]["attention"]["wq"].values):
        heads, _, width = values.sharding.shard_shape(values.shape)
        assert heads == values.shape[0] // shape.get("tensor", 1), shape
        assert width == values.shape[2] // shape.get("fsdp", 1), shape
"""


@pytest.mark.slow
def test_shards_are_rounded_as_the_whole(tmp_path):
    """A channel's scale is its largest magnitude, on whichever device that lies."""
    config = preset("tiny", vocab_size=96, safety_signal=False, tied_embeddings=False)
    save_pretrained(tmp_path / "model", config, random_params(config, seed=6))
    flags = os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=8"
    environment = dict(os.environ, XLA_FLAGS=flags, JAX_PLATFORMS="cpu")
    done = subprocess.run(
        [sys.executable, "-c", SHARDED, tmp_path / "model"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
