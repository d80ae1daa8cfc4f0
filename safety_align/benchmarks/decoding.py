"""`launch.benchmark decode`: decoding with the gate, by schedule, over decoding without."""

import dataclasses
import statistics
import time

import flax.linen as nn
import jax
import numpy as np

from safety_align.benchmarks.timing import median_ratio, paired
from safety_align.decoding import Decoder, GateConfig, Layout, prefill
from safety_align.decoding import decode as loop
from safety_align.decoding.decoder import REREAD_CHUNK
from safety_align.decoding.state import PromptBatch
from safety_align.model import init_params, preset
from safety_align.model.layouts import lay_out
from safety_align.model.quantized import quantize_params
from safety_align.sizes import check_decoding, parameter_count

BENIGN_LOGIT = -20.0
"""Bias of the safety head: no verdict ever turns."""


BLANK = tuple(range(3, 31))
"""Ids of the prompt that `REREAD` reads answers behind, as many as Qwen2.5's template makes of it."""

REREAD = "reread"
"""In the place of a schedule: a check after every token, and `gate.reread`."""


def gate_of(name: str) -> GateConfig:
    """The gate of a schedule, or of `REREAD`."""
    return GateConfig(reread=True, dependence="low") if name == REREAD else GateConfig(schedule=name)


def decode(
    size: str,
    batch: int,
    prompt: int,
    tokens: int,
    rounds: int,
    dtype: str = "float32",
    weights: str | None = None,
    schedules: tuple[str, ...] = ("every", "annealing"),
    torch: bool = False,
    progress=None,
) -> dict:
    """Decoding with the gate, by schedule, over decoding without. `weights`: "int8", see model/quantized.py.

    Returns tokens_per_s {schedule, "off"} (all rows together), ratio {schedule: time per token over no gate}, batch,
    parameters, peak_bytes (parameters, cache, temporaries of the compiled loop), cache_bytes, parameter_bytes,
    temporary_bytes, compile_s (loop of the first schedule). With `torch` also tokens_per_s["torch"], of `transformers`, and
    torch_over_ours, its time per token over that without a gate.
    """
    model = preset(size, dtype=dtype, param_dtype=dtype, scan_layers=False)
    check_decoding(model, batch, prompt + tokens, None, "a smaller --batch, --prompt or --tokens")
    params = jax.jit(lambda key: nn.unbox(init_params(model, key)))(jax.random.key(0))
    params = params | {"safety_bias": params["safety_bias"] + BENIGN_LOGIT}
    if weights is not None:
        model, params = dataclasses.replace(model, param_dtype=weights), quantize_params(params, consume=True)
    params = lay_out(params)
    layout = Layout(prompt=prompt, prefill=0, steps=-(-tokens // REREAD_CHUNK) * REREAD_CHUNK)
    rng = np.random.default_rng(0)
    rows = PromptBatch(
        prompt=rng.integers(0, model.vocab_size, (batch, prompt), np.int32),
        prompt_content=np.ones((batch, prompt), bool),
        prompt_length=np.full(batch, prompt, np.int32),
        prefill=np.zeros((batch, 0), np.int32),
        prefill_length=np.zeros(batch, np.int32),
        limit=np.full(batch, layout.steps, np.int32),
        threshold=np.zeros(batch, np.float32),
        temperature=np.zeros(batch, np.float32),
        top_k=np.zeros(batch, np.int32),
        top_p=np.ones(batch, np.float32),
        seed=np.arange(batch, dtype=np.uint32),
        check_seed=np.arange(batch, dtype=np.uint32),
    )
    rows = jax.tree.map(jax.numpy.asarray, rows)
    until, few = jax.numpy.int32(layout.steps), jax.numpy.int32(0)
    beside = {}
    if torch:  # first: where it is missing, nothing else is compiled in vain
        from safety_align.benchmarks.torch_decoding import torch_decoding

        beside["torch"] = torch_decoding(model, rows.prompt, layout.steps)
    gates = {"off": None} | {name: gate_of(name) for name in schedules}
    runs, facts = {}, {}
    for name, gate in gates.items():
        # Token -1 never comes: every row runs to its limit.
        decoder = Decoder(model, gate, (1, 2, 3), (1, 2, 3), (-1,), layout, BLANK)
        state = prefill(decoder, params, rows)
        started = time.perf_counter()
        compiled = loop.lower(decoder, params, rows, state, until, few).compile()
        if name == schedules[0]:
            facts = _memory(compiled, state) | {"compile_s": time.perf_counter() - started}

        def run(decoder=decoder, compiled=compiled) -> float:
            state = jax.block_until_ready(prefill(decoder, params, rows))
            started = time.perf_counter()
            jax.block_until_ready(compiled(params, rows, state, until, few).turn)
            return time.perf_counter() - started

        run()
        runs[name] = run
    for run in beside.values():
        run()
    seconds = paired(runs | beside, rounds, progress)
    made = batch * layout.steps
    return {
        "tokens_per_s": {name: made / statistics.median(values) for name, values in seconds.items()},
        "ratio": {name: median_ratio(seconds[name], seconds["off"]) for name in schedules},
        **({"torch_over_ours": median_ratio(seconds["torch"], seconds["off"])} if torch else {}),
        "batch": batch,
        "parameters": parameter_count(model),
        "parameter_bytes": sum(x.nbytes for x in jax.tree.leaves(params)),
        **facts,
    }


def _memory(compiled, state) -> dict:
    memory = compiled.memory_analysis()
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return {
        "peak_bytes": held + memory.temp_size_in_bytes,
        "cache_bytes": state.cache.bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
    }
