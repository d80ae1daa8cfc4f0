"""Random things for tests, and the model over them as one program."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from safety_align.model import SafetyTransformer, TransformerConfig, abstract_params, preset
from safety_align.placement import Batch, RowShape, Segment
from safety_align.routing import RoutingConfig, sample_checks

TINY = preset("tiny", layers=2)

SIGNAL = ("cls_embedding", "safety_kernel", "safety_bias")
"""Names of the arrays of the paper's signal."""


@functools.partial(jax.jit, static_argnums=0, static_argnames="method")
def forward(config: TransformerConfig, params, *arguments, method=None):
    """The model applied; XLA takes four times as long to compile its operations one by one."""
    return SafetyTransformer(config).apply({"params": params}, *arguments, method=method)


def random_params(config: TransformerConfig = TINY, seed: int = 0, scale: float = 0.1):
    """Parameters about as large as initial ones, plus noise, so that nothing (the safety head above all) is zero.

    By numpy: XLA takes a quarter of a second to compile each draw of jax's.
    """
    rng = np.random.default_rng(seed)

    def draw(path, like):
        mean = float(path[-1].key == "scale")  # of a norm
        drawn_at_first = like.ndim > 1 and not mean and not path[-1].key.startswith("b")
        spread = np.hypot(scale, drawn_at_first * config.width**-0.5)
        return jnp.asarray(mean + spread * rng.normal(size=like.shape), like.dtype)

    return jax.tree_util.tree_map_with_path(draw, nn.unbox(abstract_params(config)))


def random_segment(rng, prompt: int, response: int, windows: int = 2, vocab: int = 97, signal: bool = True) -> Segment:
    """A segment with random content spans, labels and windows; its last response token is EOS-like (not content)."""
    checks = ()
    if signal:
        config = RoutingConfig(*(int(w) for w in rng.integers(1, 6, 3)), windows=windows)
        labels = float(rng.integers(2)), float(rng.integers(2))
        checks = sample_checks(rng, prompt, max(response - 1, 0), *labels, config)
    return Segment(
        rng.integers(1, vocab, prompt).astype(np.int32),
        rng.random(prompt) < 0.7,
        rng.integers(1, vocab, response).astype(np.int32),
        np.arange(response) < response - 1,
        checks,
    )


def random_rows(rng, rows: int = 3, length: int = 48, signal: bool = True):
    """Packed rows: (the batch, the segments of each row)."""
    packed = []
    for _ in range(rows):
        room, segments = length, []
        while room >= 16 and len(segments) < 3:
            segment = random_segment(
                rng, int(rng.integers(3, 9)), int(rng.integers(0, 9)), int(rng.integers(0, 4)), signal=signal
            )
            if segment.length > room:
                break
            segments.append(segment)
            room -= segment.length
        packed.append(segments)
    return Batch.of(packed, RowShape(length, 12 if signal else 0)), packed
