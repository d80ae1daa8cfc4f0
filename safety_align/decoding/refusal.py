"""How a refusal begins in a row, and how one that turned malicious is cut."""

import jax
import jax.numpy as jnp

from safety_align.decoding.decoder import Decoder
from safety_align.decoding.state import DecodeState
from safety_align.decoding.verdict import Mode, Verdict


def turn(decoder: Decoder, state: DecodeState, verdict: Verdict, refuse: jax.Array, relapse: jax.Array) -> DecodeState:
    """The state with `verdict`, in which the rows `refuse` [B] have begun to refuse: what they keep, and how far they may go. The
    refusals `relapse` [B] turned malicious: these lose what no check has vouched for, never the forced prefix."""
    length = jnp.where(refuse, verdict.refusal_start, state.length)
    kept = jnp.maximum(verdict.safe_length, verdict.refusal_start + decoder.prefix_length(verdict))
    length = jnp.where(relapse, jnp.minimum(length, kept), length)
    longest = jnp.minimum(state.step + decoder.gate.max_refusal_tokens, decoder.layout.steps)
    return state.replace(
        verdict=verdict,
        length=length,
        rank=jnp.where(state.rank >= length[:, None], -1, state.rank),
        limit=jnp.where(refuse, longest, state.limit),
    )


def forced(decoder: Decoder, state: DecodeState) -> tuple[jax.Array, jax.Array]:
    """([B] the token of the forced prefix that stands next in a refusal, [B] bool "there is one")."""
    verdict = state.verdict
    place = state.length - verdict.refusal_start
    left = (verdict.mode == Mode.REFUSING) & (place < decoder.prefix_length(verdict))
    alone, continued = (
        jnp.asarray(ids, jnp.int32)[jnp.clip(place, 0, len(ids) - 1)] for ids in (decoder.refusal, decoder.continued)
    )
    return jnp.where(verdict.refusal_start == 0, alone, continued), left
