"""What `launch.benchmark` measures: paired timings of decoders and training steps on random parameters."""

import dataclasses
import statistics
import time
from collections.abc import Callable

import flax.linen as nn
import jax
import numpy as np

from safety_align import sharding
from safety_align.decoding import GateConfig, Layout
from safety_align.decoding import generate as decoder_module
from safety_align.decoding.state import Batch
from safety_align.model import init_params, preset
from safety_align.routing import RoutingConfig, Segment, place, sample_checks
from safety_align.training.optimizer import OptimizerConfig, make_optimizer
from safety_align.training.step import init_state, make_train_step

SCHEDULES = ("every", "annealing", "periodic", "random", "first")

BENIGN_LOGIT = -20.0
"""Bias of the safety head: no verdict ever turns."""


def paired(runs: dict[str, Callable[[], float]], rounds: int, progress: Callable[[int], object] | None = None):
    """Seconds of each run in each round, {name: [rounds]}; odd rounds run backwards."""
    seconds = {name: [] for name in runs}
    for number in range(rounds):
        for name in list(runs)[:: -1 if number % 2 else 1]:
            seconds[name].append(runs[name]())
        if progress:
            progress(1)
    return seconds


def median_ratio(above: list[float], below: list[float]) -> float:
    """The median of the ratios within rounds."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def decode(size: str, batch: int, prompt: int, tokens: int, rounds: int, dtype: str = "float32", progress=None) -> dict:
    """Decoding with the gate, by schedule, over decoding without.

    Returns tokens_per_s (all rows together, a check at every step), tokens_per_s_ungated, ratio {schedule: time per
    token over no gate}, batch, parameters, peak_bytes (parameters, cache, temporaries of the compiled loop),
    cache_bytes, parameter_bytes, temporary_bytes, compile_s (loop with a check at every step).
    """
    model = preset(size, dtype=dtype, param_dtype=dtype, scan_layers=False)
    params = jax.jit(lambda key: nn.unbox(init_params(model, key)))(jax.random.key(0))
    params = params | {"safety_bias": params["safety_bias"] + BENIGN_LOGIT}
    chunk = decoder_module.CHUNK
    layout = Layout(prompt=prompt, prefill=0, steps=-(-tokens // chunk) * chunk)
    rng = np.random.default_rng(0)
    rows = Batch(
        prompt=rng.integers(0, model.vocab_size, (batch, prompt), np.int32),
        prompt_content=np.ones((batch, prompt), bool),
        prompt_length=np.full(batch, prompt, np.int32),
        prefill=np.zeros((batch, 0), np.int32),
        prefill_length=np.zeros(batch, np.int32),
        limit=np.full(batch, layout.steps, np.int32),
        temperature=np.zeros(batch, np.float32),
        top_k=np.zeros(batch, np.int32),
        top_p=np.ones(batch, np.float32),
        seed=np.arange(batch, dtype=np.uint32),
    )
    rows = jax.tree.map(jax.numpy.asarray, rows)
    until = jax.numpy.int32(layout.steps)
    gates = {"off": None} | {name: GateConfig(schedule=name) for name in SCHEDULES}
    runs, facts = {}, {}
    for name, gate in gates.items():
        # Token -1 never comes: every row runs to its limit.
        decoder = decoder_module.Decoder(model, gate, (1, 2, 3), -1, layout)
        state = decoder_module.prefill(decoder, params, rows)
        if name == "every":
            started = time.perf_counter()
            compiled = decoder_module.decode.lower(decoder, params, rows, state, until).compile()
            facts = _memory(compiled, state) | {"compile_s": time.perf_counter() - started}

        def run(decoder=decoder) -> float:
            state = jax.block_until_ready(decoder_module.prefill(decoder, params, rows))
            started = time.perf_counter()
            jax.block_until_ready(decoder_module.decode(decoder, params, rows, state, until).step)
            return time.perf_counter() - started

        run()
        runs[name] = run
    seconds = paired(runs, rounds, progress)
    made = batch * layout.steps
    return {
        "tokens_per_s": made / statistics.median(seconds["every"]),
        "tokens_per_s_ungated": made / statistics.median(seconds["off"]),
        "ratio": {name: median_ratio(seconds[name], seconds["off"]) for name in SCHEDULES},
        "batch": batch,
        "parameters": sum(x.size for x in jax.tree.leaves(params)),
        "parameter_bytes": sum(x.nbytes for x in jax.tree.leaves(params)),
        **facts,
    }


def _memory(compiled, state) -> dict:
    memory = compiled.memory_analysis()
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return {
        "peak_bytes": held + memory.temp_size_in_bytes,
        "cache_bytes": sum(x.nbytes for x in jax.tree.leaves(state.cache)),
        "temporary_bytes": memory.temp_size_in_bytes,
    }


def train(size: str, batch: int, length: int, rounds: int, dtype: str = "float32", progress=None) -> dict:
    """The training step with `[CLS]` and two windows an example, over plain SFT of the same examples.

    Returns tokens_per_s (ordinary tokens, with the safety task), tokens_per_s_sft, ratio_safety (time per ordinary
    token over SFT's), ratio_step (time per step of equal shape), batch, parameters, compile_s.
    """
    mesh = sharding.make_mesh(data=-1, fsdp=1, tensor=1)
    runs, tokens, facts = {}, {}, {}
    for name in ("sft", "safety"):
        safety = name == "safety"
        model = dataclasses.replace(preset(size, dtype=dtype), safety_signal=safety)
        optimizer = make_optimizer(OptimizerConfig(), 1000)
        with jax.set_mesh(mesh):
            state = init_state(model, optimizer, jax.random.key(0))
            step = make_train_step(model, optimizer, 0.1, 1, mesh)
            arrays, tokens[name] = _training_batch(model.vocab_size, batch, length, safety)
            arrays = {key: jax.device_put(value, sharding.batch_sharding(mesh)) for key, value in arrays.items()}
            started = time.perf_counter()
            holder = [step(state, arrays)[0]]
            jax.block_until_ready(holder[0])
        facts = {
            "parameters": sum(x.size for x in jax.tree.leaves(holder[0].params)),
            "compile_s": time.perf_counter() - started,
        }

        def run(step=step, arrays=arrays, holder=holder) -> float:
            started = time.perf_counter()
            with jax.set_mesh(mesh):
                holder[0] = jax.block_until_ready(step(holder[0], arrays)[0])
            return time.perf_counter() - started

        run()
        runs[name] = run
    seconds = paired(runs, rounds, progress)
    ratio = median_ratio(seconds["safety"], seconds["sft"])
    return {
        "tokens_per_s": tokens["safety"] / statistics.median(seconds["safety"]),
        "tokens_per_s_sft": tokens["sft"] / statistics.median(seconds["sft"]),
        "ratio_safety": ratio * tokens["sft"] / tokens["safety"],
        "ratio_step": ratio,
        "batch": batch,
        **facts,
    }


def _training_batch(vocab: int, batch: int, length: int, safety: bool):
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
        rows.append(place(segments, length, checks if safety else 0))
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}, count
