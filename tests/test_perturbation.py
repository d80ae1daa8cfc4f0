"""Adversarial moves of a query's vectors against projected gradient ascent written out, and what trains on them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from make import TINY, random_params, random_rows, random_segment

from configs import embedded_gated, embedded_robust
from safety_align.benchmarks.packing import packing
from safety_align.errors import InputError
from safety_align.model import SafetyTransformer, kernels
from safety_align.model.readout import SignalConfig
from safety_align.placement import Batch, RowShape
from safety_align.routing import Kind
from safety_align.training.from_dict import to_train_config
from safety_align.training.losses import Totals, cls_loss
from safety_align.training.objective import Objective
from safety_align.training.perturbation import Perturbation, moved, moves

PARAMS = random_params(TINY, 3, 0.3)


def rows(seed: int = 0, length: int = 48):
    (batch, _) = random_rows(np.random.default_rng(seed), rows=4, length=length)
    return jax.tree.map(jnp.asarray, batch)


def beside_rows():
    rng = np.random.default_rng(5)
    segments = [[dataclasses.replace(random_segment(rng, 5, 7, 2), beside=True, train_lm=False)] for _ in range(6)]
    return jax.tree.map(jnp.asarray, Batch.of(segments, RowShape(16, 4)))


@jax.jit
def checks_loss(batch, vectors):
    safety = SafetyTransformer(TINY).apply({"params": PARAMS}, vectors, *batch.inputs[1:], method="readout")[2]
    return cls_loss(safety, batch.cls_labels, batch.cls_weights, Totals.of(batch).cls)


def embedded(batch):
    return SafetyTransformer(TINY).apply({"params": PARAMS}, batch.tokens, method="embed")


def reach(perturbation) -> float:
    table = np.asarray(PARAMS["embedding"], np.float64)
    return perturbation.radius * np.sqrt((table**2).sum(-1).mean())


@functools.partial(jax.jit, static_argnums=0)
def made_moves(perturbation, start, batch):
    return moves(perturbation, PARAMS["embedding"], start, batch, lambda v: checks_loss(batch, v))


def query_slots(batch) -> np.ndarray:
    """By loops."""
    found = np.zeros(batch.content.shape, bool)
    for row in np.flatnonzero(np.asarray(batch.tokens).sum(1) % 2 == 0):
        for m, kind in enumerate(np.asarray(batch.cls_kinds[row])):
            if kind == Kind.QUERY and batch.cls_weights[row, m] > 0:
                low, high = batch.cls_range[row, m]
                found[row, low:high] |= np.asarray(batch.content[row, low:high])
    return found


def test_content_of_labelled_queries_moves_in_about_half_of_the_rows():
    batch = rows()
    np.testing.assert_array_equal(moved(batch), query_slots(batch))
    which = np.concatenate([moved(rows(seed)).any(1) for seed in range(20)])
    assert 0.3 < which.mean() < 0.7
    silent = batch.replace(cls_weights=jnp.zeros_like(batch.cls_weights))
    assert not moved(silent).any()


@pytest.mark.parametrize("steps", [1, 3])
def test_moves_are_those_of_projected_gradient_ascent(steps):
    """To 1e-4 of a vector's length: float32 gradients, in numpy's float64 from there on."""
    perturbation, batch = Perturbation(0.7, steps), rows(1)
    start, limit = embedded(batch), reach(perturbation)
    where, found = query_slots(batch)[..., None], np.zeros(start.shape)
    slope = jax.jit(jax.grad(lambda v: checks_loss(batch, v)))
    for _ in range(steps):
        gradient = np.asarray(slope(start + found.astype(np.float32)), np.float64)
        size = np.linalg.norm(gradient, axis=-1, keepdims=True)
        found += (limit if steps == 1 else 2 * limit / steps) * gradient / np.where(size, size, 1) * where
        size = np.linalg.norm(found, axis=-1, keepdims=True)
        found *= np.minimum(1, limit / np.maximum(size, 1e-30))
    made = made_moves(perturbation, start, batch)
    np.testing.assert_allclose(made, found, atol=1e-4 * limit)
    assert np.linalg.norm(made, axis=-1).max() <= limit * (1 + 1e-5)
    assert checks_loss(batch, start + made) > checks_loss(batch, start)


def test_the_loss_is_that_of_the_moved_vectors_and_its_gradient_knows_nothing_of_the_moves():
    """Loss and gradient of a batch whose vectors are moved by constants; to 1e-5."""
    batch, perturbation = rows(2), Perturbation(0.5, 1)
    plain = Objective(TINY, 0.5)
    made = made_moves(perturbation, embedded(batch), batch)

    def fixed(params):
        vectors = SafetyTransformer(TINY).apply({"params": params}, batch.tokens, method="embed") + made
        return plain.losses(params, batch.replace(tokens=vectors), Totals.of(batch))[0]

    robust = dataclasses.replace(plain, perturbation=perturbation)
    loss, gradient = jax.jit(jax.value_and_grad(lambda p: robust.losses(p, batch, Totals.of(batch))[0]))(PARAMS)
    expected, its_gradient = jax.jit(jax.value_and_grad(fixed))(PARAMS)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), gradient, its_gradient)
    assert loss > plain.losses(PARAMS, batch, Totals.of(batch))[0]


def gradients(objective, batch, accumulation: int):
    """Of a batch in so many microbatches, as `make_train_step` splits it."""
    totals, found = Totals.of(batch), []
    gradient = jax.jit(jax.grad(lambda params, part: objective.losses(params, part, totals)[0]))
    for i in range(accumulation):
        found.append(gradient(PARAMS, batch.take(slice(i, None, accumulation))))
    return jax.tree.map(lambda *parts: sum(parts), *found)


def test_microbatches_move_the_same_rows():
    """To 1e-4 of the largest: sums in another order."""
    batch, objective = rows(3), Objective(TINY, 0.5, perturbation=Perturbation(0.5, 1))
    whole = gradients(objective, batch, 1)
    for accumulation in (2,):
        for a, b in zip(
            jax.tree.leaves(gradients(objective, batch, accumulation)), jax.tree.leaves(whole), strict=True
        ):
            np.testing.assert_allclose(a, b, atol=1e-4 * float(jnp.abs(b).max()) + 1e-7)


def test_nothing_is_differentiated_twice(monkeypatch):
    """Flash kernels have no second derivative: tracing one raises. Traced as on a TPU, not run."""
    monkeypatch.setattr(kernels, "choose", lambda *_: "splash")
    batch, objective = rows(length=128), Objective(TINY, 0.5, perturbation=Perturbation(0.5, 2))
    traced = jax.make_jaxpr(jax.grad(lambda p: objective.losses(p, batch, Totals.of(batch))[0]))(PARAMS)
    assert traced.jaxpr.outvars


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["row", "probe"])
def test_beside_a_frozen_model_only_the_signal_has_a_gradient(kind):
    """The loss is that of moved vectors; what is frozen has no gradient, and its layers no second pass."""
    signal = SignalConfig() if kind == "row" else SignalConfig("probe", depths=(1, 2), heads=3, features=5)
    config = dataclasses.replace(TINY, signal=signal)
    params, batch = random_params(config, 3, 0.3), beside_rows()
    plain = Objective(config, 1.0, "signal", beside=True)
    robust = dataclasses.replace(plain, perturbation=Perturbation(0.1, 1))  # a short step up
    trained, frozen = robust.split(params)

    def loss(objective, trained, frozen):
        return objective.losses(trained | frozen, batch, Totals.of(batch))[0]

    assert loss(robust, trained, frozen) > loss(plain, trained, frozen)
    own, others = jax.grad(loss, argnums=(1, 2))(robust, trained, frozen)
    assert all(float(jnp.abs(g).max()) == 0 for g in jax.tree.leaves(others))
    assert any(float(jnp.abs(g).max()) > 0 for g in jax.tree.leaves(own))


def test_validation_reads_what_was_written():
    batch, plain = rows(), Objective(TINY)
    robust = dataclasses.replace(plain, perturbation=Perturbation())
    for name, value in plain.evaluate(PARAMS, batch).items():
        np.testing.assert_array_equal(value, robust.evaluate(PARAMS, batch)[name])


def test_the_robust_config_has_its_fields_and_what_cannot_be_is_named():
    config = embedded_robust.get_config()
    found = to_train_config(config.to_dict())
    assert found.objective.perturbation == Perturbation(1.0, 1) and found.data.disguised == 0.5
    for changed, said in (
        (dict(perturbation=dict(radius=0.0)), "radius"),
        (dict(perturbation=dict(steps=0)), "steps"),
        (dict(perturbation=dict(size=1)), "size"),
        (dict(model=dict(preset="tiny", safety_signal=False), lambda_cls=0.0), "safety_signal"),
        (dict(kept_batches=3), "kept_batches"),
    ):
        with pytest.raises(InputError, match=said):
            to_train_config(config.to_dict() | changed)


def test_no_config_of_the_embedded_corpus_leaves_out_more_than_it_may():
    """Of over a thousand conversations, where a run would stop; a disguise is longer than what it hides."""
    for module in (embedded_robust, embedded_gated):
        config = to_train_config(module.get_config().to_dict() | {"init_from": "", "tokenizer_texts": 1000})
        assert packing(config, 16)["skipped"] < config.pipeline.max_skipped
