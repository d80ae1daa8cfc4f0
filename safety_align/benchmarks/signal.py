"""`launch.benchmark signal`: a training step of a signal beside a frozen model, over a plain forward pass."""

import dataclasses
import statistics

import flax.linen as nn
import jax
import numpy as np

from safety_align import sharding
from safety_align.benchmarks.timing import median_ratio, paired, timed
from safety_align.model import SafetyTransformer, TransformerConfig, init_params, preset
from safety_align.model.readout import SignalConfig
from safety_align.placement import Batch, RowShape, Segment
from safety_align.routing import RoutingConfig, sample_checks
from safety_align.training.objective import Objective
from safety_align.training.optimizer import OptimizerConfig, make_optimizer
from safety_align.training.step import init_state, make_train_step

KINDS = {
    "row": SignalConfig(),
    "row_rank_8": SignalConfig("row", rank=8),
    "row_deep_rank_8": SignalConfig("row_deep", rank=8),
    "probe": SignalConfig("probe"),
}


def signal(size: str, batch: int, length: int, rounds: int, dtype: str = "float32", progress=None) -> dict:
    """Every kind of read-out trained beside the language model of `size`, on rows of conversations of 20 + 60 tokens with
    seven checks each.

    Returns of each kind ratio_KIND, a step's time over that of a plain forward pass of the same tokens to its final hidden
    states (the matrix of next-token logits left out), and temporary_KIND, the bytes of a step's temporaries; tokens_per_s of
    the plain pass, and temporary_plain.
    """
    base = preset(size, dtype=dtype, param_dtype=dtype)
    placed, tokens = _batch(base.vocab_size, batch, length)
    runs, found = {}, {}
    runs["plain"], found["temporary_plain"] = _plain(base, placed)
    for name, kind in KINDS.items():
        runs[name], found[f"temporary_{name}"] = _step(dataclasses.replace(base, signal=kind), placed)
    for run in runs.values():
        run()
    seconds = paired(runs, rounds, progress)
    found["tokens_per_s"] = tokens / statistics.median(seconds["plain"])
    return found | {f"ratio_{name}": median_ratio(seconds[name], seconds["plain"]) for name in KINDS}


def _plain(base: TransformerConfig, batch: Batch):
    config = dataclasses.replace(base, safety_signal=False)
    params = jax.jit(lambda key: nn.unbox(init_params(config, key)))(jax.random.key(0))
    none = np.zeros((len(batch.tokens), 0), np.int32)
    routing = batch.inputs[2].replace(cls_index=none, cls_range=np.zeros((*none.shape, 2), np.int32))

    @jax.jit
    def forward(params):
        arguments = batch.tokens, batch.positions, routing
        return SafetyTransformer(config).apply({"params": params}, *arguments, method="hidden")[0]

    compiled = forward.lower(params).compile()
    return timed(lambda: compiled(params)), compiled.memory_analysis().temp_size_in_bytes


def _step(config: TransformerConfig, batch: Batch):
    mesh = sharding.make_mesh()
    objective = Objective(config, lambda_cls=1.0, trainable="signal", beside=True)
    optimizer = make_optimizer(OptimizerConfig(), 1000)
    with jax.set_mesh(mesh):
        holder = [jax.jit(lambda key: init_state(objective, optimizer, key))(jax.random.key(0))]
        placed = jax.device_put(batch, sharding.batch_sharding(mesh))
        compiled = make_train_step(objective, optimizer, 1, mesh).lower(holder[0], placed).compile()

    def run():
        holder[0] = compiled(holder[0], placed)[0]
        return holder[0]

    return timed(run), compiled.memory_analysis().temp_size_in_bytes


def _batch(vocab: int, batch: int, length: int) -> tuple[Batch, int]:
    rng, rows = np.random.default_rng(0), []
    routing = RoutingConfig(windows=6, visible=False, beside=True)
    for _ in range(batch):
        rows.append([])
        for start in range(0, length, 80):
            response = min(60, length - start - 20)
            if response < 2:
                break
            checks = sample_checks(rng, 20, response - 1, 0.0, 0.0, routing)
            rows[-1].append(
                Segment(
                    rng.integers(0, vocab, 20), np.ones(20, bool), rng.integers(0, vocab, response),
                    np.arange(response) < response - 1, checks, beside=True,
                )
            )  # fmt: skip
    tokens = sum(s.length for row in rows for s in row)
    return Batch.of(rows, RowShape(length, 7 * (length // 80 + 1))), tokens
