"""The losses, the ranking that validation reports, and learning-rate schedules, against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from make import random_rows

from safety_align.errors import InputError
from safety_align.training.losses import Totals, cls_loss, cross_entropy, lm_loss
from safety_align.training.metrics import auroc
from safety_align.training.optimizer import OptimizerConfig, learning_rate


def test_losses_are_the_textbook_ones():
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(0, 3, (2, 5, 7)).astype(np.float32), rng.integers(0, 7, (2, 5))
    expected = optax.softmax_cross_entropy_with_integer_labels(jnp.asarray(logits), jnp.asarray(targets))
    np.testing.assert_allclose(cross_entropy(logits, targets), expected, rtol=1e-5)
    scores, labels = rng.normal(0, 30, (4, 3)).astype(np.float32), rng.integers(0, 2, (4, 3)).astype(np.float32)
    expected = optax.sigmoid_binary_cross_entropy(jnp.asarray(scores), jnp.asarray(labels))
    weights = np.array([[1, 0, 1], [1, 1, 1], [0, 0, 0], [1, 0, 0]], np.float32)  # 0: unlabelled
    found, expected = cls_loss(scores, labels, weights, 6.0), np.average(expected, weights=weights)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("length", [5, 8, 16, 21])
def test_the_language_model_loss_in_parts_equals_that_of_whole_logits(length):
    """Values and gradients, float32 sums in another order."""
    rng = np.random.default_rng(length)
    hidden, head = rng.normal(size=(3, length, 6)).astype(np.float32), rng.normal(size=(6, 11)).astype(np.float32)
    targets, weights = rng.integers(0, 11, (3, length)), rng.integers(0, 2, (3, length)).astype(np.float32)

    def textbook(hidden, head):
        nats = optax.softmax_cross_entropy_with_integer_labels(hidden @ head, jnp.asarray(targets))
        return jnp.sum(nats * weights) / 7

    def ours(hidden, head):
        return lm_loss(hidden, head, targets, weights, 7.0, logits_length=8)

    found, expected = (jax.jit(jax.value_and_grad(f, (0, 1)))(hidden, head) for f in (ours, textbook))
    for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


def test_unsafe_answers_leave_no_trace_in_the_language_model_loss():
    batch, _ = random_rows(np.random.default_rng(0))
    silent = np.zeros_like(batch.loss_weights)
    assert (
        float(Totals.of(batch.replace(loss_weights=silent)).lm) == 1.0
    )  # a batch without trained tokens divides by one
    hidden, head = jnp.ones((*batch.tokens.shape, 4)), jnp.ones((4, 97))
    assert float(lm_loss(hidden, head, batch.targets, silent, 1.0)) == 0.0


def test_auroc_equals_brute_force_with_ties():
    rng = np.random.default_rng(1)
    for _ in range(20):
        bad, good = rng.integers(0, 6, rng.integers(1, 30)), rng.integers(0, 6, rng.integers(1, 30))
        wins = [(b > g) + 0.5 * (b == g) for b in bad for g in good]
        assert abs(auroc(bad, good) - np.mean(wins)) < 1e-12


def test_schedules_warm_up_and_end_where_they_say():
    for name in ("constant", "cosine", "linear"):
        config = OptimizerConfig(learning_rate=1.0, schedule=name, warmup=10, final=0.1)
        rate = learning_rate(config, 100)
        assert float(rate(0)) < 0.2 and abs(float(rate(10)) - 1) < 0.02
        assert abs(float(rate(100)) - (1.0 if name == "constant" else 0.1)) < 0.02
    paper = learning_rate(OptimizerConfig(1.0, schedule="exponential", warmup=0, final=0.85, decay_every=50), 500)
    assert abs(float(paper(100)) - 0.85**2) < 0.02
    with pytest.raises(InputError, match="schedule"):
        OptimizerConfig(schedule="steps")
