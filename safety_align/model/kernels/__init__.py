"""Causal attention within segments, by backend, behind one function. Axis legend in attention.py.

dense     XLA, the plain reference: every score at once; fastest for short rows
chunked   XLA, a block of queries at a time, recomputed in the backward pass: memory O(block S), never O(S²)
splash    TPU: the Pallas flash kernel of JAX; packed segments, grouped heads
cudnn     GPU: cuDNN's flash attention; packed segments, grouped heads; bfloat16, Hopper or later

The `[CLS]` rows are computed beside all of them (attention.py): one query each, O(S).
"""

import jax

from safety_align.model.kernels.cudnn import cudnn_attention
from safety_align.model.kernels.splash import splash_attention
from safety_align.model.kernels.xla import (
    chunked_attention,
    dense_attention,
    einsum32,
    masked_attention,
    over_cache,
    with_own_key,
)

__all__ = ["causal_attention", "choose", "einsum32", "masked_attention", "over_cache", "with_own_key"]

DENSE_LENGTH = 1024
"""Longest row for which "xla" computes all scores at once."""


def choose(attention: str, platform: str) -> str:
    """The backend that the config's `attention` means on a platform ("tpu", "cpu", "gpu"): a kernel of another platform's,
    with which a model was trained, say, is XLA's attention here."""
    if attention == "auto":
        return "splash" if platform == "tpu" else "xla"
    return "xla" if platform != {"splash": "tpu", "cudnn": "gpu"}.get(attention, platform) else attention


def causal_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    segments: jax.Array,
    positions: jax.Array,
    sliding_window: int | None = None,
    backend: str = "xla",
    interpret: bool = False,
) -> jax.Array:
    """Softmax attention of whole rows, each slot to the earlier slots of its segment.

    Args:
      q: [B, S, H, E].
      k, v: [B, K, S, E].
      segments, positions: [B, S] int32.
      sliding_window: a sliding window over position ids (`routing.in_sliding_window`), or None.
      backend: "dense", "chunked", "splash", "cudnn", or "xla": dense or chunked, by length. One that binds goes by
        position ids, which no kernel knows: "splash" and "cudnn" then are chunked.
      interpret: run the TPU kernel in Pallas' interpreter, on any platform.

    Returns:
      [B, S, H, E] in q's dtype.
    """
    length = q.shape[1]
    if sliding_window is not None and sliding_window >= length:
        sliding_window = None
    if backend in ("splash", "cudnn") and sliding_window is not None:
        backend = "chunked"
    if backend == "xla":
        backend = "dense" if length <= DENSE_LENGTH else "chunked"
    if backend == "splash":
        return splash_attention(q, k, v, segments, interpret)
    if backend == "cudnn":
        return cudnn_attention(q, k, v, segments, positions)
    attend = dense_attention if backend == "dense" else chunked_attention
    return attend(q, k, v, segments, positions, sliding_window)
