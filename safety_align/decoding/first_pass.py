"""The prompt and the prefilled answer: read in one pass, checked before the first token is drawn."""

import functools

import jax
import jax.numpy as jnp

from safety_align.decoding.decoder import Decoder, apply, cls_row, probability, record, window_mask
from safety_align.decoding.next_token import next_token
from safety_align.decoding.prefix import Prefix, read_rest
from safety_align.decoding.reread import noted, of_prefill, reaches
from safety_align.decoding.state import DecodeState, Layout, PromptBatch, Stop, Trace
from safety_align.decoding.verdict import Mode, Verdict, is_malicious, judge_query, judge_response
from safety_align.decoding.windows import Window, prefill_windows, read_window
from safety_align.model import Cache
from safety_align.model.watch import watch
from safety_align.routing import CLS_TOKEN, IGNORED, Routing


@functools.partial(jax.jit, static_argnums=0)
def prefill(decoder: Decoder, params, batch: PromptBatch, prefix: Prefix | None = None) -> DecodeState:
    """Reads prompts and prefilled answers, makes the first checks, draws each row's first token. `prefix`: what all prompts begin
    with, read before; there are no soft tokens then."""
    state, logits, refuse, last = read(decoder, params, batch, prefix)
    return first_token(decoder, batch, state, logits, refuse, last)


def first_token(
    decoder: Decoder, batch: PromptBatch, state: DecodeState, logits, refuse, last, steered=None
) -> DecodeState:
    """`next_token` of the first one, of what `read` returns. A prefilled answer that ends there is judged by its last window, read
    again, alone: no answer ends while an alert is pending."""
    doubtful = reaches(last, batch.threshold)
    drawn = next_token(decoder, batch, state, logits, refuse, jnp.zeros_like(refuse), steered, doubtful)
    ended = (drawn.stop == Stop.EOS) | (doubtful & ~refuse & (drawn.verdict.mode == Mode.REFUSING))
    return drawn.replace(reread=noted(drawn.reread, last, ended))


def read(
    decoder: Decoder, params, batch: PromptBatch, prefix: Prefix | None = None
) -> tuple[DecodeState, jax.Array, jax.Array, jax.Array]:
    """`prefill` without the draw: (state, logits [B, V] of the first token, [B] bool "a refusal starts now", [B] the logit of the
    prefilled answer's last window, read again, -inf without one)."""
    gate, rows = decoder.gate, batch.prompt.shape[0]
    last, logits, cache = _read_prompt(decoder, params, batch, prefix)
    state = start(decoder, batch, cache)
    refuse, last_window = jnp.zeros(rows, bool), jnp.full(rows, -jnp.inf)
    if gate is not None:
        with jax.named_scope("first_check"):
            verdict, refuse = judge_query(
                state.verdict, is_malicious(logits[:, 0], batch.threshold), state.length, gate
            )
            zero = jnp.zeros(rows, jnp.int32)
            state = state.replace(
                trace=record(state.trace, 0, state.stop == Stop.RUNNING, logits[:, 0], zero, zero),
                verdict=verdict,
            )
        if decoder.reads_prefill:
            state, inside, window = _judge_inner_windows(decoder, batch, state, logits[:, 1:])
            state, end = _check_prefill_end(decoder, params, batch, state, inside, window)
            state, again, last_window = of_prefill(decoder, params, batch, state)
            refuse |= inside | end | again
    return state, apply(decoder, params, "lm_logits", last), refuse, last_window


def start(decoder: Decoder, batch: PromptBatch, cache: Cache) -> DecodeState:
    """The state before the first check; rows without a request have stopped."""
    layout, rows = decoder.layout, batch.prompt.shape[0]
    return DecodeState(
        turn=jnp.int32(0),
        begun=jnp.zeros(rows, jnp.int32),
        token=jnp.zeros(rows, jnp.int32),
        length=batch.prefill_length,
        tokens=jnp.pad(batch.prefill, ((0, 0), (0, layout.steps))),
        rank=ranks(batch, layout),
        limit=jnp.minimum(batch.limit, decoder.longest),  # no row may come round to the slots of its own first tokens
        stop=jnp.where(batch.limit > 0, Stop.RUNNING, Stop.MAX_TOKENS).astype(jnp.int32),
        verdict=Verdict.start(rows),
        trace=Trace.empty(rows, decoder.column(layout.steps) + 1),
        reread=jnp.full(rows, jnp.nan, jnp.float32),
        cache=cache,
    )


