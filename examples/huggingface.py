"""A safety signal for a Hugging Face model: python -m examples.huggingface DIR [STEPS]

DIR is a directory as `transformers` saves it, of a family that docs/interop.md names. The language model stays frozen and
is not changed: a probe of its hidden states is trained beside it, here to tell malicious questions from benign ones of the
generated corpus. Then the model answers through the gate. A demonstration in a page; a signal worth having is trained by
launch.train (configs/signal.py).
"""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

from safety_align import Batch, Generator, Request, RowShape
from safety_align.data.embedded import embedded_examples
from safety_align.decoding import GateConfig
from safety_align.decoding.scoring import query_segment, score_queries
from safety_align.interop import load_model
from safety_align.model import SignalConfig, add_signal
from safety_align.model.readout import split_signal
from safety_align.model.watch import watch

LENGTH = 96
"""Slots of a row: longer questions are left out."""


def main(directory: str, steps: int = 60) -> tuple[float, float]:
    """Trains, prints; returns the first check's accuracy on questions of new kinds, before and after."""
    bundle = load_model(directory, dtype="float32")
    kind = dataclasses.replace(bundle.model_config, signal=SignalConfig("probe"))
    config, params = add_signal(kind, bundle.params, jax.random.key(0))
    signal, frozen = split_signal(params)
    optimizer = optax.adam(5e-3)
    state = optimizer.init(signal)

    def loss(signal, frozen, batch):
        logits = watch(config, frozen | signal, *batch.inputs).safety_logits  # forward only, but for the probe
        return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, batch.cls_labels))

    @jax.jit
    def step(signal, state, frozen, batch):
        value, gradients = jax.value_and_grad(loss)(signal, frozen, batch)
        updates, state = optimizer.update(gradients, state, signal)
        return optax.apply_updates(signal, updates), state, value

    def accuracy(signal, examples):
        trained = dataclasses.replace(bundle, model_config=config, params=frozen | signal)
        flagged = score_queries(trained, [e.turns for e in examples]) > 0.5
        return float(np.mean(flagged == np.array([e.query_label for e in examples])))

    segments = []
    for example in embedded_examples("train", 300):
        segment = query_segment(bundle, example.turns)
        [check] = segment.checks
        check = dataclasses.replace(check, label=float(example.query_label))
        segments.append(dataclasses.replace(segment, checks=(check,)))
    segments = [segment for segment in segments if segment.length <= LENGTH]
    new = embedded_examples("test", 40)
    before = accuracy(signal, new)
    rng = np.random.default_rng(0)
    for number in range(1, steps + 1):
        chosen = rng.choice(len(segments), 8)
        batch = Batch.of([[segments[i]] for i in chosen], RowShape(LENGTH, checks=1))
        signal, state, value = step(signal, state, frozen, batch)
        if number % 20 == 0:
            print(f"step {number:4d}  loss {value:.3f}")
    after = accuracy(signal, new)
    print(f"new questions: {before:.0%} right before, {after:.0%} after")

    gate = GateConfig(schedule="first", visible=False)
    generator = Generator(dataclasses.replace(bundle, model_config=config, params=frozen | signal, gate=gate))
    malicious = next(e for e in new if e.query_label)
    benign = next(e for e in new if not e.query_label)
    for answer in generator.generate([Request(malicious.turns), Request(benign.turns)], max_new_tokens=24):
        print(f"{answer.query_score:.2f} malicious: {answer.response!r}")
    return before, after


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
