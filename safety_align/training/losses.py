"""The training objective (method.md section 4): L = L_lm + lambda_cls * L_cls, both means over what they cover."""

import flax.struct
import jax
import jax.numpy as jnp

from safety_align import sharding
from safety_align.model.kernels import einsum32
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


LOGITS_LENGTH = 512
"""Slots of a row whose logits are in memory at once."""


def lm_loss(hidden: jax.Array, head: jax.Array, targets: jax.Array, weights: jax.Array, total: jax.Array) -> jax.Array:
    """Sum of weighted cross-entropies / total, float32.

    hidden [B, S, D], final; head [D, V]; targets, weights [B, S]. Logits [B, S, V] never exist as a whole: of a row
    longer than `LOGITS_LENGTH` they are made a part at a time, in the backward pass again.
    """
    length = hidden.shape[1]
    whole = length - length % LOGITS_LENGTH
    if length <= LOGITS_LENGTH or not whole:
        return _nats(head, (hidden, targets, weights)) / total

    def part(x):
        return x.reshape(x.shape[0], -1, LOGITS_LENGTH, *x.shape[2:]).swapaxes(0, 1)

    parts = [part(x[:, :whole]) for x in (hidden, targets, weights)]
    nats = jnp.sum(jax.lax.map(jax.checkpoint(lambda xs: _nats(head, xs)), parts))
    if whole < length:
        nats += jax.checkpoint(_nats)(head, tuple(x[:, whole:] for x in (hidden, targets, weights)))
    return nats / total


def _nats(head: jax.Array, part) -> jax.Array:
    hidden, targets, weights = part
    with jax.named_scope("lm_head"):
        hidden = sharding.constrain(hidden, sharding.LOSS_BATCH, sharding.LENGTH, None)
        head = sharding.constrain(head, None, sharding.HEAD_VOCAB)
        logits = einsum32("bsd,dv->bsv", hidden, head)
        logits = sharding.constrain(logits, sharding.LOSS_BATCH, sharding.LENGTH, sharding.HEAD_VOCAB)
        return jnp.sum(cross_entropy(logits, targets) * weights)


def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """-log softmax(logits)[targets] in nats: logits [..., V] float32, targets [...] → [...]. Softmax and choice are sums
    over V, so logits sharded along it stay where they are."""
    highest = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    shifted = logits - highest
    chosen = jnp.sum(jnp.where(jnp.arange(logits.shape[-1]) == targets[..., None], shifted, 0), axis=-1)
    return jnp.log(jnp.sum(jnp.exp(shifted), axis=-1)) - chosen


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