def _read_prompt(decoder: Decoder, params, batch: PromptBatch, prefix: Prefix | None = None):
    """One forward pass over the prompt, the prefilled answer and every `[CLS]` that checks them.

    Returns the final hidden state [B, D] from which the first token is drawn, the safety logits [B, 1 + N] of the query
    and of the windows inside the prefilled answer, and the cache with all its slots.

    The row is `prompt, [CLS], prefilled answer, copies of [CLS]`, with an invisible `[CLS]` behind the answer instead:
    what belongs together stands together, with padding at the ends only, as some attention kernels need it (cudnn.py).
    Checks beside the language model (watch.py) take no slots: the row is that of the decoder without a gate.
    """
    layout, gate = decoder.layout, decoder.gate
    rows, copies = batch.prompt.shape[0], decoder.inner_windows
    inside = jnp.arange(layout.prompt) >= layout.prompt - batch.prompt_length[:, None]
    filled = jnp.arange(layout.prefill) < batch.prefill_length[:, None]
    window, used = prefill_windows(batch.prefill_length, copies, gate) if copies else (None, jnp.zeros((rows, 0), bool))
    signal = jnp.full((rows, 0 if gate is None or decoder.beside else 1), True)
    visible = gate is not None and gate.visible
    # (tokens, is a token or a [CLS] in use, is an ordinary token, is content, segment) of each part of the row.
    answer = batch.prefill, filled, filled, filled, 1
    cls = jnp.full(signal.shape, CLS_TOKEN), signal, ~signal, ~signal, 1 if visible else -1
    parts = [
        (batch.prompt, inside, inside, batch.prompt_content & inside, 1),
        *((cls, answer) if visible else (answer, cls)),
    ]
    if not decoder.beside:
        parts.append((jnp.full(used.shape, CLS_TOKEN), used, jnp.zeros_like(used), jnp.zeros_like(used), -1))
    tokens, _, ordinary, content = (jnp.concatenate([part[i] for part in parts], axis=1) for i in range(4))
    # Padding is segment 0: no token of segment 1 sees it, nor what is -1.
    segments = jnp.concatenate([part[4] * part[1].astype(jnp.int32) for part in parts], axis=1)
    first = layout.prompt + signal.shape[1] * visible
    # Beside: any slot of the segment stands for its checks; the prompt ends in this one.
    at_cls = layout.prompt - 1 if decoder.beside else layout.prompt if visible else layout.prompt + layout.prefill
    routing = Routing(segments, content, *_check_slots(decoder, window, used, first, at_cls))
    positions = jnp.where(ordinary, jnp.cumsum(ordinary, axis=1), 0)
    if batch.soft is not None:
        at = jnp.arange(rows)[:, None], batch.soft.slots
        vectors = apply(decoder, params, "embed", tokens)
        tokens = vectors.at[at].set(batch.soft.vectors.astype(vectors.dtype), mode="drop")
    left_out = 0 if prefix is None else prefix.left_out
    if prefix is not None:
        kept, rest = prefix.rows(layout.prompt - batch.prompt_length), tokens[:, left_out:]
        hidden, logits, cache = read_rest(decoder.model, params, kept, rest, positions, routing)
    elif not decoder.beside:
        hidden, cache = apply(decoder, params, "hidden", tokens, positions, routing)
        logits = apply(decoder, params, "read_checks", hidden, routing)
    else:
        found = watch(decoder.model, params, tokens, positions, routing, whole=True)
        logits, hidden, cache = found.safety_logits, found.hidden, found.cache
    end = jnp.where(batch.prefill_length > 0, first + batch.prefill_length, layout.prompt) - 1
    last = jnp.take_along_axis(hidden, end[:, None, None] - left_out, axis=1)[:, 0]

    # The query's [CLS], where it has a slot; the slot aside, behind it, is blank.
    own = slice(at_cls, at_cls + 1) if signal.shape[1] else 1
    slots = [slice(layout.prompt), own, 1, slice(first, first + layout.prefill), layout.steps]
    return last, logits, cache.arrange(slots)


