"""The loop: one step is one forward pass of the newest token and, where a check is due, of `[CLS]` as a second row.

Weights and cache are read once for both. Both rows attend as if each had written its keys and values before, and are written at
the end: the newest token already sees the new verdict. Pure functions of (parameters, batch, state); everything static is in `Decoder`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from safety_align.decoding.config import GateRules
from safety_align.decoding.decoder import Decoder, apply, cls_row, record, window_mask
from safety_align.decoding.next_token import next_token
from safety_align.decoding.reread import after_chunk
from safety_align.decoding.schedule import Every
from safety_align.decoding.state import DecodeState, PromptBatch, Stop
from safety_align.decoding.verdict import Mode, is_malicious, judge_response
from safety_align.decoding.windows import is_frozen, read_window
from safety_align.model import Cache, Write
from safety_align.routing import CLS_TOKEN

FOREVER = np.int32(2**31 - 1)
"""An `until` that is never reached: rows stop for themselves."""
ALL_STOPPED = np.int32(0)
"""A `few` that waits for every row."""


@functools.partial(jax.jit, static_argnums=0, donate_argnums=3)
def decode(
    decoder: Decoder,
    params,
    batch: PromptBatch,
    state: DecodeState,
    until: jax.Array = FOREVER,
    few: jax.Array = ALL_STOPPED,
) -> DecodeState:
    """Generates until no more than `few` rows are running, or the loop stands at turn `until` (scalars; looked at after
    every chunk)."""

    def running(state: DecodeState):
        return (jnp.sum(state.stop == Stop.RUNNING) > few) & (state.turn < until)

    def chunk(state: DecodeState):
        ran = state.stop == Stop.RUNNING
        state, _ = jax.lax.scan(lambda s, _: (step(decoder, params, batch, s), None), state, length=decoder.chunk)
        return after_chunk(decoder, params, batch, state, ran)

    return jax.lax.while_loop(running, chunk, state)


def step(decoder: Decoder, params, batch: PromptBatch, state: DecodeState) -> DecodeState:
    """Processes each row's pending token, checks where due, draws the next token."""
    return next_token(decoder, batch, *advance(decoder, params, batch, state))


def advance(
    decoder: Decoder, params, batch: PromptBatch, state: DecodeState
) -> tuple[DecodeState, jax.Array, jax.Array, jax.Array]:
    """`step` without the draw: (state, logits [B, V] of the next token, and what `next_token` takes of the check: [B] bool "a
    refusal starts now", "this refusal turned malicious")."""
    layout, gate = decoder.layout, decoder.gate
    running = state.stop == Stop.RUNNING
    index = layout.prefill + state.turn % layout.steps
    column = jnp.arange(layout.prefill + layout.steps) == index
    state = state.replace(
        rank=jnp.where(column & running[:, None], state.length[:, None], state.rank),
        tokens=jnp.where(column & running[:, None], state.token[:, None], state.tokens),
        length=state.length + running,
        turn=state.turn + 1,
    )
    slot = layout.response + index
    position = batch.prompt_length + state.length  # [CLS] is 0, the prompt 1 … p, the response p + 1 …
    token_mask = _token_mask(decoder, batch, state)
    none = jnp.zeros(running.shape, bool)

    writes = [Write(0, slot)]

    def plain():
        arguments = state.token[:, None], position[:, None], state.cache, writes[:1], token_mask[:, None]
        hidden, _, new = apply(decoder, params, "over", *arguments)
        return apply(decoder, params, "lm_logits", hidden[:, 0]), jnp.zeros(running.shape, jnp.float32), new

    if not decoder.checks_generated:
        logits, _, new = _read_apart(running, plain)
        return state.replace(cache=_written(state.cache, new, writes, logits)), logits, none, none

    due = running & _due(gate, state, batch)
    window = read_window(state.verdict, state.length, gate)

    def checked():
        hidden, logit, new = apply(
            decoder,
            params,
            "over",
            jnp.stack([state.token, jnp.full_like(state.token, CLS_TOKEN)], axis=1),
            jnp.stack([position, jnp.zeros_like(position)], axis=1),
            state.cache,
            writes,
            jnp.stack([token_mask, mask], axis=1),
            1,
        )
        return apply(decoder, params, "lm_logits", hidden[:, 0]), logit[:, 0], new

    if decoder.probes:  # every token leaves its scores behind, and a check costs nothing more
        logits, _, new = _read_apart(running, plain)
        cache = _written(state.cache, new, writes, logits)
        logit = apply(decoder, params, "pooled", cache, window_mask(batch, state, window)[:, None])[:, 0]
    else:
        mask, write = cls_row(decoder, batch, state, window, due)
        writes.append(write._replace(row=1))
        if gate.parsed_schedule == Every():
            logits, logit, new = _read_apart(running, checked)  # hardly ever is no row due: not worth a branch
        else:
            logits, logit, new = _either(jnp.any(due), checked, plain)
        cache = _written(state.cache, new, writes, logits)
    verdict, refuse, relapse = judge_response(
        state.verdict,
        due,
        is_malicious(logit, batch.threshold),
        state.length,
        window.stop,
        decoder.prefix_length(state.verdict),
        gate,
    )
    trace = record(state.trace, decoder.column(state.step), due, logit, window.start, window.stop)
    return state.replace(verdict=verdict, trace=trace, cache=cache), logits, refuse, relapse


