"""The module in other people's JAX code: any mesh, vmap, grad, jit; vectors in place of tokens; the cache by itself."""

import dataclasses
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from make import TINY, forward, random_params, random_rows

from safety_align.model import Cache, SafetyTransformer, Write, unroll
from safety_align.model.cache import LayerCache
from safety_align.sizes import cache_bytes

HERE = pathlib.Path(__file__).parent


@pytest.fixture(params=[False, True], ids=["unrolled", "scanned"])
def model(request):
    """(config, parameters)."""
    config, params = dataclasses.replace(TINY, scan_layers=True), random_params(TINY)
    return (config, params) if request.param else unroll(config, params)


def apply(model, tokens, batch, method=None):
    config, params = model
    _, *others = batch.inputs
    return forward(config, params, tokens, *others, method=method)


def embed(model, tokens):
    config, params = model
    return forward(config, params, tokens, method="embed")


def rows(seed: int):
    return random_rows(np.random.default_rng(seed))[0]


@pytest.mark.slow
def test_any_mesh():
    done = subprocess.run([sys.executable, HERE / "foreign_meshes.py"], capture_output=True, text=True, cwd=HERE.parent)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert done.stdout.count("right:") == 10


def test_vmap_over_rows_and_over_models(model):
    """float32, the same sums."""
    config, params = model
    batch = rows(1)
    out = apply(model, batch.tokens, batch)

    @jax.jit
    @jax.vmap
    def one(row):
        found = apply(model, row.tokens[None], jax.tree.map(lambda x: x[None], row))
        return found.logits[0], found.safety_logits[0]

    for found, expected in zip(one(batch), (out.logits, out.safety_logits), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)
    two = jax.tree.map(lambda x: jnp.stack([x, 0.5 * x]), params)
    both = jax.jit(jax.vmap(lambda p: apply((config, p), batch.tokens, batch).logits))(two)
    np.testing.assert_allclose(both[0], out.logits, atol=1e-5, rtol=1e-5)
    half = apply((config, jax.tree.map(lambda x: 0.5 * x, params)), batch.tokens, batch)
    np.testing.assert_allclose(both[1], half.logits, atol=1e-5, rtol=1e-5)


def test_vectors_are_taken_as_tokens_are(model):
    batch = rows(2)
    vectors = embed(model, batch.tokens)
    plain, soft = apply(model, batch.tokens, batch), apply(model, vectors, batch)
    np.testing.assert_array_equal(plain.logits, soft.logits)
    np.testing.assert_array_equal(plain.safety_logits, soft.safety_logits)


@pytest.mark.slow
def test_gradients_reach_the_vectors_as_differences_say(model):
    """One random direction; central differences of float32, so to 2 %."""
    batch = rows(3)
    vectors = embed(model, batch.tokens)
    direction = jax.random.normal(jax.random.key(4), vectors.shape)
    direction /= jnp.linalg.norm(direction)

    @jax.jit
    def logit(x):
        return jnp.sum(apply(model, x, batch).safety_logits)

    found = jnp.sum(jax.jit(jax.grad(logit))(vectors) * direction)
    step = 1e-2
    expected = (logit(vectors + step * direction) - logit(vectors - step * direction)) / (2 * step)
    assert abs(expected) > 1e-4
    assert float(found) == pytest.approx(float(expected), rel=0.02)


def test_vectors_extend_a_cache_as_tokens_do():
    """Two programs, which a compiler may fuse in two ways: to float32's rounding over two layers, as above."""
    model = unroll(dataclasses.replace(TINY, scan_layers=True), random_params(TINY))
    config, params = model
    batch = rows(5)
    count, size = batch.tokens.shape
    _, cache = apply(model, batch.tokens, batch, method="hidden")
    cache = cache.arrange([slice(None), 2])
    assert cache.slots == size + 2
    assert cache.bytes == cache_bytes(config, count, size + 2) == Cache.abstract(config, count, size + 2).bytes
    tokens, positions = jnp.full((count, 1), 7), jnp.full((count, 1), 30)
    mask = jnp.ones((count, 1, size + 2), bool)

    @jax.jit
    def extend(tokens):
        arguments = tokens, positions, cache, [Write(0, size)], mask
        return SafetyTransformer(config).apply({"params": params}, *arguments, method="extend")

    for a, b in zip(*(jax.tree.leaves(extend(x)) for x in (tokens, embed(model, tokens))), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5)


def test_a_cache_writes_slots_and_moves_them():
    """Against numpy: one slot for all rows, one for each row; slices and blanks."""
    rng = np.random.default_rng(6)
    old, new = rng.normal(size=(3, 2, 5, 4)), rng.normal(size=(3, 2, 2, 4))
    own = np.array([4, 0, 3])
    layer, writes = LayerCache(jnp.asarray(old), jnp.asarray(2 * old)), [Write(0, 1), Write(1, jnp.asarray(own))]
    found = layer.write(LayerCache(jnp.asarray(new), jnp.asarray(3 * new)), writes)
    keys, values = old.copy(), 2 * old
    keys[:, :, 1], values[:, :, 1] = new[:, :, 0], 3 * new[:, :, 0]
    for row, slot in enumerate(own):
        keys[row, :, slot], values[row, :, slot] = new[row, :, 1], 3 * new[row, :, 1]
    np.testing.assert_allclose(found.keys, keys, rtol=1e-6)
    np.testing.assert_allclose(found.values, values, rtol=1e-6)
    moved = found.arrange([slice(3, 5), 1, slice(1)])
    np.testing.assert_allclose(
        moved.keys, np.concatenate([keys[:, :, 3:], 0 * keys[:, :, :1], keys[:, :, :1]], 2), rtol=1e-6
    )
