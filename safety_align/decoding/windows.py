"""What `[CLS]` reads at a check (rules 1-4, docs/method.md section 5), from the verdict so far.

With 12 response tokens, r1 = r2 = r3 = 4, S_t = 9, the window over response tokens and whether the query is read:

                              0 1 2 3 4 5 6 7 8 9 . .    query
    QUERY      rule 1         1 1 1 1 . . . . . . . .    yes
    BENIGN     rule 2         . . . . . . . . 1 1 1 1    no (switchable)
    ALERT      rule 3         . . . . . 1 1 1 1 1 1 1    no (switchable)    S_t - r2 … S_t + r3
    REFUSING   [ours]         . . . . . . . . . . 1 1    no                 the latest r2, never before the refusal

Rule 4, auxiliary tokens are never read, is in the content mask that these windows meet.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from safety_align.decoding.config import GateRules
from safety_align.decoding.schedule import Every
from safety_align.decoding.verdict import Mode, Verdict
from safety_align.routing import rule1_window, rule2_window, rule3_window


class Window(NamedTuple):
    """start, stop: [B] int32, response tokens `[start, stop)`; query: [B] bool, the query is read as well."""

    start: jax.Array
    stop: jax.Array
    query: jax.Array


def prefill_stride(gate: GateRules) -> int:
    """Tokens between the ends of neighbouring windows of a prefilled answer [ours]: at most r2 / 2, and so few that a
    harmful stretch of r2 tokens fills at least half of `tau` windows in a row."""
    return max(1, gate.r2 // (2 * gate.confirmations))


def prefill_windows(length: jax.Array, count: int, gate: GateRules) -> tuple[Window, jax.Array]:
    """The `count` (N) windows before the last one of prefilled answers of `length` [B] tokens, in their order, as rule 2
    would have read them had they been generated: a `Window` of [B, N], and [B, N] bool "there is such a window"."""
    stop = length[:, None] - prefill_stride(gate) * jnp.arange(count, 0, -1)
    start = jnp.zeros_like(stop) if gate.reads == "all" else rule2_window(stop, gate.r2)[0]
    query = jnp.full(stop.shape, gate.windows_include_query or gate.reads == "all")
    return Window(jnp.maximum(start, 0), jnp.maximum(stop, 0), query), stop > 0


def read_window(verdict: Verdict, length: jax.Array, gate: GateRules) -> Window:
    """The window of the next check when `length` [B] response tokens are kept."""
    refusing = verdict.mode == Mode.REFUSING
    if gate.reads == "all":
        return Window(jnp.where(refusing, verdict.refusal_start, 0), length, ~refusing)
    alerted = (verdict.mode == Mode.ALERT) | (verdict.mode == Mode.CONFIRMED)
    by_query = verdict.mode == Mode.QUERY
    start, stop = rule2_window(length, gate.r2)
    third = rule3_window(verdict.transition, gate.r2, gate.r3)
    start, stop = (jnp.where(alerted, a, b) for a, b in zip(third, (start, stop), strict=True))
    first = rule1_window(gate.r1)
    start, stop = (jnp.where(by_query, a, b) for a, b in zip(first, (start, stop), strict=True))
    start = jnp.maximum(start, jnp.where(refusing, verdict.refusal_start, 0))
    query = by_query | (gate.windows_include_query & ~refusing)
    return Window(start, jnp.minimum(stop, length), query)


def is_frozen(verdict: Verdict, length: jax.Array, gate: GateRules) -> jax.Array:
    """[B] bool: the window can no longer change and its verdict is settled, so a check would only repeat the last."""
    if gate.reads == "all" or gate.parsed_schedule != Every():  # a sparse schedule may not have read the whole window
        return jnp.zeros(length.shape, bool)
    _, third = rule3_window(verdict.transition, gate.r2, gate.r3)
    return ((verdict.mode == Mode.QUERY) & (length > gate.r1)) | ((verdict.mode == Mode.CONFIRMED) & (length > third))
