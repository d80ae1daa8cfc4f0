"""The decoder: prefill, step, loop. Pure functions of (parameters, batch, state); everything static is in `Decoder`.

One step is one forward pass of the newest token and, where a check is due, of `[CLS]` as a second row: weights and
cache are read once. Both rows write their keys and values first, so the newest token already sees the new verdict.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from safety_align import sharding
from safety_align.decoding.config import GateConfig
from safety_align.decoding.sampling import sample
from safety_align.decoding.schedule import Every
from safety_align.decoding.state import Batch, DecodeState, Layout, Stop, Trace
from safety_align.decoding.verdict import Mode, Verdict, is_malicious, judge_query, judge_response, start_refusal
from safety_align.decoding.windows import Window, is_frozen, read_window
from safety_align.errors import InputError
from safety_align.model import SafetyTransformer, TransformerConfig, Write
from safety_align.routing import CLS_TOKEN, IGNORED, Routing

CHUNK = 8
"""Steps of the inner scan: how often the loop looks whether every row has stopped."""


@dataclasses.dataclass(frozen=True)
class Decoder:
    """What a compiled decoder is specialised to; hashable.

    Attributes:
      model: the transformer, layers unrolled (`scan_layers=False`).
      gate: the safety gate, or None: then `[CLS]` does not exist for any token.
      refusal: ids that a refusal is forced to start with.
      eos: id that ends an answer.
      layout: sizes; `steps` is a multiple of `CHUNK`.
    """

    model: TransformerConfig
    gate: GateConfig | None
    refusal: tuple[int, ...]
    eos: int
    layout: Layout

    def __post_init__(self):
        if self.model.scan_layers:
            raise InputError("the decoder needs unrolled layers: scan_layers=False and unstack_layers(params)")
        if self.gate is not None and not self.model.safety_signal:
            raise InputError("this model has no safety signal to gate on; use gate=None or a model trained with [CLS]")
        if self.gate is not None and self.gate.max_refusal_tokens < len(self.refusal):
            raise InputError(
                f"gate.max_refusal_tokens ({self.gate.max_refusal_tokens}) does not hold the refusal prefix of "
                f"{len(self.refusal)} tokens; raise it"
            )
        if self.layout.steps % CHUNK:
            raise InputError(f"layout.steps ({self.layout.steps}) must be a multiple of {CHUNK}")

    @property
    def checks(self) -> bool:
        """The answer is re-checked at all."""
        return self.gate is not None and self.gate.parsed_schedule.last != 0


@functools.partial(jax.jit, static_argnums=0)
def prefill(decoder: Decoder, params, batch: Batch) -> DecodeState:
    """Reads prompts and prefilled answers, makes the first checks, draws each row's first token."""
    layout, gate = decoder.layout, decoder.gate
    rows = batch.prompt.shape[0]
    hidden, cache = _read_prompt(decoder, params, batch)
    rank = _ranks(batch, layout)
    tokens = jnp.pad(batch.prefill, ((0, 0), (0, layout.steps)))
    state = DecodeState(
        step=jnp.int32(0),
        token=jnp.zeros(rows, jnp.int32),
        length=batch.prefill_length,
        tokens=tokens,
        rank=rank,
        limit=batch.limit,
        stop=jnp.where(batch.limit > 0, Stop.RUNNING, Stop.MAX_TOKENS).astype(jnp.int32),
        verdict=Verdict.start(rows),
        trace=Trace.empty(rows, layout.steps),
        cache=cache,
    )
    refuse = jnp.zeros(rows, bool)
    if gate is not None:
        with jax.named_scope("first_check"):
            logit = _apply(decoder, params, "safety_logit", hidden[:, layout.cls])
            verdict, refuse = judge_query(state.verdict, is_malicious(logit, gate), state.length, gate)
            zero = jnp.zeros(rows, jnp.int32)
            state = state.replace(
                trace=_record(state.trace, 0, state.stop == Stop.RUNNING, logit, zero, zero),
                verdict=verdict,
            )
        if layout.prefill and decoder.checks:
            state, again = _check_prefill(decoder, params, batch, state)
            refuse |= again
    last = hidden[:, layout.prompt - 1]
    if layout.prefill:
        last = jnp.where((batch.prefill_length > 0)[:, None], hidden[:, -1], last)
    logits = _apply(decoder, params, "lm_logits", last)
    return _next_token(decoder, batch, state, logits, refuse, jnp.zeros(rows, bool))


