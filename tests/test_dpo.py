"""DPO as an objective of the same step: pairs in rows, the loss, its gradients."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from make import TINY, forward, random_params, random_segment

from safety_align import sharding
from safety_align.errors import InputError
from safety_align.placement import Batch, Pair, RowShape
from safety_align.training.dpo import DpoConfig, dpo_loss, pair_logprobs
from safety_align.training.losses import token_nats
from safety_align.training.objective import Objective
from safety_align.training.optimizer import OptimizerConfig, make_optimizer
from safety_align.training.step import TrainState, make_eval_step, make_train_step, state_shardings

CONFIG = dataclasses.replace(TINY, vocab_size=104, safety_signal=False)


def random_pairs(rng, rows=4, length=96, pairs=4) -> tuple[Batch, list[list]]:
    """Packed rows of pairs, and of a few plain segments: (the batch, what is in each row)."""
    packed = []
    for _ in range(rows):
        items: list = [random_segment(rng, 5, 4, vocab=CONFIG.vocab_size, signal=False)]
        while sum(s.length for s in items) < length - 40 and sum(s.pairs for s in items) < pairs:
            sides = [
                random_segment(rng, 5, int(rng.integers(2, 12)), vocab=CONFIG.vocab_size, signal=False) for _ in "cr"
            ]
            rejected = dataclasses.replace(sides[1], prompt=sides[0].prompt, train_lm=False)
            items.append(Pair(sides[0], rejected, tuple(float(x) for x in rng.normal(-20, 5, 2))))
        packed.append([items[i] for i in rng.permutation(len(items))])
    return Batch.of(packed, RowShape(length, pairs=pairs)), packed


def test_the_objective_and_its_gradients_are_those_of_the_formula():
    """Against torch, written from equation 7; float32."""
    rng = np.random.default_rng(0)
    b, s, d, v, p = 3, 40, 6, 11, 2
    hidden, head = rng.normal(size=(b, s, d)).astype(np.float32), rng.normal(size=(d, v)).astype(np.float32)
    targets, sides = rng.integers(0, v, (b, s)), rng.integers(0, 2 * p + 1, (b, s)).astype(np.int32)
    reference = rng.normal(-18, 4, (b, p, 2)).astype(np.float32)
    weights = np.array([[1, 1], [1, 0], [0, 1]], np.float32)

    def ours(hidden, head):
        logprobs = pair_logprobs(token_nats(hidden, head, targets), sides, p)
        return dpo_loss(logprobs, reference, weights, 0.3, 4.0)

    h, w = (torch.tensor(x, requires_grad=True) for x in (hidden, head))
    logs = torch.log_softmax(h @ w, -1).gather(-1, torch.tensor(targets)[..., None])[..., 0]
    loss = torch.zeros(())
    for i in range(b):
        for j in range(p):
            if weights[i, j]:
                policy = [logs[i][torch.tensor(sides[i] == 1 + 2 * j + side)].sum() for side in (0, 1)]
                margin = (policy[0] - reference[i, j, 0]) - (policy[1] - reference[i, j, 1])
                loss = loss - torch.nn.functional.logsigmoid(0.3 * margin) / 4
    loss.backward()
    value, gradients = jax.jit(jax.value_and_grad(ours, (0, 1)))(hidden, head)
    np.testing.assert_allclose(value, loss.item(), rtol=1e-5)
    for mine, theirs in zip(gradients, (h.grad, w.grad), strict=True):
        np.testing.assert_allclose(mine, theirs.numpy(), rtol=1e-4, atol=1e-6)


def test_extreme_margins_have_finite_losses_and_gradients():
    logprobs = jnp.array([[[0.0, -1e4], [-1e4, 0.0]]])
    grad = jax.jit(jax.value_and_grad(lambda x: dpo_loss(x, jnp.zeros((1, 2, 2)), jnp.ones((1, 2)), 0.5, 1.0)))
    value, gradient = grad(logprobs)
    assert float(value) == 5e3 and np.isfinite(gradient).all()


def test_packed_log_probabilities_are_those_of_each_answer_alone():
    """Against a forward pass of each conversation by itself and a softmax over whole logits: float32 to 2e-5."""
    batch, packed = random_pairs(np.random.default_rng(1))
    params = random_params(CONFIG, 3)
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    with jax.set_mesh(mesh):
        step = make_eval_step(Objective(CONFIG, logits_length=32), mesh)
        found = np.asarray(step(params, batch)["pair_logprobs"])
    compared = 0
    for row, items in zip(found, packed, strict=True):
        for ours, pair in zip(row, [item for item in items if isinstance(item, Pair)], strict=False):
            for value, side in zip(ours, (pair.chosen, pair.rejected), strict=True):
                alone = forward(CONFIG, params, *Batch.of([[side]], RowShape(20)).inputs)
                logs = np.asarray(jax.nn.log_softmax(alone.logits[0]), np.float64)
                first, ids = len(side.prompt), np.concatenate([side.prompt, side.response])
                expected = sum(logs[i - 1, ids[i]] for i in range(first, len(ids)))
                np.testing.assert_allclose(value, expected, rtol=2e-5)
                compared += 1
    assert compared >= 12 and (found[batch.pair_weights == 0] == 0).all()


def test_the_rejected_side_is_in_no_language_model_loss():
    batch, packed = random_pairs(np.random.default_rng(2))
    assert not ((batch.pair_sides > 0) & (batch.pair_sides % 2 == 0) & (batch.loss_weights > 0)).any()
    for row, items in enumerate(packed):
        pairs = [item for item in items if isinstance(item, Pair)]
        for p, pair in enumerate(pairs):
            for side, segment in enumerate((pair.chosen, pair.rejected)):
                where = batch.pair_sides[row] == 1 + 2 * p + side
                assert list(batch.targets[row][where]) == list(segment.response)
    with pytest.raises(InputError, match="rejected answer"):
        Pair(packed[0][0], dataclasses.replace(random_segment(np.random.default_rng(0), 3, 3, signal=False)))
    with pytest.raises(InputError, match="pairs_per_row"):
        Batch.of([[pair]], RowShape(200))


def dpo_steps(accumulation=1, reference=None, lm=0.0, steps=3):
    """Metrics of a few steps from fixed parameters, and the parameters after them."""
    batch, _ = random_pairs(np.random.default_rng(5), rows=8)
    params, mesh = random_params(CONFIG, 3), sharding.make_mesh(devices=jax.devices()[:1])
    optimizer = make_optimizer(OptimizerConfig(learning_rate=1e-3, warmup=1), 10)
    with jax.set_mesh(mesh):
        objective = Objective(CONFIG, dpo=DpoConfig("somewhere", beta=0.2, lm=lm))
        logprobs = jax.device_get(make_eval_step(objective, mesh)(params, batch))["pair_logprobs"]
        batch = batch.replace(pair_reference=logprobs + (0 if reference is None else reference))
        step = make_train_step(objective, optimizer, accumulation, mesh)
        state = TrainState(jnp.int32(0), params, optimizer.init(params))
        state = jax.device_put(state, state_shardings(objective, optimizer, mesh))
        found = []
        for _ in range(steps):
            state, metrics = step(state, jax.device_put(batch, sharding.batch_sharding(mesh)))
            found.append(jax.device_get(metrics))
    return found, jax.device_get(state.params)


@pytest.mark.slow
def test_a_model_that_is_its_own_reference_has_loss_log_two():
    metrics, _ = dpo_steps()
    assert float(metrics[0]["loss"]) == np.float32(math.log(2)) and metrics[0]["pair_right"] == 0
    assert metrics[2]["loss"] < 0.69 and metrics[2]["pair_right"] > 8


@pytest.mark.slow
def test_accumulated_preference_steps_equal_whole_ones():
    shift = np.random.default_rng(0).normal(0, 3, (8, 4, 2)).astype(np.float32)
    (a, p), (b, q) = (dpo_steps(accumulation, shift, lm=0.5) for accumulation in (1, 4))
    for x, y in zip(a, b, strict=True):
        assert x["pair_count"] == y["pair_count"] > 8
        for name in ("loss", "dpo_loss", "lm_loss", "grad_norm"):
            np.testing.assert_allclose(x[name], y[name], rtol=2e-5)
        np.testing.assert_allclose(x["loss"], x["dpo_loss"] + 0.5 * x["lm_loss"], rtol=1e-6)
    for x, y in zip(jax.tree.leaves(p), jax.tree.leaves(q), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=5e-5)
