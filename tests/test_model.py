"""The transformer itself: exact sizes, layouts of its layers, rematerialisation, precision, bad configs."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from make import SIGNAL, TINY, forward, random_params, random_rows

from safety_align import sharding
from safety_align.errors import InputError
from safety_align.model import (
    abstract_params,
    for_decoding,
    preset,
    stack_layers,
    transformer,
    unroll,
    unstack_layers,
)
from safety_align.sizes import parameter_count

PUBLISHED = {
    "llama2_7b": 6_738_415_616, "llama3_8b": 8_030_261_248, "llama3_1_8b": 8_030_261_248, "llama3_2_1b": 1_235_814_400,
    "llama3_2_3b": 3_212_749_824, "mistral_7b": 7_241_732_096, "qwen2_5_7b": 7_615_616_512, "qwen3_8b": 8_190_735_360,
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_presets_have_exactly_the_published_parameters(name):
    """By the formula, which test_sizes.py holds against the parameters of every preset."""
    config = preset(name)
    assert parameter_count(dataclasses.replace(config, safety_signal=False)) == PUBLISHED[name]
    # The signal: an embedding, a linear head, its bias.
    assert parameter_count(config) == PUBLISHED[name] + 2 * config.width + 1


def run(config, params, batch):
    return forward(config, params, *batch.inputs)


@pytest.mark.parametrize("on_mesh", [False, True])
def test_while_it_is_unrolled_a_model_is_there_once(monkeypatch, on_mesh):
    """Beside it at most the layers of one stacked parameter, on one device as on a mesh."""
    config = preset("tiny", layers=16)
    shapes = nn.unbox(abstract_params(config))
    mesh = sharding.make_mesh(devices=jax.devices()[:1]) if on_mesh else None
    params = jax.device_put(
        jax.tree.map(lambda x: np.ones(x.shape, x.dtype), shapes),
        sharding.param_shardings(mesh, abstract_params(config)) if on_mesh else jax.devices()[0],
    )
    before = sum(x.nbytes for x in jax.live_arrays())
    largest, peaks = max(x.nbytes for x in jax.tree.leaves(params["layers"])), []

    def wait(arrays):
        peaks.append(sum(x.nbytes for x in jax.live_arrays()) - before)
        return arrays

    monkeypatch.setattr(transformer.jax, "block_until_ready", wait)
    unrolled, flat = unroll(config, params, mesh, consume=True)
    assert len(peaks) == len(jax.tree.leaves(params["layers"])) and max(peaks) <= largest
    assert jax.tree.structure(flat) == jax.tree.structure(nn.unbox(abstract_params(unrolled)))
    assert all(x.is_deleted() for x in jax.tree.leaves(params["layers"]))


def test_a_model_is_decoded_in_the_dtype_of_its_activations():
    trained = preset("llama2_7b", remat="full")
    assert (trained.dtype, trained.param_dtype) == ("bfloat16", "float32")
    decoded = for_decoding(trained)
    assert (decoded.dtype, decoded.param_dtype, decoded.scan_layers, decoded.remat) == ("bfloat16",) * 2 + (
        False,
        "none",
    )
    assert for_decoding(trained, "float32").param_dtype == "float32"
    assert for_decoding(trained, unrolled=False).scan_layers
    dtypes = {name: leaf.dtype for name, leaf in nn.unbox(abstract_params(decoded)).items() if hasattr(leaf, "dtype")}
    assert {dtypes[name] for name in SIGNAL} == {jnp.dtype("float32")} and dtypes["embedding"] == jnp.bfloat16


def test_scanned_and_unrolled_layers_are_the_same_model():
    batch, _ = random_rows(np.random.default_rng(0))
    params = random_params(TINY)
    unrolled = dataclasses.replace(TINY, scan_layers=False)
    flat = unstack_layers(params, TINY.layers)
    a, b = run(TINY, params, batch), run(unrolled, flat, batch)
    np.testing.assert_allclose(a.logits, b.logits, rtol=1e-5, atol=1e-5)
    assert jax.tree.all(jax.tree.map(lambda x, y: (x == y).all(), params, stack_layers(flat, TINY.layers)))
    assert jax.tree.structure(flat) == jax.tree.structure(nn.unbox(abstract_params(unrolled)))


@pytest.mark.slow
def test_rematerialisation_changes_no_gradient():
    batch, _ = random_rows(np.random.default_rng(1))
    params = random_params(TINY)

    def gradient(config):
        return jax.jit(jax.grad(lambda p: jnp.mean(run(config, p, batch).logits ** 2)))(params)

    plain = gradient(TINY)
    for remat in ("full", "dots"):
        again = gradient(dataclasses.replace(TINY, remat=remat))
        for a, b in zip(*map(jax.tree.leaves, (again, plain)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6, err_msg=remat)


def test_grouped_query_attention_equals_repeated_heads():
    """Two query heads on each key/value head are four plain heads whose keys and values come in pairs."""
    batch, _ = random_rows(np.random.default_rng(2))
    params = random_params(TINY)
    wide = dataclasses.replace(TINY, kv_heads=TINY.heads)
    attention = params["layers"]["block"]["attention"]
    repeated = {k: jnp.repeat(v, 2, axis=2) if k in ("wk", "wv") else v for k, v in attention.items()}
    expanded = params | {"layers": {"block": params["layers"]["block"] | {"attention": repeated}}}
    a, b = run(TINY, params, batch), run(wide, expanded, batch)
    np.testing.assert_allclose(a.logits, b.logits, rtol=1e-4, atol=1e-4)


def test_bfloat16_stays_close_and_its_logits_are_float32():
    batch, _ = random_rows(np.random.default_rng(3))
    params = random_params(TINY, scale=0.02)
    narrow = run(dataclasses.replace(TINY, dtype="bfloat16"), params, batch)
    wide = run(TINY, params, batch)
    assert narrow.logits.dtype == narrow.safety_logits.dtype == jnp.float32
    real = batch.segments > 0
    # bfloat16 has 8 bits: a few parts in a hundred of the logits' own scale.
    scale = float(jnp.std(wide.logits[real]))
    assert 0 < float(jnp.abs(narrow.logits - wide.logits)[real].max()) < 0.1 * scale


def test_untied_embeddings_have_a_head_of_their_own():
    config = dataclasses.replace(TINY, tied_embeddings=False)
    untied, tied = (sum(x.size for x in jax.tree.leaves(nn.unbox(abstract_params(c)))) for c in (config, TINY))
    assert untied - tied == TINY.vocab_size * TINY.width


@pytest.mark.parametrize(
    "change, named",
    [
        (dict(kv_heads=3), "kv_heads"),
        (dict(head_dim=7), "head_dim"),
        (dict(layers=0), "layers"),
        (dict(remat="some"), "remat"),
        (dict(dtype="float8"), "dtype"),
        *((dict(norm_eps=eps), "norm_eps") for eps in (0.0, float("inf"), float("nan"), 1e9, "1e-5", True)),
        *((dict(rope_theta=theta), "rope_theta") for theta in (0.0, 1.0, float("inf"), float("nan"), None)),
        (dict(vocab_size=10**12), "vocab_size.*1000000000000"),
        (dict(layers=10**9), "layers"),
        (dict(heads=True), "heads"),
        (dict(width=32.0), "width"),
        (dict(sliding_window=0), "sliding_window"),
        (dict(tied_embeddings="false"), "tied_embeddings"),
        (dict(rope_scaling="yarn"), "rope_scaling"),
        (dict(rope_scaling={"kind": "linear"}), "rope_scaling.*'factor'"),
        (dict(rope_scaling={"kind": "linear", "factor": 2.0, "beta": 1}), "rope_scaling.*'beta'"),
        (dict(rope_scaling={"kind": "linear", "factor": float("inf")}), "rope_scaling.factor"),
        (dict(rope_scaling={"kind": "yarn", "factor": 2.0, "low_frequency": 40.0}), "low_frequency"),
        (dict(widht=3), "widht"),
    ],
)
def test_impossible_configs_are_named(change, named):
    with pytest.raises(InputError, match=named):
        preset("tiny", **change)


def test_an_unknown_preset_lists_the_known():
    with pytest.raises(InputError, match="llama2_7b"):
        preset("huge")
