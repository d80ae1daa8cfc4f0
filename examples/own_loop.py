"""The module in a plain optax loop of one's own: python -m examples.own_loop [STEPS]

A toy language: a query of letters, an answer that repeats it. A query with an "x" in it is malicious, and so is an answer
from its first "x" on. One model learns to answer and to say so, with a loss that is written here.
"""

import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from safety_align import Batch, Check, Kind, RowShape, SafetyTransformer, Segment, init_params, preset

BOS, EOS, SEPARATOR, LETTERS = 1, 2, 3, 4  # ids; letters "a" … "z" from LETTERS on
X = LETTERS + ord("x") - ord("a")
SHAPE = RowShape(slots=32, checks=2)


def conversation(rng: np.random.Generator, malicious: bool) -> Segment:
    """One query with its answer, and the two checks: the query's, which the answer sees, and one of the whole answer."""
    letters = rng.choice(np.setdiff1d(np.arange(LETTERS, LETTERS + 26), X), rng.integers(4, 9))
    if malicious:
        letters[rng.integers(len(letters))] = X
    prompt = np.concatenate([[BOS], letters, [SEPARATOR]])
    inside = np.ones(len(letters), bool)
    label, end = float(malicious), len(prompt) + len(letters)
    return Segment(
        prompt=prompt,
        prompt_content=np.concatenate([[False], inside, [False]]),  # what [CLS] may read
        response=np.concatenate([letters, [EOS]]),
        response_content=np.append(inside, False),
        checks=(Check(Kind.QUERY, 0, len(prompt), label), Check(Kind.WINDOW, len(prompt), end, label)),
    )


def main(steps: int = 300) -> tuple[float, float]:
    """Trains, prints; returns the safety task's accuracy and the answers' perplexity on new data."""
    config = preset("tiny", layers=2)
    model = SafetyTransformer(config)
    params = nn.unbox(jax.jit(lambda key: init_params(config, key))(jax.random.key(0)))
    optimizer = optax.adamw(optax.cosine_decay_schedule(1e-2, steps))
    state = optimizer.init(params)

    def batch(rng, rows=32):
        return Batch.of([[conversation(rng, rng.random() < 0.5)] for _ in range(rows)], SHAPE)

    def terms(params, batch):
        out = model.apply({"params": params}, *batch.inputs)  # logits [B, S, V], safety logits [B, M]
        lm = optax.softmax_cross_entropy_with_integer_labels(out.logits, batch.targets)
        lm = jnp.sum(lm * batch.loss_weights) / jnp.sum(batch.loss_weights)
        safety = optax.sigmoid_binary_cross_entropy(out.safety_logits, batch.cls_labels)
        safety = jnp.sum(safety * batch.cls_weights) / jnp.sum(batch.cls_weights)
        return lm, safety, jnp.mean((out.safety_logits > 0) == (batch.cls_labels > 0.5))

    @jax.jit
    def step(params, state, batch):
        loss, gradients = jax.value_and_grad(lambda p: sum(terms(p, batch)[:2]))(params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, loss

    rng = np.random.default_rng(0)
    for number in range(1, steps + 1):
        params, state, loss = step(params, state, batch(rng))
        if number % 50 == 0:
            print(f"step {number:4d}  loss {loss:.3f}")
    lm, _, right = jax.jit(terms)(params, batch(np.random.default_rng(1), rows=256))
    print(f"new data: {right:.1%} of the checks right, perplexity {jnp.exp(lm):.2f}")
    return float(right), float(jnp.exp(lm))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
