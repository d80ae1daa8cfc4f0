"""The signal beside a frozen language model: two streams against one, against a cache, and what each may touch."""

import dataclasses
import functools
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from make import TINY, random_params, random_rows, random_segment

from launch import cli
from safety_align.bundle import Bundle
from safety_align.errors import InputError
from safety_align.model import SafetyTransformer, Write, unroll
from safety_align.model.attention import COPIES, in_parts
from safety_align.model.readout import SignalConfig, is_signal, pool, signal_shapes
from safety_align.model.watch import watch
from safety_align.placement import Batch, RowShape
from safety_align.routing import CLS_TOKEN, IGNORED, check_reads
from safety_align.text import get_template
from safety_align.training.from_dict import to_train_config
from safety_align.training.loop import _load_start
from safety_align.training.losses import Totals
from safety_align.training.objective import Objective

watched = functools.partial(jax.jit, static_argnums=0, static_argnames="whole")(watch)


@functools.partial(jax.jit, static_argnums=(0, 1))
def applied(config, method, params, *arguments):
    return SafetyTransformer(config).apply({"params": params}, *arguments, method=method)


@functools.partial(jax.jit, static_argnums=(0, 5))
def extended(config, params, ids, cache, mask, slot):
    arguments = ids, 0 * ids, cache, [Write(0, slot)], mask, 1
    return SafetyTransformer(config).apply({"params": params}, *arguments, method="extend")


LAYERS = dataclasses.replace(TINY, layers=3, qkv_bias=True)
READOUTS = {
    "paper": SignalConfig(),
    "adapted": SignalConfig("row", rank=2),
    "deep": SignalConfig("row_deep", rank=3, depths=(2, 3)),
    "shallow": SignalConfig("row_deep", depths=(1, 2)),
    "probe": SignalConfig("probe", depths=(1, 2), heads=3, features=5),
    "probes": SignalConfig("probe", depths=(1, 2), heads=2, features=5, members=2),
}
EVERY = [pytest.param(name, marks=[pytest.mark.slow] if name != "probe" else []) for name in READOUTS]


def model_of(name: str, seed: int = 0):
    config = dataclasses.replace(LAYERS, signal=READOUTS[name])
    return config, random_params(config, seed)


def outside(batch):
    """The routing in which no token sees a `[CLS]`."""
    tokens, positions, routing = batch.inputs
    return (
        tokens,
        positions,
        routing.replace(segments=np.where(tokens == CLS_TOKEN, -routing.segments, routing.segments)),
    )


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_row_beside_the_model_is_the_row_within_it(seed):
    """The paper's read-out; tolerance 1e-5: sums in another order."""
    config, params = model_of("paper", seed)
    batch, _ = random_rows(np.random.default_rng(seed), 3, 48)
    inputs = outside(batch)
    within = applied(config, "__call__", params, *inputs)
    found = watched(config, params, *inputs)
    np.testing.assert_allclose(found.safety_logits, within.safety_logits, atol=1e-5)
    assert np.ptp(np.asarray(found.safety_logits)) > 0.1


@pytest.mark.parametrize("name", EVERY)
def test_scanned_layers_and_unrolled_ones_agree_and_the_model_is_untouched_to_the_bit(name):
    config, params = model_of(name)
    batch, _ = random_rows(np.random.default_rng(2), 3, 48)
    inputs = outside(batch)
    scanned = watched(config, params, *inputs)
    plain_config, plain_params = unroll(config, params)
    found = watched(plain_config, plain_params, *inputs, whole=True)
    np.testing.assert_allclose(found.safety_logits, scanned.safety_logits, atol=1e-5)
    # The plain language model, which has never heard of a signal, on the same tokens.
    bare = dataclasses.replace(plain_config, safety_signal=False)
    routing = inputs[2].replace(cls_index=np.zeros((3, 0), np.int32), cls_range=np.zeros((3, 0, 2), np.int32))
    lm = {n: x for n, x in plain_params.items() if not is_signal(n)}
    blank = np.where(inputs[0] == CLS_TOKEN, 0, inputs[0])
    hidden, cache = applied(bare, "hidden", lm, blank, inputs[1], routing)
    real = inputs[0] != CLS_TOKEN
    np.testing.assert_array_equal(np.asarray(found.hidden)[real], np.asarray(hidden)[real])
    for ours, theirs in zip(found.cache.layers, cache.layers, strict=True):
        for a, b in ((ours.keys, theirs.keys), (ours.values, theirs.values)):
            np.testing.assert_array_equal(np.asarray(a).swapaxes(1, 2)[real], np.asarray(b).swapaxes(1, 2)[real])


