"""The next token of each row: drawn, or forced where a refusal starts; and which rows stop."""

import jax.numpy as jnp

from safety_align.decoding.decoder import Decoder
from safety_align.decoding.refusal import forced, turn
from safety_align.decoding.sampling import sample
from safety_align.decoding.state import DecodeState, PromptBatch, Stop
from safety_align.decoding.verdict import Mode, start_refusal


def next_token(
    decoder: Decoder, batch: PromptBatch, state: DecodeState, logits, refuse, relapse, steered=None, doubtful=False
) -> DecodeState:
    """Draws each row's next token, starts refusals (`refuse` [B]), and stops the rows that are done: refusals that turned malicious
    (`relapse` [B]), and those that ended or are full. `steered` [B]: what an attacker puts in the place of the draws; a refusal is
    drawn all the same. `doubtful` [B]: answers that may not end here, as under a pending alert."""
    gate = decoder.gate
    refusing = state.verdict.mode == Mode.REFUSING
    # Greedy while refusing: sampling tricks must not walk a refusal back into compliance.
    temperature = jnp.where(refusing, 0.0, batch.temperature)
    drawn = sample(logits, temperature, batch.top_k, batch.top_p, batch.seed, state.step)
    if steered is not None:
        drawn = jnp.where(refusing, drawn, steered)
    ended = jnp.isin(drawn, jnp.asarray(decoder.eos, jnp.int32))
    running = state.stop == Stop.RUNNING
    if gate is not None and gate.refuses:
        # An answer may not end while an alert is pending: it becomes a refusal (fail closed).
        mode = state.verdict.mode
        pending = running & ended & ((mode == Mode.ALERT) | doubtful & (mode == Mode.BENIGN))
        verdict = start_refusal(state.verdict, pending, state.length, gate)
        state = turn(decoder, state, verdict, (refuse | pending) & running, relapse & running)
        refusing = verdict.mode == Mode.REFUSING
        prefix, prefix_left = forced(decoder, state)
        drawn = jnp.where(prefix_left, prefix, drawn)
        ended = (ended | (gate.dependence == "high") & refusing) & ~prefix_left
    reasons = [
        (relapse, Stop.RELAPSE),
        (ended, jnp.where(refusing, Stop.REFUSAL_END, Stop.EOS)),
        (state.step >= state.limit, jnp.where(refusing, Stop.REFUSAL_LIMIT, Stop.MAX_TOKENS)),
    ]
    stop = jnp.int32(Stop.RUNNING)
    for condition, reason in reversed(reasons):
        stop = jnp.where(condition, reason, stop)
    return state.replace(token=drawn, stop=jnp.where(running, stop, state.stop).astype(jnp.int32))
