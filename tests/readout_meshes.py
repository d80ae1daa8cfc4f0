"""Run by test_watch.py on four fake devices: read-outs beside the model, sharded, against one device. Prints one line each."""

import os

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"

import dataclasses
import pathlib
import sys

import jax
import numpy as np
from make import TINY, random_params, random_rows, random_segment

sys.path.insert(0, str(pathlib.Path(__file__).parent / "decoding"))

import test_decoder_oracle as oracle
import test_readout_oracle as readouts

from safety_align import sharding
from safety_align.decoding.decoder import Decoder
from safety_align.model import SignalConfig, abstract_params, unroll
from safety_align.model.watch import watch
from safety_align.placement import Batch, RowShape
from safety_align.training.objective import Objective
from safety_align.training.optimizer import OptimizerConfig, make_optimizer
from safety_align.training.step import init_state, make_train_step

TOLERANCE = 2e-5  # float32, sums in another order
KINDS = {
    "deep": SignalConfig("row_deep", rank=2, depths=(1, 2)),
    "probe": SignalConfig("probe", depths=(1, 2), heads=3),
    "probes": SignalConfig("probe", depths=(1, 2), heads=2, features=6, members=2),
}


def train(config, params, batch, mesh):
    """The losses and the signal of three steps."""
    objective = Objective(config, lambda_cls=1.0, trainable="signal", beside=True)
    optimizer = make_optimizer(OptimizerConfig(learning_rate=1e-2, warmup=0), 3)
    losses = []
    with jax.set_mesh(mesh):
        place = sharding.param_shardings(mesh, abstract_params(config))
        # A copy: the step donates its state.
        state = init_state(
            objective, optimizer, jax.random.key(0), jax.device_put(jax.tree.map(np.array, params), place)
        )
        step = make_train_step(objective, optimizer, 1, mesh)
        for _ in range(3):
            state, metrics = step(state, jax.device_put(batch, sharding.batch_sharding(mesh)))
            losses.append(float(metrics["loss"]))
    return losses, jax.device_get(objective.split(state.params)[0])


def main():
    seed = int(np.random.default_rng().integers(1 << 30))
    print("seed", seed)
    rng = np.random.default_rng(seed)
    rows = [[dataclasses.replace(random_segment(rng, 6, 9, 3), beside=True) for _ in range(2)] for _ in range(4)]
    beside, (among, _) = Batch.of(rows, RowShape(32, checks=9)), random_rows(rng, rows=4)
    one = sharding.make_mesh(data=1, devices=jax.devices()[:1])
    many = sharding.make_mesh(data=1, fsdp=2, tensor=2)
    for name, kind in KINDS.items():
        config = dataclasses.replace(TINY, vocab_size=98, signal=kind)  # divisible
        params = random_params(config)
        place = sharding.param_shardings(many, abstract_params(config))
        for batch in (beside, among):
            expected = jax.jit(watch, static_argnums=0)(config, params, *batch.inputs).safety_logits
            with jax.set_mesh(many):
                inputs = jax.device_put(batch.inputs, sharding.batch_sharding(many))
                found = jax.jit(watch, static_argnums=0)(config, jax.device_put(params, place), *inputs).safety_logits
            np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * max(1, np.abs(expected).max()))
        print("right: checks,", name)
        if name == "probe":  # of rows and probes one is trained and one decodes: each takes a minute to compile
            decode(config, many)
            continue
        (losses, signal), (sharded, other) = (train(config, params, beside, mesh) for mesh in (one, many))
        np.testing.assert_allclose(sharded, losses, atol=1e-4)
        assert losses[-1] < losses[0]
        for a, b in zip(*map(jax.tree.leaves, (signal, other)), strict=True):
            # Adam divides by the size of a gradient: what is nearly zero may go either way.
            assert np.mean(np.abs(a - b) > 1e-3) < 0.02
        print("right: training,", name)


def decode(config, many):
    """A gated answer on a mesh, token for token that of one device."""
    plain, unrolled = unroll(config, readouts.make_params(1, 0.0, config))
    gate = dataclasses.replace(oracle.GATES["medium_rewind"], visible=False)
    decoder = Decoder(plain, gate, oracle.REFUSAL, oracle.CONTINUED, oracle.EOS, oracle.LAYOUT)
    asked = oracle.to_batch(oracle.make_rows(1, 4, 9, 11), oracle.LAYOUT, oracle.NEW_TOKENS, gate)
    alone = oracle.run(decoder, unrolled, asked)
    with jax.set_mesh(many):
        where = sharding.param_shardings(many, abstract_params(plain))
        placed = jax.device_put(asked, sharding.batch_sharding(many))
        together = oracle.run(decoder, jax.device_put(unrolled, where), placed)
    np.testing.assert_array_equal(alone.tokens, together.tokens)
    np.testing.assert_array_equal(alone.stop, together.stop)
    np.testing.assert_allclose(alone.trace.probability, together.trace.probability, atol=2e-4)
    print("right: decoding")


main()