@pytest.mark.parametrize("name", EVERY)
def test_a_check_of_whole_rows_is_the_check_over_a_cache(name):
    """`watch` against `extend` (or `pooled`), which the decoder uses: one check after the other. Tolerance 1e-5."""
    config, params = unroll(*model_of(name))
    batch, _ = random_rows(np.random.default_rng(3), 3, 48)
    inputs = outside(batch)
    found = watched(config, params, *inputs, whole=True)
    size, reads = batch.tokens.shape[1], np.asarray(check_reads(inputs[2]))
    cache = found.cache.arrange([slice(None), 1])

    compared = 0
    for m in range(reads.shape[1]):
        mask = np.concatenate([reads[:, m], np.zeros((3, 1), bool)], axis=1)[:, None]
        if config.signal.kind == "probe":
            logits = applied(config, "pooled", params, cache, mask)
        else:
            mask[..., -1] = True
            ids = np.full((3, 1), CLS_TOKEN)
            _, logits, _ = extended(config, params, ids, cache, mask, size)
        used = batch.cls_index[:, m] != IGNORED
        np.testing.assert_allclose(logits[used, 0], found.safety_logits[used, m], atol=1e-5)
        assert (np.asarray(found.safety_logits)[~used, m] == 0).all()
        compared += used.sum()
    assert compared > 10


@pytest.mark.parametrize("name", EVERY)
def test_training_moves_the_signal_and_nothing_else(name):
    config, params = model_of(name)
    batch, _ = random_rows(np.random.default_rng(4), 2, 48)
    objective = Objective(config, lambda_cls=1.0, trainable="signal", beside=True)

    @jax.jit
    def loss(params):
        return objective.losses(params, batch, Totals.of(batch))[0]

    grads = jax.jit(jax.grad(loss))(params)
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        assert bool(jnp.any(grad != 0)) == is_signal(path[0].key), path
    trained, frozen = objective.split(params)
    assert set(trained) == set(signal_shapes(config)) and not any(map(is_signal, frozen))
    # Against finite differences, along a random direction.
    rng = np.random.default_rng(5)
    direction = {n: jnp.asarray(rng.normal(size=x.shape), jnp.float32) for n, x in trained.items()}
    slope = sum(jnp.vdot(grads[n], direction[n]) for n in trained)
    ahead, behind = (loss(params | {n: x + s * direction[n] for n, x in trained.items()}) for s in (1e-3, -1e-3))
    assert float(slope) == pytest.approx(float(ahead - behind) / 2e-3, rel=2e-2, abs=1e-3)


