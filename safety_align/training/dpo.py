"""Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290, equation 7), over packed rows.

L = -log sigmoid(beta * ((log p(c) - log r(c)) - (log p(j) - log r(j)))) for a conversation with a preferred answer c and
a rejected one j; p is the model, r the frozen reference, whose log-probabilities are computed once (reference.py). The
log-probability of an answer is the sum over its tokens, EOS included.
"""

import dataclasses

import jax
import jax.numpy as jnp

from safety_align.errors import InputError
from safety_align.fields import check_fields


@dataclasses.dataclass(frozen=True)
class DpoConfig:
    """The objective.

    reference: directory of the reference's log-probabilities; made when it is missing. beta: how fast a preference
    saturates, the strength of the tie to the reference. lm: weight of the language-model loss of preferred answers and
    of the mixture's other examples, beside the DPO loss; 0 is plain DPO.
    """

    reference: str
    beta: float = 0.1
    lm: float = 0.0

    def __post_init__(self):
        check_fields(self, "dpo.", lm=0)
        if not self.reference:
            raise InputError("dpo.reference is empty; name a directory for the reference's log-probabilities")
        if not self.beta > 0:
            raise InputError(f"dpo.beta must be positive, got {self.beta}")


def pair_logprobs(nats: jax.Array, sides: jax.Array, pairs: int) -> jax.Array:
    """Log-probabilities [B, P, 2] (chosen, rejected; nats), float32, of the responses of `pairs` (P) pairs a row.

    nats [B, S]: -log probability of each slot's target; sides [B, S]: `pair_sides` of `placement.Batch`. 0 where there
    is no pair.
    """
    own = sides[:, None, :] == jnp.arange(1, 2 * pairs + 1)[:, None]
    return -jnp.sum(jnp.where(own, nats[:, None, :], 0.0), axis=-1).reshape(len(nats), pairs, 2)


def dpo_margins(logprobs: jax.Array, reference: jax.Array) -> jax.Array:
    """How much more than the reference the model prefers the chosen answer, in nats: both [..., 2] → [...]."""
    gained = logprobs - reference
    return gained[..., 0] - gained[..., 1]


def dpo_loss(logprobs: jax.Array, reference: jax.Array, weights: jax.Array, beta: float, total: jax.Array) -> jax.Array:
    """Sum of weighted losses / total, float32. logprobs, reference [B, P, 2] in nats; weights [B, P]."""
    return jnp.sum(jax.nn.softplus(-beta * dpo_margins(logprobs, reference)) * weights) / total


def pair_counts(logprobs: jax.Array, reference: jax.Array, weights: jax.Array) -> dict[str, jax.Array]:
    """Pairs whose chosen answer gained more than the rejected one, and all pairs (sums, not means)."""
    right = (dpo_margins(logprobs, reference) > 0).astype(jnp.float32)
    return {"pair_right": jnp.sum(right * weights), "pair_count": jnp.sum(weights)}
