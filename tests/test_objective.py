"""The training objective against the plain formula, written from whole logits in numpy."""

import dataclasses

import jax
import numpy as np
import pytest
import scipy.special
from make import SIGNAL, TINY, forward, random_params, random_rows
from test_dpo import CONFIG as PLAIN
from test_dpo import random_pairs

from safety_align.errors import InputError
from safety_align.training.dpo import DpoConfig
from safety_align.training.losses import Totals
from safety_align.training.objective import Objective


def textbook(config, params, batch):
    """(nats of each target, safety logits) by a forward pass with whole logits."""
    output = forward(config, params, *batch.inputs)
    logs = scipy.special.log_softmax(np.asarray(output.logits, np.float64), axis=-1)
    return -np.take_along_axis(logs, batch.targets[..., None], -1)[..., 0], output.safety_logits


losses = jax.jit(Objective.losses, static_argnums=0)
evaluate = jax.jit(Objective.evaluate, static_argnums=0)


def test_the_loss_is_the_language_models_and_a_share_of_the_checks():
    """To 1e-5: float32 sums."""
    (batch, _), params = random_rows(np.random.default_rng(0)), random_params(TINY, 1)
    nats, logits = textbook(TINY, params, batch)
    lm = (nats * batch.loss_weights).sum() / batch.loss_weights.sum()
    signed = np.where(batch.cls_labels > 0.5, logits, -np.asarray(logits))
    cls = (-scipy.special.log_expit(signed) * batch.cls_weights).sum() / batch.cls_weights.sum()
    loss, metrics = losses(Objective(TINY, lambda_cls=0.3, logits_length=16), params, batch, Totals.of(batch))
    np.testing.assert_allclose([metrics["lm_loss"], metrics["cls_loss"], loss], [lm, cls, lm + 0.3 * cls], rtol=1e-5)
    bare = dataclasses.replace(TINY, safety_signal=False)
    (batch, _) = random_rows(np.random.default_rng(0), signal=False)
    loss, metrics = losses(Objective(bare), params, batch, Totals.of(batch))
    assert set(metrics) == {"lm_loss"} and loss == metrics["lm_loss"]


@pytest.mark.slow
def test_preference_pairs_have_the_loss_of_dpo():
    """Equation 7 of Rafailov et al. in float64; to 1e-4, as margins are differences of sums."""
    (batch, _), params = random_pairs(np.random.default_rng(3)), random_params(PLAIN, 1)
    nats, _ = textbook(PLAIN, params, batch)
    expected = []
    for row, pair in np.argwhere(batch.pair_weights > 0):
        chosen, rejected = (-nats[row][batch.pair_sides[row] == 1 + 2 * pair + side].sum() for side in (0, 1))
        reference = batch.pair_reference[row, pair]
        expected.append(-scipy.special.log_expit(0.2 * ((chosen - reference[0]) - (rejected - reference[1]))))
    lm = (nats * batch.loss_weights).sum() / batch.loss_weights.sum()
    for weight in (0.0, 0.5):
        objective = Objective(PLAIN, dpo=DpoConfig("somewhere", beta=0.2, lm=weight))
        loss, metrics = losses(objective, params, batch, Totals.of(batch))
        np.testing.assert_allclose(metrics["dpo_loss"], np.mean(expected), rtol=1e-4)
        np.testing.assert_allclose(loss, np.mean(expected) + weight * lm, rtol=1e-4)


def test_validation_reads_what_training_does():
    (batch, _), params = random_rows(np.random.default_rng(2)), random_params(TINY, 1)
    objective = Objective(TINY)
    found, (_, metrics) = evaluate(objective, params, batch), losses(objective, params, batch, Totals.of(batch))
    np.testing.assert_allclose(found["lm_sum"] / found["lm_count"], metrics["lm_loss"], rtol=1e-6)
    assert found["safety_logits"].shape == batch.cls_index.shape
    assert found["pair_logprobs"].shape == (len(batch.tokens), 0, 2)  # no pairs


def test_only_the_signal_is_trained_where_that_is_asked_for():
    params = random_params(TINY)
    trained, frozen = Objective(TINY, trainable="signal").split(params)
    assert set(trained) == set(SIGNAL) and trained | frozen == params
    assert Objective(TINY).split(params) == (params, {})
    with pytest.raises(InputError, match="trainable 'head' is not one of all, signal"):
        Objective(TINY, trainable="head")


def test_an_objective_is_a_static_argument():
    (batch, _), params = random_rows(np.random.default_rng(0)), random_params(TINY, 1)
    traced = []

    def loss(objective, params, batch):
        traced.append(objective)
        return objective.losses(params, batch, Totals.of(batch))[0]

    jitted = jax.jit(loss, static_argnums=0)
    a, b = (jitted(Objective(dataclasses.replace(TINY), lambda_cls=0.5), params, batch) for _ in range(2))
    assert a == b and len(traced) == 1
