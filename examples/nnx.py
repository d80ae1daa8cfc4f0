"""The linen module inside Flax NNX: python -m examples.nnx [STEPS]

`nnx.bridge.ToNNX` makes it an NNX module: state in the object, `nnx.jit`, `nnx.Optimizer`. Its parameters come out as the
plain tree that everything else of this package takes.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from examples.own_loop import SHAPE, conversation
from safety_align import Batch, SafetyTransformer, preset


def main(steps: int = 100) -> float:
    """Trains the safety task alone; returns its accuracy on new data."""
    rng = np.random.default_rng(0)

    def batch(rows=32):
        return Batch.of([[conversation(rng, rng.random() < 0.5)] for _ in range(rows)], SHAPE)

    config = preset("tiny", layers=2)
    model = nnx.bridge.ToNNX(SafetyTransformer(config), rngs=nnx.Rngs(0))
    with nnx.use_eager_sharding(False):  # parameters name their axes; there is no mesh here to lay them out on
        model = nnx.bridge.lazy_init(model, *batch().inputs)
    optimizer = nnx.Optimizer(model, optax.adamw(1e-2), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, batch):
        def loss(model):
            logits = model(*batch.inputs).safety_logits
            return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, batch.cls_labels))

        value, gradients = nnx.value_and_grad(loss)(model)
        optimizer.update(model, gradients)
        return value

    for number in range(1, steps + 1):
        value = step(model, optimizer, batch())
        if number % 20 == 0:
            print(f"step {number:4d}  loss {value:.3f}")

    # Back in linen: the same parameters, the pure function.
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    new = batch(256)
    logits = jax.jit(lambda p, inputs: SafetyTransformer(config).apply({"params": p}, *inputs))(params, new.inputs)
    right = float(jnp.mean((logits.safety_logits > 0) == (new.cls_labels > 0.5)))
    print(f"new data: {right:.1%} of the checks right")
    return right


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