@functools.partial(jax.jit, static_argnums=0, donate_argnums=3)
def decode(decoder: Decoder, params, batch: Batch, state: DecodeState, until: jax.Array) -> DecodeState:
    """Generates until every row has stopped or `until` (scalar, a multiple of CHUNK) tokens were generated."""

    def running(state: DecodeState):
        # Rows stop for themselves; the batch stops with its last row. `until` never exceeds the slots there are.
        return jnp.any(state.stop == Stop.RUNNING) & (state.step < jnp.minimum(until, decoder.layout.steps))

    def chunk(state: DecodeState):
        return jax.lax.scan(lambda s, _: (step(decoder, params, batch, s), None), state, length=CHUNK)[0]

    return jax.lax.while_loop(running, chunk, state)


def step(decoder: Decoder, params, batch: Batch, state: DecodeState) -> DecodeState:
    """Processes each row's pending token, checks where due, draws the next token."""
    layout, gate = decoder.layout, decoder.gate
    running = state.stop == Stop.RUNNING
    index = layout.prefill + state.step
    column = jnp.arange(layout.prefill + layout.steps) == index
    state = state.replace(
        rank=jnp.where(column & running[:, None], state.length[:, None], state.rank),
        tokens=jnp.where(column & running[:, None], state.token[:, None], state.tokens),
        length=state.length + running,
        step=state.step + 1,
    )
    slot = layout.response + index
    position = batch.prompt_length + state.length  # [CLS] is 0, the prompt 1 … p, the response p + 1 …
    token_mask = _token_mask(decoder, batch, state)
    none = jnp.zeros(running.shape, bool)

    def plain(cache):
        hidden, cache = _extend(
            decoder, params, state.token[:, None], position[:, None], cache, [Write(0, slot)], token_mask[:, None]
        )
        return _apply(decoder, params, "lm_logits", hidden[:, 0]), jnp.zeros(running.shape, jnp.float32), cache

    if not decoder.checks:
        logits, _, cache = plain(state.cache)
        return _next_token(decoder, batch, state.replace(cache=cache), logits, none, none)

    due = running & _due(gate, state, batch)
    window = read_window(state.verdict, state.length, gate)

    def checked(cache):
        mask, write = _cls_row(decoder, batch, state, window, due)
        hidden, cache = _extend(
            decoder,
            params,
            jnp.stack([state.token, jnp.full_like(state.token, CLS_TOKEN)], axis=1),
            jnp.stack([position, jnp.zeros_like(position)], axis=1),
            cache,
            [Write(0, slot), write._replace(row=1)],
            jnp.stack([token_mask, mask], axis=1),
        )
        logits = _apply(decoder, params, "lm_logits", hidden[:, 0])
        return logits, _apply(decoder, params, "safety_logit", hidden[:, 1]), cache

    if gate.parsed_schedule == Every():
        logits, logit, cache = checked(state.cache)  # hardly ever is no row due: not worth a branch
    else:
        logits, logit, cache = _either(jnp.any(due), checked, plain, state.cache)
    verdict, refuse, guard = judge_response(
        state.verdict, due, is_malicious(logit, gate), state.length, len(decoder.refusal), gate
    )
    trace = _record(state.trace, state.step + 1, due, logit, window.start, window.stop)
    state = state.replace(verdict=verdict, trace=trace, cache=cache)
    return _next_token(decoder, batch, state, logits, refuse, guard)


