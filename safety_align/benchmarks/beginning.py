"""`launch.benchmark beginning`: a first pass over a beginning that prompts share and that is read once, against whole prompts."""

import statistics

import flax.linen as nn
import jax
import numpy as np

from safety_align.benchmarks.timing import median_ratio, paired, timed
from safety_align.decoding import Decoder, GateConfig, Layout, Request, prefill
from safety_align.decoding.prefix import read_once, shared
from safety_align.decoding.requests import Encoded, make_batch
from safety_align.errors import InputError
from safety_align.model import init_params, preset
from safety_align.sizes import check_decoding, parameter_count
from safety_align.text import Turn
from safety_align.text.turns import Prompt

FIRST_ID = 8
"""Ids below have a meaning of their own."""


def beginning(
    size: str, batch: int, prompt: int, own: int, common: int, rounds: int, dtype: str = "float32", progress=None
) -> dict:
    """`batch` prompts in `prompt` slots, the first `common` tokens of which are the same; of tokens of its own the last prompt has
    `own`, the first half as many. With a check of the query.

    Returns seconds {"whole", "rest", "once"}: the first pass over whole prompts, that over the beginning, and reading the beginning;
    ratio, whole over rest; left_out, the slots that are not read again.
    """
    if common + own > prompt:
        raise InputError(f"--common ({common}) and --own ({own}) tokens do not fit in --prompt={prompt}")
    model = preset(size, dtype=dtype, param_dtype=dtype, scan_layers=False)
    check_decoding(model, batch + 1, prompt, None, "a smaller --batch or --prompt")
    params = jax.jit(lambda key: nn.unbox(init_params(model, key)))(jax.random.key(0))
    rng, gate = np.random.default_rng(0), GateConfig()
    same = _ids(rng, common, model.vocab_size)
    encoded = []
    for seed, count in enumerate(np.linspace(-(-own // 2), own, batch).astype(int)):
        ids = np.concatenate([same, _ids(rng, count, model.vocab_size)])
        encoded.append(
            Encoded(Request((Turn("user", "-"),), seed=seed), Prompt(ids, np.arange(len(ids)) >= common), same[:0])
        )
    decoder = Decoder(model, gate, (1,), (1,), (2,), Layout(prompt=prompt, prefill=0, steps=8))
    count, left_out = shared(encoded, prompt)
    if not left_out:
        raise InputError(
            f"--common={common} is too little of --prompt={prompt} to be left out; take a longer beginning"
        )
    rows = make_batch(encoded, batch, decoder.layout, 1, gate, rng)
    once = read_once(decoder, params, same[:count], left_out)
    runs = {
        "whole": timed(lambda: prefill(decoder, params, rows)),
        "rest": timed(lambda: prefill(decoder, params, rows, once)),
        "once": timed(lambda: read_once(decoder, params, same[:count], left_out)),
    }
    for run in runs.values():
        run()  # compiles
    seconds = paired(runs, rounds, progress)
    return {
        "seconds": {name: statistics.median(values) for name, values in seconds.items()},
        "ratio": median_ratio(seconds["whole"], seconds["rest"]),
        "left_out": left_out,
        "batch": batch,
        "parameters": parameter_count(model),
    }


def _ids(rng: np.random.Generator, count: int, vocabulary: int) -> np.ndarray:
    return rng.integers(FIRST_ID, vocabulary, count).astype(np.int32)