def _check_slots(decoder: Decoder, window: Window | None, used: jax.Array, first: int, at_cls: int):
    """`cls_index`, `cls_range` and `cls_also` of the first pass: the query's `[CLS]` at slot `at_cls`, then the copies;
    the prefilled answer stands from slot `first` on. Copies beside the language model have no slots of their own."""
    rows, copies = used.shape
    if decoder.gate is None:
        return jnp.full((rows, 1), IGNORED, jnp.int32), jnp.zeros((rows, 1, 2), jnp.int32)
    query = jnp.broadcast_to(jnp.array([0, decoder.layout.prompt]), (rows, 1, 2))
    index = jnp.full((rows, 1), at_cls, jnp.int32)
    if window is None:
        return index, query
    behind = max(at_cls + 1, first + decoder.layout.prefill) + jnp.arange(copies)
    if decoder.beside:
        behind = jnp.full(copies, at_cls)
    index = jnp.concatenate([index, jnp.where(used, behind, IGNORED)], axis=1)
    response = jnp.stack([first + window.start, first + window.stop], axis=-1)
    also = jnp.where(window.query[..., None], query, 0)
    return index, jnp.concatenate([query, response], axis=1), jnp.concatenate([query, also], axis=1)


def _judge_inner_windows(decoder: Decoder, batch: PromptBatch, state: DecodeState, logits: jax.Array):
    """Runs the automaton along the windows inside the prefilled answers, whose safety logits are [B, N] → (state, [B] bool
    "a refusal starts now", the window that started it)."""
    gate, count = decoder.gate, decoder.inner_windows
    none = jnp.zeros(batch.prefill_length.shape, bool)
    nowhere = Window(jnp.zeros_like(batch.prefill_length), jnp.zeros_like(batch.prefill_length), none)
    if not count:
        return state, none, nowhere
    window, used = prefill_windows(batch.prefill_length, count, gate)
    running = state.stop == Stop.RUNNING

    def one(carry, check):
        verdict, refuse, last = carry
        logit, here, exists = check
        due = exists & running & (verdict.mode != Mode.REFUSING) & (verdict.mode != Mode.QUERY)
        malicious, present = is_malicious(logit, batch.threshold), batch.prefill_length
        verdict, now, _ = judge_response(verdict, due, malicious, here.stop, here.stop, 0, gate, present)
        last = jax.tree.map(lambda old, new: jnp.where(now, new, old), last, here)
        return (verdict, refuse | now, last), due

    checks = logits.T, jax.tree.map(jnp.transpose, window), used.T
    (verdict, refuse, last), due = jax.lax.scan(one, (state.verdict, none, nowhere), checks)
    here = slice(1, 1 + count)
    trace = Trace(
        state.trace.probability.at[:, here].set(jnp.where(due.T, probability(logits), jnp.nan)),
        state.trace.start.at[:, here].set(jnp.where(due.T, window.start, 0)),
        state.trace.stop.at[:, here].set(jnp.where(due.T, window.stop, 0)),
    )
    return state.replace(verdict=verdict, trace=trace), refuse, last


def _check_prefill_end(
    decoder: Decoder, params, batch: PromptBatch, state: DecodeState, inside: jax.Array, inner: Window
):
    """The check that reads the end of the prefilled answer; generated tokens see its verdict → (state, [B] bool "a refusal
    starts now"). Rows that refuse because of a window `inside` are judged no further: their `[CLS]` reads that window,
    `inner`, once more, so that the refusal sees the verdict that started it."""
    gate = decoder.gate
    running = (state.stop == Stop.RUNNING) & (batch.prefill_length > 0)
    due = running & (state.verdict.mode != Mode.REFUSING)
    own = read_window(state.verdict, state.length, gate)
    window = jax.tree.map(lambda a, b: jnp.where(inside, a, b), inner, own)
    seen = state.replace(verdict=state.verdict.replace(mode=jnp.where(inside, Mode.CONFIRMED, state.verdict.mode)))
    if decoder.probes:
        cache = state.cache
        logit = apply(decoder, params, "pooled", cache, window_mask(batch, seen, window)[:, None])[:, 0]
    else:
        mask, write = cls_row(decoder, batch, seen, window, due | (running & inside))
        ids = jnp.full((due.shape[0], 1), CLS_TOKEN)
        arguments = ids, jnp.zeros_like(ids), state.cache, [write], mask[:, None], 1
        _, logit, cache = apply(decoder, params, "extend", *arguments)
        logit = logit[:, 0]
    malicious = is_malicious(logit, batch.threshold)
    verdict, refuse, _ = judge_response(state.verdict, due, malicious, state.length, window.stop, 0, gate)
    trace = record(state.trace, decoder.column(0), due, logit, window.start, window.stop)
    return state.replace(verdict=verdict, trace=trace, cache=cache), refuse


def ranks(batch: PromptBatch, layout: Layout) -> jax.Array:
    """[B, F + steps]: the index of each response slot in the response before anything is generated."""
    place = jnp.arange(layout.prefill + layout.steps)
    return jnp.where(place < batch.prefill_length[:, None], place, -1).astype(jnp.int32)
