"""The verdict automaton of a row (docs/method.md sections 5 and 6).

            query malicious                      refuses
      start ---------------> QUERY (rule 1) -----------------.
        | benign                                              v
        v          malicious              tau in a row     REFUSING --> stop: relapse, length, EOS
      BENIGN ----------------> ALERT ----------------------->-^
      (rule 2) <-------------- (rule 3) --> CONFIRMED (dependence "low": nothing acts)
                benign: a false alarm          | benign, while its window still grows: back to BENIGN

All functions are elementwise over rows and pure. Lengths count the response tokens that are kept, prefilled ones
included. Decisions of this project [ours]: rule 1 is final (a malicious query stays malicious); an answer may not end
while an alert is pending (it becomes a refusal); a refusing row never leaves REFUSING.
"""

import enum

import flax.struct
import jax
import jax.numpy as jnp

from safety_align.decoding.config import GateRules


class Mode(enum.IntEnum):
    """Where a row stands."""

    BENIGN = 0
    ALERT = 1
    CONFIRMED = 2
    QUERY = 3
    REFUSING = 4


@flax.struct.dataclass
class Verdict:
    """All [B] int32.

    mode: a `Mode`.
    streak: consecutive malicious checks.
    transition: S_t, index of the response token at which the verdict turned; 0 for a malicious query; -1 if none.
    from_query: 1 if it was the query that was malicious.
    safe_length: response tokens that the latest benign check vouches for; where a rewind goes back to.
    refusal_start: index of the refusal's first token; -1 if none.
    released: of a refusing row, the tokens before the refusal that a check vouched for; those between them and the
      refusal ("insert") are condemned: the model has read them, the reader never does.
    """

    mode: jax.Array
    streak: jax.Array
    transition: jax.Array
    from_query: jax.Array
    safe_length: jax.Array
    refusal_start: jax.Array
    released: jax.Array

    @classmethod
    def start(cls, rows: int) -> "Verdict":
        """Before the first check."""
        zero, none = jnp.zeros(rows, jnp.int32), jnp.full(rows, -1, jnp.int32)
        return cls(zero, zero, none, zero, zero, none, zero)


def is_malicious(logit: jax.Array, threshold: jax.Array) -> jax.Array:
    """Safety logits [...] and the logit from which they are malicious → bool. A logit that is not finite is malicious, and
    so is every logit under a threshold that is none (fail closed)."""
    return ~(jnp.isfinite(logit) & (logit < threshold))


def judge_query(verdict: Verdict, malicious: jax.Array, length: jax.Array, gate: GateRules):
    """The first check. `length` [B]: prefilled tokens. Returns (verdict, [B] bool "a refusal starts now")."""
    verdict = verdict.replace(
        mode=jnp.where(malicious, Mode.QUERY, Mode.BENIGN).astype(jnp.int32),
        from_query=malicious.astype(jnp.int32),
        transition=jnp.where(malicious, 0, -1).astype(jnp.int32),
    )
    refuse = malicious & gate.refuses
    return start_refusal(verdict, refuse, length, gate), refuse


def judge_response(
    verdict: Verdict, due: jax.Array, malicious: jax.Array, length, stop, refusal_tokens, gate: GateRules, present=None
):
    """A later check.

    Args:
      verdict: before the check.
      due: [B] bool, rows that were checked.
      malicious: [B] bool, what the check says.
      length: [B] response tokens so far.
      stop: [B] the last of them that the check read, exclusive: a benign check vouches for no more. Under `gate.reread` it
        vouches for nothing, the second reading does (reread.py).
      refusal_tokens: [B] or a number, length of the forced refusal prefix.
      gate: the gate.
      present: [B] response tokens kept, where they are more than `length` (windows inside a prefilled answer).

    Returns:
      The verdict, [B] bool "a refusal starts now", [B] bool "this refusal turned malicious (a relapse), and stops now".
    """
    watched = due & ((verdict.mode == Mode.BENIGN) | (verdict.mode == Mode.ALERT) | (verdict.mode == Mode.CONFIRMED))
    # What the second reading has found, which the query cannot blind, the first one does not take back.
    settled = (verdict.mode == Mode.CONFIRMED) & gate.reread
    bad, good = watched & malicious, watched & ~malicious & ~settled
    streak = jnp.where(bad, verdict.streak + 1, jnp.where(good, 0, verdict.streak))
    turned = bad & (verdict.mode == Mode.BENIGN)
    confirmed = bad & (streak >= gate.confirmations)
    mode = jnp.where(good, Mode.BENIGN, jnp.where(bad, jnp.where(confirmed, Mode.CONFIRMED, Mode.ALERT), verdict.mode))
    refusing = verdict.mode == Mode.REFUSING
    # The forced prefix is ours: what the model itself adds to it is judged.
    past_prefix = length > verdict.refusal_start + refusal_tokens
    # Under "high" the fixed refusal is the whole answer: there is nothing left to relapse.
    relapse = due & refusing & past_prefix & malicious & (gate.dependence != "high")
    vouched = good | (due & refusing & past_prefix & ~malicious)
    verdict = verdict.replace(
        mode=mode.astype(jnp.int32),
        streak=streak,
        transition=jnp.where(turned, length - 1, jnp.where(good, -1, verdict.transition)),
        safe_length=verdict.safe_length
        if gate.reread
        else jnp.where(vouched, jnp.minimum(length, stop), verdict.safe_length),
    )
    refuse = confirmed & gate.refuses
    return start_refusal(verdict, refuse, length if present is None else present, gate), refuse, relapse


def start_refusal(verdict: Verdict, rows: jax.Array, length: jax.Array, gate: GateRules) -> Verdict:
    """Puts `rows` into REFUSING, at `length` ("insert") or at the latest benign check ("rewind")."""
    start = verdict.safe_length if gate.mode == "rewind" else length
    return verdict.replace(
        mode=jnp.where(rows, Mode.REFUSING, verdict.mode).astype(jnp.int32),
        refusal_start=jnp.where(rows, start, verdict.refusal_start),
        released=jnp.where(rows, verdict.safe_length, verdict.released),
        safe_length=jnp.where(rows, start, verdict.safe_length),
    )
