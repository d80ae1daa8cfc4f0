"""Model FLOPs by formula, and what chips can do: the two sides of MFU.

Convention: a multiply-add is two FLOPs; matrices and attention scores count, norms, softmax and the optimizer do not;
causal attention counts once (half the square); what is recomputed in the backward pass does not count.
"""

import dataclasses
import re

from safety_align.model import TransformerConfig

PEAK_FLOPS = {
    "v5 ?(lite|e)": 197e12,
    "v5p?": 459e12,
    "v6 ?(lite|e)": 918e12,
    "H100|H200": 989e12,
    "A100": 312e12,
}
"""Published dense bfloat16 FLOP/s of a device, by a pattern in what jax calls its kind; the first match counts."""


def peak_flops(device_kind: str) -> float | None:
    """Peak bfloat16 FLOP/s of a device, or None if it is not in `PEAK_FLOPS` (a CPU)."""
    return next((peak for pattern, peak in PEAK_FLOPS.items() if re.search(rf"\b({pattern})\b", device_kind)), None)


def forward_flops(model: TransformerConfig, tokens: float, keys: float, logits: float) -> float:
    """FLOPs of a forward pass over `tokens` tokens that see `keys` keys each, with `logits` rows of next-token logits."""
    projections = model.width * model.head_dim * (2 * model.heads + 2 * model.kv_heads)
    matrices = tokens * model.layers * (projections + 3 * model.width * model.mlp_width)
    attention = tokens * keys * model.layers * 2 * model.heads * model.head_dim
    return 2 * (matrices + attention + logits * model.width * model.vocab_size)


def train_flops(model: TransformerConfig, rows: int, length: int, checks: int = 0, square: bool = False) -> float:
    """Model FLOPs of a training step of `rows` rows of `length` slots: forward, and twice that backward.

    `checks` `[CLS]` copies a row count as one more row of keys each. `square` counts all of the square of scores, as
    plain attention computes it.
    """
    tokens = rows * length
    forward = forward_flops(model, tokens, length / (1 if square else 2), tokens)
    copies = rows * checks * length * model.layers * 2 * model.heads * model.head_dim
    return 3 * (forward + 2 * copies)


def signal_flops(model: TransformerConfig, rows: int, length: int, checks: int = 0, square: bool = False) -> float:
    """Model FLOPs of a step that trains a signal beside a frozen language model: a forward pass without logits, no deeper than
    the signal reads; of check rows, `checks` a row, also twice that backward, which is a bound: frozen weights get no gradient.
    A probe has no such rows.

    The signal's own products are left out. `square`: see `train_flops`.
    """
    read = dataclasses.replace(model, layers=model.signal.depths_of(model.layers)[-1], safety_signal=False)
    keys = length / (1 if square else 2)
    forward = forward_flops(read, rows * length, keys, 0)
    return forward + (0 if model.signal.kind == "probe" else 3 * forward_flops(read, rows * checks, length, 0))
