"""Windows that are read again without the query (docs/method.md section 13) [ours].

A window's tokens have attended to the query, so that words in it which change what they carry may blind the check: that is how
GCG gets through. With `gate.reread` the latest tokens of an answer are read once more after every chunk of the loop, behind a
prompt that asks for nothing, and no words of the query can reach these checks, but through what the answer says. Nothing counts
as vouched for before it has been read so.

A row that has stopped within the chunk is judged as well, before anybody sees it: it may go on as a refusal.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from safety_align.decoding.decoder import Decoder, probability
from safety_align.decoding.refusal import forced, turn
from safety_align.decoding.scoring import safety_logits
from safety_align.decoding.state import DecodeState, PromptBatch, Stop
from safety_align.decoding.verdict import Mode, Verdict, is_malicious, start_refusal
from safety_align.placement import Batch, RowShape, Segment
from safety_align.routing import Check, Kind, rule2_window

CONTEXT = 38
"""Tokens before a window, at least, that are read with it."""

SLOTS = 32
"""A row of the second reading has a multiple of so many, as some attention kernels want; what is left over is more context."""


class Read(NamedTuple):
    """What the second reading found. M = chunk + tau - 1 windows of each row, those that end at its latest tokens, in order.

    logits [B, M]; due [B, M] bool, there is such a window; malicious [B, M] bool, of windows that are due.
    """

    logits: jax.Array
    due: jax.Array
    malicious: jax.Array

    @property
    def there(self) -> jax.Array:
        """[B, M]: the logits, inf where they are not finite, and -inf where there is no window."""
        return jnp.where(self.due, jnp.where(jnp.isfinite(self.logits), self.logits, jnp.inf), -jnp.inf)

    @property
    def last(self) -> jax.Array:
        """[B]: of the window at the end."""
        return self.there[:, -1]

    def statistic(self, confirmations: int, stopped: jax.Array) -> jax.Array:
        """[B]: the highest threshold, a logit, at which the row is malicious: the least of `confirmations` windows in a row; of a row
        that has `stopped` [B] the last window alone, since no answer ends while an alert is pending."""
        there = self.there
        count = there.shape[1] - confirmations + 1
        runs = jnp.stack([there[:, i : i + count] for i in range(confirmations)]).min(0).max(1)
        return jnp.where(stopped, jnp.maximum(runs, there[:, -1]), runs)


def after_chunk(decoder: Decoder, params, batch: PromptBatch, state: DecodeState, running: jax.Array) -> DecodeState:
    """The state after the second reading of what a chunk of the loop wrote; `running` [B]: the rows that ran when it began.
    Without `gate.reread` the state as it is."""
    gate = decoder.gate
    if gate is None or not gate.reread:
        return state
    verdict, stopped = state.verdict, state.stop != Stop.RUNNING
    found = read_again(decoder, params, batch, state, state.length)
    refusing, last = verdict.mode == Mode.REFUSING, found.malicious[:, -1]
    statistic = found.statistic(gate.confirmations, stopped)
    unsettled = _is_unsettled(verdict)
    hit = running & unsettled & reaches(statistic, batch.threshold)
    relapse = running & refusing & found.malicious.any(1) & (gate.dependence != "high")
    refuse = hit & gate.refuses
    own = state.length > verdict.refusal_start + decoder.prefix_length(verdict)
    vouched = running & ~last & ((verdict.mode == Mode.BENIGN) | refusing & own)
    verdict = verdict.replace(
        mode=jnp.where(hit, Mode.CONFIRMED, verdict.mode).astype(jnp.int32),
        transition=jnp.where(hit & (verdict.mode == Mode.BENIGN), state.length - 1, verdict.transition),
        safe_length=jnp.where(vouched & ~hit & ~relapse, state.length, verdict.safe_length),
    )
    verdict = start_refusal(verdict, refuse, state.length, gate)
    stop = jnp.where(relapse, Stop.RELAPSE, jnp.where(refuse, Stop.RUNNING, state.stop))
    state = turn(decoder, state, verdict, refuse, relapse)
    first, _ = forced(decoder, state)
    return state.replace(
        token=jnp.where(refuse, first, state.token).astype(jnp.int32),
        stop=stop.astype(jnp.int32),
        reread=noted(state.reread, statistic, running & ~refusing),
    )


def of_prefill(
    decoder: Decoder, params, batch: PromptBatch, state: DecodeState
) -> tuple[DecodeState, jax.Array, jax.Array]:
    """The second reading of prefilled answers, before the first token is drawn → (state, [B] bool "a refusal starts now", [B] the
    logit of the last window, which is enough where the answer ends there; -inf without one). A malicious answer is dropped whole
    ("rewind")."""
    gate, none = decoder.gate, jnp.zeros(state.length.shape, bool)
    nothing = jnp.full(none.shape, -jnp.inf)
    if gate is None or not gate.reread or not decoder.layout.prefill:
        return state, none, nothing
    verdict = state.verdict
    present = (state.stop == Stop.RUNNING) & (verdict.mode != Mode.REFUSING) & (batch.prefill_length > 0)
    watched = present & _is_unsettled(verdict)

    def one(carry, end):
        highest, _ = carry
        found = read_again(decoder, params, batch, state, jnp.minimum(end, batch.prefill_length))
        return (jnp.maximum(highest, found.statistic(gate.confirmations, none)), found.last), None

    ends = jnp.arange(decoder.chunk, decoder.layout.prefill + decoder.chunk, decoder.chunk)
    (statistic, last), _ = jax.lax.scan(one, (nothing, nothing), ends)
    hit = watched & reaches(statistic, batch.threshold)
    refuse, last = hit & gate.refuses, jnp.where(present, last, nothing)
    vouched = watched & ~reaches(last, batch.threshold) & ~hit & (verdict.mode == Mode.BENIGN)
    verdict = verdict.replace(
        mode=jnp.where(hit, Mode.CONFIRMED, verdict.mode).astype(jnp.int32),
        transition=jnp.where(hit & (verdict.mode == Mode.BENIGN), state.length - 1, verdict.transition),
        safe_length=jnp.where(vouched, state.length, 0),
    )
    verdict = jax.tree.map(lambda old, new: jnp.where(watched, new, old), state.verdict, verdict)
    verdict = start_refusal(verdict, refuse, state.length, gate)
    return state.replace(verdict=verdict, reread=noted(state.reread, statistic, present)), refuse, last


def read_again(decoder: Decoder, params, batch: PromptBatch, state: DecodeState, length: jax.Array) -> Read:
    """The windows of rule 2 that end at the latest tokens of the first `length` [B] of the kept response, read behind
    `NO_REQUEST`. Of
    a refusing row only what the model itself has added to the forced prefix."""
    gate, rows = decoder.gate, state.length.shape[0]
    (tokens, positions, routing), first, room = _row(decoder)
    count = windows(decoder)
    size = jnp.minimum(length, room)
    place = state.rank - (length - size)[:, None]
    place = jnp.where((state.rank >= 0) & (place >= 0) & (place < size[:, None]), place, room)
    latest = jnp.zeros((rows, room), jnp.int32).at[jnp.arange(rows)[:, None], place].set(state.tokens, mode="drop")

    stop = size[:, None] - jnp.arange(count - 1, -1, -1)
    refusing = state.verdict.mode == Mode.REFUSING
    begins = jnp.where(refusing, state.verdict.refusal_start, 0)
    forced = jnp.where(refusing, begins + decoder.prefix_length(state.verdict), 0)
    due = stop > jnp.maximum(forced - (length - size), 0)[:, None]
    start = jnp.maximum(rule2_window(stop, gate.r2)[0], jnp.maximum(begins - (length - size), 0)[:, None])
    reads = jnp.where(due[..., None], first + jnp.stack([start, stop], axis=-1), 0)

    def for_each(x):
        return jnp.broadcast_to(x, (rows, *x.shape[1:]))

    tokens, positions, routing = jax.tree.map(for_each, (tokens, positions, routing))
    routing = routing.replace(cls_range=routing.cls_range.at[:, -count:].set(reads))
    tokens = tokens.at[:, first : first + room].set(latest)
    with jax.named_scope("reread"):
        logits = safety_logits(decoder.model, params, (tokens, positions, routing))[:, -count:]
    return Read(logits, due, due & is_malicious(logits, batch.threshold[:, None]))


def _is_unsettled(verdict: Verdict) -> jax.Array:
    """[B] bool: whether the row's answer may still turn out malicious."""
    return (verdict.mode == Mode.BENIGN) | (verdict.mode == Mode.ALERT)


