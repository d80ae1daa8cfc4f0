"""`launch.benchmark gcg`: steps of GCG a second, through the gate and without, and nanoGCG's on a model of the same shape."""

import statistics
import time

import flax.linen as nn
import jax
import numpy as np

from safety_align.attacks.gcg import Gcg, gcg
from safety_align.bundle import Bundle
from safety_align.decoding import GateConfig
from safety_align.model import init_params, preset
from safety_align.sizes import parameter_count
from safety_align.text import Tokenizer, get_template

SYLLABLES = "ba ce di fo gu ha ke li mo nu pa re si to vu wa xe yi zo qui stra ble nth ough".split()

GOAL = "ba ce di fo " * 4
TARGET = "Sure, here is how to di fo gu ha"

WAYS = {"plain": 1.0, "gate": 0.5}
"""Weight of the target in the loss (`AttackLoss.lam`): 1 leaves the gate out."""


def measured_gcg(
    size: str, width: int, batch: int, steps: int, dtype: str = "float32", nanogcg: bool = False, progress=None
) -> dict:
    """`steps` steps of `width` candidates, `batch` at once, on random parameters; a candidate must survive decoding and encoding.

    Returns steps_per_s {"plain", "gate"}, by the median step after the first, which compiles; losses, the first and the last
    of each; parameters. With `nanogcg` also steps_per_s["nanogcg"], the mean over its steps, and over_nanogcg, plain over it.
    """
    shape = preset(size)
    tokenizer = Tokenizer.train(words(shape.vocab_size), shape.vocab_size)
    model = preset(size, vocab_size=tokenizer.vocab_size, dtype=dtype, param_dtype=dtype, scan_layers=False)
    params = jax.jit(lambda key: nn.unbox(init_params(model, key)))(jax.random.key(0))
    gate = GateConfig()
    bundle = Bundle(model, params, tokenizer, get_template("plain"), gate)
    found = {"steps_per_s": {}, "losses": {}}
    if nanogcg:  # first: where it is missing, nothing else is compiled in vain
        from safety_align.benchmarks.torch_gcg import nanogcg_steps

        beside = nanogcg_steps(model, tokenizer, GOAL, TARGET, width, batch, steps)
    for name, lam in WAYS.items():
        clock = []

        def looked(step, best, clock=clock) -> bool:
            clock.append(time.perf_counter())
            if progress:
                progress(1)
            return False

        attack = Gcg(steps=steps + 1, width=width, batch=batch, lam=lam, look_every=0)
        curve = gcg(bundle, gate, GOAL, TARGET, attack, looked).curve
        found["steps_per_s"][name] = 1 / statistics.median(np.diff(clock))
        found["losses"][name] = [curve[0][0], curve[-1][0]]
    if nanogcg:
        rate, losses = beside()
        found["steps_per_s"]["nanogcg"], found["losses"]["nanogcg"] = rate, losses
        found["over_nanogcg"] = found["steps_per_s"]["plain"] / rate
    return found | {"width": width, "parameters": parameter_count(model)}


def words(count: int) -> list[str]:
    """Made-up words, enough for a tokenizer of `count` pieces."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, 6, 3 * count)
    syllables = rng.choice(SYLLABLES, int(lengths.sum()))
    ends = np.cumsum(lengths)
    return ["".join(syllables[end - length : end]) for end, length in zip(ends, lengths, strict=True)] + [GOAL, TARGET]