def test_a_signal_read_early_does_not_read_what_comes_later():
    """Layers behind the last depth may hold anything."""
    for name in ("shallow", "probe"):
        config, params = unroll(*model_of(name))
        last = config.signal.depths_of(config.layers)[-1]
        assert last < config.layers
        batch, _ = random_rows(np.random.default_rng(6), 2, 48)
        before = watched(config, params, *outside(batch)).safety_logits
        # The norm in front of the next layer is the probe's; the rest is not.
        broken = {n: x for n, x in params[f"layer_{last}"].items() if n != "attention_norm"}
        broken = jax.tree.map(lambda x: x * jnp.nan, broken) | {
            "attention_norm": params[f"layer_{last}"]["attention_norm"]
        }
        after = watched(config, params | {f"layer_{last}": broken}, *outside(batch)).safety_logits
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    "fields, message",
    [
        (dict(kind="nose"), "signal.kind"),
        (dict(rank=-1), "signal.rank"),
        (dict(kind="probe", rank=2), "probe"),
        (dict(kind="row", depths=(1,)), "depths"),
        (dict(kind="probe", depths=(2, 1)), "rise"),
        (dict(kind="probe", depths=(9,)), "layers"),
        (dict(kind="probe", depths="12"), "depths"),
    ],
)
def test_bad_readouts_are_named(fields, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(LAYERS, signal=SignalConfig(**fields))


def test_checks_without_slots_are_the_checks_with_them():
    """The same segments, their checks in slots of their own or in none: the tokens' part of a row is the same."""
    config, params = model_of("deep")
    rng = np.random.default_rng(7)
    segments = [random_segment(rng, 5 + i, 9, 3) for i in range(4)]
    hidden = [
        dataclasses.replace(s, checks=tuple(dataclasses.replace(c, hidden=True) for c in s.checks)) for s in segments
    ]
    found = []
    for beside in (False, True):
        rows = [[dataclasses.replace(s, beside=beside) for s in hidden[i : i + 2]] for i in (0, 2)]
        batch = Batch.of(rows, RowShape(48, checks=10))
        assert (batch.tokens == CLS_TOKEN).any() != beside
        logits = watched(config, params, *batch.inputs).safety_logits
        found.append([x for x in (np.asarray(logits), batch.cls_labels, batch.cls_kinds)])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert np.count_nonzero(found[0][0]) == sum(len(s.checks) for s in segments)


def test_a_signal_beside_the_tokens_is_not_looked_for_among_them():
    config, params = model_of("probe")
    batch, _ = random_rows(np.random.default_rng(8), 2, 48)
    with pytest.raises(InputError, match="watch"):
        SafetyTransformer(config).apply({"params": params}, *batch.inputs)


def test_vectors_in_place_of_tokens_are_read_and_feel_gradients():
    """An attacker's soft prompt: the same logits, and a slope to follow."""
    config, params = model_of("probe")
    rng = np.random.default_rng(9)
    segments = [dataclasses.replace(random_segment(rng, 6, 9, 2), beside=True) for _ in range(2)]
    tokens, positions, routing = Batch.of([[s] for s in segments], RowShape(24, checks=4)).inputs
    vectors = applied(config, "embed", params, tokens)
    hard = watched(config, params, tokens, positions, routing).safety_logits
    soft = watched(config, params, vectors, positions, routing).safety_logits
    np.testing.assert_allclose(soft, hard, atol=1e-5)

    @jax.jit
    def total(vectors):
        return watch(config, params, vectors, positions, routing).safety_logits.sum()

    slope = np.abs(jax.jit(jax.grad(total))(vectors)).max(-1)
    read = np.asarray(check_reads(routing)).any(axis=1)
    assert read.sum() > 5 and (slope[read] > 0).all()


def test_many_checks_of_a_probe_are_pooled_in_parts():
    rng = np.random.default_rng(10)
    # Three members of one head each, as the arrays' sizes say.
    params = {"safety_bias": np.float32(0.5), "probe_in": np.zeros((1, 4, 6)), "probe_key": np.zeros((2, 3))}
    scores, reads = rng.normal(size=(2, 30, 6)).astype(np.float32), rng.random((2, COPIES + 6, 30)) < 0.3
    whole = pool(params, scores, reads)
    parts = in_parts(lambda part: pool(params, scores, part), jnp.asarray(reads))
    np.testing.assert_allclose(parts, whole, atol=1e-6)
    keys, values = scores[1, reads[1, 3]][:, :3], scores[1, reads[1, 3]][:, 3:]
    weights = np.exp(keys) / np.exp(keys).sum(0)
    np.testing.assert_allclose(whole[1, 3], (weights * values).sum() / 3 + 0.5, rtol=1e-5)
    np.testing.assert_allclose(pool(params, scores, 0 * reads), 0.5)  # no evidence


def test_a_signal_that_is_looked_for_in_the_wrong_place_is_said():
    config, _ = model_of("probe")
    for options in ({}, dict(trainable="signal")):
        with pytest.raises(InputError, match="routing.beside=True"):
            Objective(config, **options)
    with pytest.raises(InputError, match="trained alone"):
        Objective(config, beside=True)


def test_a_run_does_not_begin_with_the_arrays_of_another_read_out():
    begun = to_train_config(run_values(signal=dict(kind="probe", depths=[1])))
    for other in (dict(kind="probe", depths=[2]), dict(kind="row_deep", rank=2), dict(kind="row")):
        there = to_train_config(run_values(signal=other)).model
        bundle = Bundle(there, {}, None, get_template("plain"))
        with pytest.raises(InputError, match="start from the model without it"):
            _load_start(begun, None, lambda *_, bundle=bundle, **__: bundle)


def run_values(**changes):
    values = cli.load_config("configs/signal.py").to_dict() | {"init_from": "runs/base", "template": "plain"}
    return values | {"model": dict(preset="tiny", safety_signal=True)} | changes


def test_a_config_of_a_read_out_is_one_of_a_frozen_unseen_signal():
    values = run_values(signal=dict(kind="row_deep", rank=8, depths=[1, 2]))
    values["routing"].pop("visible")
    config = to_train_config(values)
    assert config.model.signal == SignalConfig("row_deep", rank=8, depths=(1, 2))
    assert config.routing.beside and not config.routing.visible and not config.gate.visible
    assert config.objective.beside
    for changes, said in (
        (dict(trainable="all"), "frozen"),
        (dict(signal=dict(kind="nose")), "signal.kind"),
        (dict(routing=dict(beside=True, visible=True)), "routing.visible"),
        (dict(signal=dict(kind="probe"), routing=dict(beside=False, visible=False)), "routing.beside"),
    ):
        with pytest.raises(InputError, match=said):
            to_train_config(run_values(**changes))


@pytest.mark.slow
def test_read_outs_on_a_mesh_are_those_of_one_device():
    here = pathlib.Path(__file__).parent
    done = subprocess.run([sys.executable, here / "readout_meshes.py"], capture_output=True, text=True, cwd=here.parent)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    assert done.stdout.count("right:") == 6, done.stdout
