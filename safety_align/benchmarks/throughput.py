"""`launch.benchmark throughput`: many requests, some of them refused, over rows that are refilled and over whole batches."""

import dataclasses
import functools
import statistics
import time

import flax.linen as nn
import jax
import numpy as np

from safety_align.benchmarks.timing import median_ratio, paired
from safety_align.bundle import Bundle
from safety_align.decoding import GateConfig, Generator, Request
from safety_align.decoding.generator import write
from safety_align.decoding.scoring import score_queries
from safety_align.model import init_params, preset
from safety_align.sizes import parameter_count
from safety_align.text import Tokenizer, Turn, get_template

SHARES = (0.0, 0.5, 0.9)
"""Of requests that are refused at the first check."""

WORDS = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu".split()


def throughput(
    size: str, batch: int, requests: int, tokens: int, rounds: int, dtype: str = "float32", progress=None
) -> dict:
    """Tokens a second of `requests` answers in `batch` rows, by the share of requests that are refused; a refusal is its prefix,
    any other answer has `tokens` new ones. Each way is run once before, so nothing is compiled.

    Returns tokens_per_s (rows that are refilled), tokens_per_s_batches (a batch after the other) and ratio (the time of whole
    batches over that of refilled rows), each by share.
    """
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, int(rng.integers(4, 24)))) + f" {i}" for i in range(requests)]
    tokenizer = Tokenizer.train([*texts, *[GateConfig().refusal_text] * 9] * 3, 400)
    model = preset(size, vocab_size=tokenizer.vocab_size, dtype=dtype, param_dtype=dtype)
    params = jax.jit(lambda key: nn.unbox(init_params(model, key)))(jax.random.key(0))
    # A head that is not zero; what it says of a request is as good as drawn by lot.
    params |= {"safety_kernel": jax.random.normal(jax.random.key(1), (model.width,)) * model.width**-0.5}
    gate = GateConfig(dependence="high", schedule="first")
    bundle = Bundle(model, params, tokenizer, get_template("plain"), gate)
    asked = [Request((Turn("user", text),), seed=i) for i, text in enumerate(texts)]
    scores = np.sort(score_queries(bundle, [request.turns for request in asked]))
    runs, made = {}, {}
    for share in SHARES:
        first = max(1, round(requests * (1 - share)))
        threshold = float(scores[first - 1] + scores[first]) / 2 if first < requests else (1 + float(scores[-1])) / 2
        generator = Generator(bundle, dataclasses.replace(gate, threshold=threshold), max_length=4096)
        for way, by in (("refilled", generator), ("batches", generator.writing(write))):
            made[share] = sum(len(result.token_ids) for result in by.generate(asked, tokens, batch))
            runs[way, share] = functools.partial(_seconds, by, asked, tokens, batch)
    seconds = paired(runs, rounds, progress)
    found = {name: {} for name in ("tokens_per_s", "tokens_per_s_batches", "ratio")}
    for share in SHARES:
        refilled, whole = seconds["refilled", share], seconds["batches", share]
        found["tokens_per_s"][f"{share:.0%}"] = made[share] / statistics.median(refilled)
        found["tokens_per_s_batches"][f"{share:.0%}"] = made[share] / statistics.median(whole)
        found["ratio"][f"{share:.0%}"] = median_ratio(whole, refilled)
    return found | {"requests": requests, "batch": batch, "parameters": parameter_count(model)}


def _seconds(generator: Generator, asked: list[Request], tokens: int, batch: int) -> float:
    began = time.perf_counter()
    generator.generate(asked, tokens, batch)
    return time.perf_counter() - began