def _read_prompt(decoder: Decoder, params, batch: Batch):
    """One forward pass over prompt, `[CLS]` and prefilled answer → hidden [B, G, D], the cache with all its slots."""
    layout = decoder.layout
    rows = batch.prompt.shape[0]
    gated = decoder.gate is not None
    inside = jnp.arange(layout.prompt) >= layout.prompt - batch.prompt_length[:, None]
    filled = _ranks(batch, layout)[:, : layout.prefill] >= 0
    signal = jnp.full((rows, 1), gated)
    nothing = jnp.zeros((rows, 1), bool)
    tokens = jnp.concatenate(
        [batch.prompt, jnp.full((rows, 1), CLS_TOKEN if gated else 0), jnp.zeros((rows, 1), jnp.int32), batch.prefill],
        1,
    )
    real = jnp.concatenate([inside, signal, nothing, filled], axis=1)
    ordinary = jnp.concatenate([inside, nothing, nothing, filled], axis=1)
    segments = real.astype(jnp.int32)
    if gated and not decoder.gate.visible:
        segments = segments.at[:, layout.cls].set(-1)
    routing = Routing(
        # Padding is segment 0, and the guard slot with it: no token of segment 1 sees either.
        segments=segments,
        content=jnp.concatenate([batch.prompt_content & inside, nothing, nothing, filled], axis=1),
        cls_index=jnp.full((rows, 1), layout.cls if gated else IGNORED, jnp.int32),
        cls_range=jnp.broadcast_to(jnp.array([0, layout.prompt]), (rows, 1, 2)),
    )
    positions = jnp.where(ordinary, jnp.cumsum(ordinary, axis=1), 0)
    hidden, key_values = _apply(decoder, params, "hidden", tokens, positions, routing)
    grow = ((0, 0), (0, 0), (0, layout.slots - tokens.shape[1]), (0, 0))
    cache = tuple(tuple(_place_cache(jnp.pad(x, grow)) for x in pair) for pair in key_values)
    return hidden, cache


def _check_prefill(decoder: Decoder, params, batch: Batch, state: DecodeState):
    """The check that reads the prefilled answer (rows that have one) → (state, [B] bool "a refusal starts now")."""
    gate = decoder.gate
    # A row that refuses its query already has nothing left to judge.
    due = (state.stop == Stop.RUNNING) & (batch.prefill_length > 0) & (state.verdict.mode != Mode.REFUSING)
    window = read_window(state.verdict, state.length, gate)
    mask, write = _cls_row(decoder, batch, state, window, due)
    ids = jnp.full((due.shape[0], 1), CLS_TOKEN)
    hidden, cache = _extend(decoder, params, ids, jnp.zeros_like(ids), state.cache, [write], mask[:, None])
    logit = _apply(decoder, params, "safety_logit", hidden[:, 0])
    verdict, refuse, _ = judge_response(
        state.verdict, due, is_malicious(logit, gate), state.length, len(decoder.refusal), gate
    )
    trace = _record(state.trace, 1, due, logit, window.start, window.stop)
    return state.replace(verdict=verdict, trace=trace, cache=cache), refuse


def _next_token(decoder: Decoder, batch: Batch, state: DecodeState, logits, refuse, guard) -> DecodeState:
    """Draws each row's next token, starts refusals (`refuse` [B]), and stops the rows that are done (`guard` [B])."""
    gate = decoder.gate
    refusing = state.verdict.mode == Mode.REFUSING
    # Greedy while refusing: sampling tricks must not walk a refusal back into compliance.
    temperature = jnp.where(refusing, 0.0, batch.temperature)
    drawn = sample(logits, temperature, batch.top_k, batch.top_p, batch.seed, state.step)
    ended = drawn == decoder.eos
    running = state.stop == Stop.RUNNING
    verdict, length, limit, prefix_left = state.verdict, state.length, state.limit, jnp.zeros_like(running)
    if gate is not None and gate.refuses:
        # An answer may not end while an alert is pending: it becomes a refusal (fail closed).
        pending = running & ended & (verdict.mode == Mode.ALERT)
        verdict = start_refusal(verdict, pending, length, gate)
        refuse = (refuse | pending) & running
        refusing = verdict.mode == Mode.REFUSING
        length = jnp.where(refuse, verdict.refusal_start, length)
        limit = jnp.where(refuse, state.step + gate.max_refusal_tokens, limit)
        # A guard stop takes back what no check has vouched for, never the forced prefix.
        kept = jnp.maximum(verdict.safe_length, verdict.refusal_start + len(decoder.refusal))
        length = jnp.where(guard & running & (gate.mode == "rewind"), jnp.minimum(length, kept), length)
        place = length - verdict.refusal_start
        prefix_left = refusing & (place < len(decoder.refusal))
        forced = jnp.asarray(decoder.refusal, jnp.int32)[jnp.clip(place, 0, len(decoder.refusal) - 1)]
        drawn = jnp.where(prefix_left, forced, drawn)
        ended = (ended | (gate.dependence == "high") & refusing) & ~prefix_left
    reasons = [
        (guard, Stop.GUARD),
        (ended, jnp.where(refusing, Stop.REFUSAL_END, Stop.EOS)),
        (state.step >= limit, jnp.where(refusing, Stop.REFUSAL_LIMIT, Stop.MAX_TOKENS)),
    ]
    stop = jnp.int32(Stop.RUNNING)
    for condition, reason in reversed(reasons):
        stop = jnp.where(condition, reason, stop)
    return state.replace(
        token=drawn,
        length=length,
        rank=jnp.where(state.rank >= length[:, None], -1, state.rank),
        limit=limit,
        stop=jnp.where(running, stop, state.stop).astype(jnp.int32),
        verdict=verdict,
    )


