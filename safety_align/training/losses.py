"""The training objective (method.md section 4): L = L_lm + lambda_cls * L_cls, both means over what they cover."""

import flax.struct
import jax
import jax.numpy as jnp

from safety_align.routing import Kind


@flax.struct.dataclass
class Totals:
    """What a microbatch must be divided by so that accumulated losses are means over the whole batch.

    lm: trained response tokens; cls: weighted checks; both at least 1.
    """

    lm: jax.Array
    cls: jax.Array

    @classmethod
    def of(cls, batch: dict[str, jax.Array]) -> "Totals":
        """Totals of a whole batch (any leading axes)."""
        return cls(jnp.maximum(jnp.sum(batch["loss_weights"]), 1.0), jnp.maximum(jnp.sum(batch["cls_weights"]), 1.0))


def lm_loss(logits: jax.Array, targets: jax.Array, weights: jax.Array, total: jax.Array) -> jax.Array:
    """Sum of weighted cross-entropies / total, float32. logits [B, S, V] float32, targets and weights [B, S]."""
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return jnp.sum((jax.nn.logsumexp(logits, axis=-1) - chosen) * weights) / total


def cls_loss(safety_logits: jax.Array, labels: jax.Array, weights: jax.Array, total: jax.Array) -> jax.Array:
    """Sum of weighted binary cross-entropies / total, float32. All [B, M]; label 1 is malicious."""
    losses = jax.nn.softplus(safety_logits) - labels * safety_logits
    return jnp.sum(losses * weights) / total


def check_counts(safety_logits: jax.Array, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Right and counted checks (sums, not means), for queries and for windows (everything else)."""
    right = ((safety_logits >= 0) == (batch["cls_labels"] > 0.5)).astype(jnp.float32) * batch["cls_weights"]
    query = (batch["cls_kinds"] == Kind.QUERY).astype(jnp.float32)
    counts = {}
    for name, mask in (("query", query), ("window", 1 - query)):
        counts[f"{name}_right"] = jnp.sum(right * mask)
        counts[f"{name}_count"] = jnp.sum(batch["cls_weights"] * mask)
    return counts
