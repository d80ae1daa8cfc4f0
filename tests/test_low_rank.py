"""Low-rank training against factors that are trained explicitly."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from make import TINY, random_params, random_rows

from safety_align import sharding
from safety_align.training.losses import Totals
from safety_align.training.low_rank import AXES, low_rank
from safety_align.training.objective import Objective
from safety_align.training.optimizer import OptimizerConfig, make_optimizer
from safety_align.training.step import TrainState, make_train_step, state_shardings

RANK = 2


def by_path(tree):
    return {jax.tree_util.keystr(path): x for path, x in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.mark.parametrize("scan", [True, False])
def test_it_is_what_factors_of_their_own_learn(scan):
    """The reference has A and B as parameters, W0 + A B in the loss, and Adam on both. Sums in another order: float32, after some
    steps of Adam, to about 1e-5."""
    config = dataclasses.replace(TINY, scan_layers=scan)
    objective, params = Objective(config, lambda_cls=0.5), random_params(config, 3)
    batch, _ = random_rows(np.random.default_rng(5), rows=4)
    totals, inner = Totals.of(batch), optax.adam(3e-3)
    ours = low_rank(inner, RANK, seed=1)
    state = ours.init(params)
    factors = state.factors

    def merged(factors):
        def whole(path, w):
            f = factors.get(jax.tree_util.keystr(path))
            return w if f is None else w + jnp.matmul(f["a"], f["b"]).reshape(w.shape)

        return jax.tree_util.tree_map_with_path(whole, params)

    @jax.jit
    def explicit(factors, theirs):
        gradients = jax.grad(lambda f: objective.losses(merged(f), batch, totals)[0])(factors)
        updates, theirs = inner.update(gradients, theirs)
        return optax.apply_updates(factors, updates), theirs

    @jax.jit
    def step(params, state):
        gradients = jax.grad(lambda p: objective.losses(p, batch, totals)[0])(params)
        updates, state = ours.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    theirs, moved = inner.init(factors), params
    for _ in range(4):
        factors, theirs = explicit(factors, theirs)
        moved, state = step(moved, state)
    expected, found, first = (by_path(tree) for tree in (merged(factors), moved, params))
    assert len(state.factors) == len(AXES) * (1 if scan else config.layers)
    for path, w in found.items():
        np.testing.assert_allclose(w, expected[path], rtol=0, atol=1e-5)
        assert np.array_equal(w, first[path]) != (path in state.factors), path
    up = next(path for path in state.factors if path.endswith("['up']"))
    change = np.asarray(found[up] - first[up], np.float64).reshape(-1, config.width, config.mlp_width)[0]
    singular = np.linalg.svd(change, compute_uv=False)
    assert singular[RANK] < 1e-3 * singular[0] < singular[RANK - 1]


def test_the_training_step_takes_it():
    """Through clipping, decay and schedule, on a mesh; only the blocks' matrices change."""
    objective = Objective(TINY, lambda_cls=0.5)
    optimizer = make_optimizer(OptimizerConfig(learning_rate=1e-2, warmup=0, rank=RANK), 10)
    mesh, params = sharding.make_mesh(1, 1, 1, 1, devices=jax.devices()[:1]), random_params(TINY, 3)
    batch, _ = random_rows(np.random.default_rng(5), rows=4)
    before = jax.device_get(params)
    with jax.set_mesh(mesh):
        step = make_train_step(objective, optimizer, 1, mesh)
        state = TrainState(jnp.int32(0), params, optimizer.init(params))
        state = jax.device_put(state, state_shardings(objective, optimizer, mesh))
        losses = []
        for _ in range(5):
            state, metrics = step(state, batch)
            losses.append(float(metrics["loss"]))
    assert losses[-1] < losses[0]
    for path, w in by_path(jax.device_get(state.params)).items():
        matrix = any(path.endswith(f"['{name}']") for name in AXES)
        assert np.array_equal(w, by_path(before)[path]) != matrix, path