def _either(condition: jax.Array, then, otherwise, cache):
    """`lax.cond(condition, then, otherwise, cache)` as two loops of at most one turn.

    XLA updates what a loop carries in place, but copies the whole cache in and out of a conditional.
    """
    out = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(otherwise, cache)[:2])
    for run, wanted in ((then, condition), (otherwise, ~condition)):
        _, (*out, cache) = jax.lax.while_loop(
            lambda carry: carry[0],
            lambda carry, run=run: (jnp.bool_(False), run(carry[1][-1])),
            (wanted, (*out, cache)),
        )
    return (*out, cache)


def _due(gate: GateConfig, state: DecodeState, batch: Batch) -> jax.Array:
    """[B] bool: is a check due after the token just processed?"""
    due = gate.parsed_schedule.due(state.step, batch.seed)
    if gate.confirm_every_step:
        due |= state.verdict.mode == Mode.ALERT
    return due & ~is_frozen(state.verdict, state.length, gate)


def _ranks(batch: Batch, layout: Layout) -> jax.Array:
    """[B, F + N]: the index of each response slot in the response before anything is generated."""
    place = jnp.arange(layout.prefill + layout.steps) - (layout.prefill - batch.prefill_length[:, None])
    return jnp.where((place >= 0) & (place < batch.prefill_length[:, None]), place, -1).astype(jnp.int32)


def _token_mask(decoder: Decoder, batch: Batch, state: DecodeState) -> jax.Array:
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


def _cls_row(decoder: Decoder, batch: Batch, state: DecodeState, window: Window, due: jax.Array):
    """Mask [B, T] of the `[CLS]` row, and where it writes: the signal; in a refusing row, or one without a check (its
    keys and values are read by nothing), the guard slot."""
    refusing = state.verdict.mode == Mode.REFUSING
    query = batch.prompt_content & window.query[:, None]
    inside = (state.rank >= window.start[:, None]) & (state.rank < window.stop[:, None]) & (state.rank >= 0)
    mask = jnp.concatenate([query, ~refusing[:, None], refusing[:, None], inside], axis=1)
    layout = decoder.layout
    return mask, Write(0, jnp.where(due & ~refusing, layout.cls, layout.guard))


def _record(trace: Trace, column, due, logit, start, stop) -> Trace:
    """Notes a check of the rows `due` in `column`; a non-finite logit is noted as probability 1."""
    probability = jnp.where(jnp.isfinite(logit), jax.nn.sigmoid(logit), 1.0)
    here = (jnp.arange(trace.probability.shape[1]) == column) & due[:, None]
    new = Trace(probability, start, stop)
    return jax.tree.map(lambda old, value: jnp.where(here, value[:, None], old), trace, new)


def _apply(decoder: Decoder, params, method: str, *arguments):
    return SafetyTransformer(decoder.model).apply({"params": params}, *arguments, method=method)


def _extend(decoder: Decoder, params, tokens, positions, cache, writes, mask):
    hidden, cache = _apply(decoder, params, "extend", tokens, positions, cache, writes, mask)
    return hidden, tuple(tuple(_place_cache(x) for x in pair) for pair in cache)


def _place_cache(x: jax.Array) -> jax.Array:
    """Keeps a cache [B, K, T, E] sharded over rows and key/value heads; nothing outside a mesh."""
    return sharding.constrain(x, sharding.BATCH, sharding.ACT_KV_HEADS, None, None)
