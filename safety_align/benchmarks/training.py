"""`launch.benchmark train`: the training step with the safety task, over plain SFT, and over torch; FLOP/s and MFU."""

import dataclasses
import statistics
import time

import jax
import numpy as np

from safety_align import sharding, sizes
from safety_align.benchmarks.timing import median_ratio, paired
from safety_align.model import TransformerConfig, preset
from safety_align.placement import Batch, RowShape, Segment
from safety_align.routing import RoutingConfig, sample_checks
from safety_align.training.flops import peak_flops, train_flops
from safety_align.training.objective import Objective
from safety_align.training.optimizer import OptimizerConfig, make_optimizer
from safety_align.training.step import init_state, make_train_step


def train(
    size: str,
    batch: int,
    length: int,
    rounds: int,
    dtype: str = "float32",
    torch: bool = False,
    remat: str = "none",
    attention: str = "auto",
    progress=None,
) -> dict:
    """The training step with `[CLS]` and two windows an example, over plain SFT of the same examples.

    Returns tokens_per_s (ordinary tokens, with the safety task), tokens_per_s_sft, ratio_safety (time per ordinary
    token over SFT's), ratio_step (time per step of equal shape), slots_per_s (all slots of rows, SFT), model_flops (of
    an SFT step, convention in training/flops.py), flops_per_s (SFT), mfu (over the devices' published bfloat16 peak, or,
    of a device without one, over a large float32 matrix product's FLOP/s in the same run: `matmul_flops_per_s`), batch,
    parameters, compile_s. With `torch`: torch_slots_per_s of a `transformers` model of the same shape, and
    torch_over_ours, its time per step over that of our SFT step.
    """
    mesh = sharding.make_mesh()
    base = preset(size, dtype=dtype, remat=remat, attention=attention)
    sizes.check_training(base, mesh, batch, length)
    runs, tokens, facts, beside = {}, {}, {}, {}
    if torch:  # first: where it is missing, nothing else is compiled in vain
        from safety_align.benchmarks.torch_training import torch_step

        beside["torch"] = torch_step(dataclasses.replace(base, safety_signal=False), batch, length)
    for name in ("sft", "safety"):
        model = dataclasses.replace(base, safety_signal=name == "safety")
        placed, tokens[name] = _batch(model.vocab_size, batch, length, model.safety_signal)
        runs[name], facts = _our_step(model, placed, mesh)
    runs |= beside
    peak = peak_flops(jax.devices()[0].device_kind)
    if peak is None:
        runs["matmul"] = _matmul()
    for run in runs.values():
        run()
    seconds = paired(runs, rounds, progress)
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    if peak is None:
        facts["matmul_flops_per_s"] = MATMUL_FLOPS / middle["matmul"]
    ratio = median_ratio(seconds["safety"], seconds["sft"])
    flops = train_flops(base, batch, length)
    found = {
        "tokens_per_s": tokens["safety"] / middle["safety"],
        "tokens_per_s_sft": tokens["sft"] / middle["sft"],
        "ratio_safety": ratio * tokens["sft"] / tokens["safety"],
        "ratio_step": ratio,
        "slots_per_s": batch * length / middle["sft"],
        "model_flops": flops,
        "flops_per_s": flops / middle["sft"],
        "mfu": flops / middle["sft"] / (facts["matmul_flops_per_s"] if peak is None else mesh.size * peak),
        "batch": batch,
        **facts,
    }
    if torch:
        found["torch_slots_per_s"] = batch * length / middle["torch"]
        found["torch_over_ours"] = median_ratio(seconds["torch"], seconds["sft"])
    return found


def _our_step(model: TransformerConfig, batch: Batch, mesh):
    """A function that makes a step and returns its seconds, and facts about the step."""
    objective, optimizer = Objective(model), make_optimizer(OptimizerConfig(), 1000)
    with jax.set_mesh(mesh):
        state = jax.jit(lambda key: init_state(objective, optimizer, key))(jax.random.key(0))
        step = make_train_step(objective, optimizer, 1, mesh)
        batch = jax.device_put(batch, sharding.batch_sharding(mesh))
        started = time.perf_counter()
        holder = [jax.block_until_ready(step(state, batch)[0])]
    facts = {
        "parameters": sum(x.size for x in jax.tree.leaves(holder[0].params)),
        "compile_s": time.perf_counter() - started,
    }

    def run() -> float:
        started = time.perf_counter()
        with jax.set_mesh(mesh):
            holder[0] = jax.block_until_ready(step(holder[0], batch)[0])
        return time.perf_counter() - started

    return run, facts


MATMUL = 2048
MATMUL_FLOPS = 4 * 2 * MATMUL**3


def _matmul():
    """Four float32 products of large matrices: what a device without a published peak can do."""
    multiply = jax.jit(lambda a, b: a @ b)
    a, b = (jax.random.normal(jax.random.key(i), (MATMUL, MATMUL)) for i in range(2))

    def run() -> float:
        started = time.perf_counter()
        for _ in range(4):
            jax.block_until_ready(multiply(a, b))
        return time.perf_counter() - started

    return run


def _batch(vocab: int, batch: int, length: int, safety: bool):
    """Rows of random conversations of 20 + 60 tokens, packed, and the number of ordinary tokens in them."""
    rng, rows, count, checks = np.random.default_rng(0), [], 0, 3 * (length // 80 + 1)
    for _ in range(batch):
        room, segments = length, []
        prompt, copies = 20, 3 if safety else 0
        while room >= prompt + copies + 2:  # the last conversation fills the row
            response = min(60, room - prompt - copies)
            drawn = sample_checks(rng, prompt, response - 1, 0.0, 0.0, RoutingConfig(windows=2)) if safety else ()
            segments.append(
                Segment(
                    rng.integers(0, vocab, prompt),
                    np.ones(prompt, bool),
                    rng.integers(0, vocab, response),
                    np.arange(response) < response - 1,
                    drawn,
                )
            )
            room -= segments[-1].length
            count += prompt + response
        rows.append(segments)
    return Batch.of(rows, RowShape(length, checks if safety else 0)), count