def _read_apart(running: jax.Array, run):
    """`run()`, as one side of a conditional, if any row is `running`: where the cache is read and written in one computation XLA
    copies all of it on a CPU, and on a TPU whatever part fits on the chip; but not if a part reads it that writes nothing. Not
    with CUDA, where the host would wait for the condition."""

    def blank():
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(run))

    return jax.lax.platform_dependent(cuda=run, default=lambda: jax.lax.cond(jnp.any(running), run, blank))


def _either(condition: jax.Array, checked, plain):
    """`checked()` or `plain()`, in which the rows that are not there are blank. Neither writes the cache: XLA would copy all of it
    in and out of a conditional."""
    shapes = jax.eval_shape(checked)

    def widened():
        return jax.tree.map(
            lambda like, x: jnp.pad(x, [(0, more - n) for more, n in zip(like.shape, x.shape, strict=True)]),
            shapes,
            plain(),
        )

    return jax.lax.cond(condition, checked, widened)


def _written(cache: Cache, new: Cache, writes, logits: jax.Array) -> Cache:
    """The cache with the step's rows, written once the `logits` are there: all layers have been read then, and are updated in place."""
    return cache.write(jax.lax.optimization_barrier((new, logits))[0], writes)


def _due(gate: GateRules, state: DecodeState, batch: PromptBatch) -> jax.Array:
    """[B] bool: is a check due after the token just processed?"""
    schedule = gate.parsed_schedule
    due = schedule.due(state.step, batch.check_seed)
    if gate.confirm_every_step:
        due |= state.verdict.mode == Mode.ALERT
    # A refusal is checked at every token; and the cap, which the asker chooses, must not come before the next check.
    due |= state.verdict.mode == Mode.REFUSING
    due |= (state.step >= state.limit) & (True if schedule.last is None else state.step <= schedule.last)
    return due & ~is_frozen(state.verdict, state.length, gate)


def _token_mask(decoder: Decoder, batch: PromptBatch, state: DecodeState) -> jax.Array:
    """[B, T]: the slots that the newest token attends to: prompt, signal, kept response."""
    # Tokens between the newest one and each slot's: the prompt stands before the response.
    place = jnp.arange(decoder.layout.prompt) - decoder.layout.prompt + batch.prompt_length[:, None]
    rank = jnp.concatenate([place - batch.prompt_length[:, None], state.rank], axis=1)
    inside = jnp.concatenate([place >= 0, state.rank >= 0], axis=1)
    if (window := decoder.model.sliding_window) is not None:
        inside &= state.length[:, None] - 1 - rank < window
    signal = jnp.full((inside.shape[0], 2), False).at[:, 0].set(decoder.gate is not None and decoder.gate.visible)
    prompt, response = jnp.split(inside, [decoder.layout.prompt], axis=1)
    return jnp.concatenate([prompt, signal, response], axis=1)