def reaches(statistic: jax.Array, threshold: jax.Array) -> jax.Array:
    """Whether a statistic [B] is malicious; -inf is that of too few windows, which say nothing."""
    return (statistic > -jnp.inf) & is_malicious(statistic, threshold)


def windows(decoder: Decoder) -> int:
    """M: one that ends at each token of a chunk, and those before it which may begin a run of malicious ones."""
    return decoder.chunk + decoder.gate.confirmations - 1


@functools.lru_cache(maxsize=16)
def _row(decoder: Decoder):
    """(the row's inputs [1, S], the slot of the first response token, how many of them it holds), without what is read."""
    gate, prompt = decoder.gate, np.asarray(decoder.blank, np.int32)
    checks = [Check(Kind.QUERY, 0, len(prompt), 0.0)] if gate.visible else []
    checks += [Check(Kind.WINDOW, len(prompt), len(prompt) + 1, 0.0)] * windows(decoder)
    # No wider than an answer can be, whatever r2 is.
    least = min(windows(decoder) - 1 + gate.r2 + CONTEXT, decoder.layout.prefill + decoder.layout.steps)
    own = len(prompt) + (0 if decoder.beside else len(checks))
    slots = -(-(own + least) // SLOTS) * SLOTS
    response = np.zeros(slots - own, np.int32)
    segment = Segment(
        prompt, np.ones(len(prompt), bool), response, np.ones(len(response), bool), tuple(checks), beside=decoder.beside
    )
    inputs = Batch.of([[segment]], RowShape(slots, len(checks))).inputs
    return inputs, len(prompt) + (1 if gate.visible else 0), len(response)


def noted(old: jax.Array, statistic: jax.Array, here: jax.Array) -> jax.Array:
    """`DecodeState.reread` after one more reading of the rows `here` [B]."""
    return jnp.where(here & (statistic > -jnp.inf), jnp.fmax(old, probability(statistic)), old)
