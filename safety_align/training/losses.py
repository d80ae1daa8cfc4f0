"""L_lm and L_cls (docs/method.md section 4), each a mean over what it covers; `objective.Objective` adds them up."""

import flax.struct
import jax
import jax.numpy as jnp

from safety_align import sharding
from safety_align.model.kernels import einsum32
from safety_align.placement import Batch
from safety_align.routing import Kind


@flax.struct.dataclass
class Totals:
    """What a microbatch must be divided by so that accumulated losses are means over the whole batch.

    lm: trained response tokens; cls: weighted checks; pairs: preference pairs; all at least 1.
    """

    lm: jax.Array
    cls: jax.Array
    pairs: jax.Array

    @classmethod
    def of(cls, batch: Batch) -> "Totals":
        """Totals of a whole batch."""
        return cls(*(jnp.maximum(jnp.sum(w), 1.0) for w in (batch.loss_weights, batch.cls_weights, batch.pair_weights)))


LOGITS_LENGTH = 512
"""Slots of a row whose logits are in memory at once, unless asked otherwise."""


def lm_loss(
    hidden: jax.Array,
    head: jax.Array,
    targets: jax.Array,
    weights: jax.Array,
    total: jax.Array,
    logits_length: int = LOGITS_LENGTH,
) -> jax.Array:
    """Sum of weighted cross-entropies / total, float32; arguments as of `token_nats`, weights [B, S]."""
    return jnp.sum(token_nats(hidden, head, targets, logits_length) * weights) / total


def token_nats(hidden: jax.Array, head: jax.Array, targets: jax.Array, logits_length: int = LOGITS_LENGTH) -> jax.Array:
    """-log probability of each target [B, S], float32.

    hidden [B, S, D], final; head [D, V]; targets [B, S]. Of a row longer than `logits_length`, logits never exist as a
    whole [B, S, V]: they are made that many slots at a time, in the backward pass again.
    """
    batch, length = targets.shape
    whole = length - length % logits_length
    if length <= logits_length:
        return _nats(head, (hidden, targets))

    def part(x):
        return x.reshape(x.shape[0], -1, logits_length, *x.shape[2:]).swapaxes(0, 1)

    parts = [part(x[:, :whole]) for x in (hidden, targets)]
    nats = jax.lax.map(jax.checkpoint(lambda xs: _nats(head, xs)), parts)
    nats = nats.swapaxes(0, 1).reshape(batch, whole)
    if whole < length:
        rest = jax.checkpoint(_nats)(head, tuple(x[:, whole:] for x in (hidden, targets)))
        nats = jnp.concatenate([nats, rest], axis=1)
    return nats


def _nats(head: jax.Array, part) -> jax.Array:
    hidden, targets = part
    with jax.named_scope("lm_head"):
        hidden = sharding.constrain(hidden, sharding.LOSS_BATCH, sharding.LENGTH, None)
        head = sharding.constrain(head, None, sharding.HEAD_VOCAB)
        logits = einsum32("bsd,dv->bsv", hidden, head)
        logits = sharding.constrain(logits, sharding.LOSS_BATCH, sharding.LENGTH, sharding.HEAD_VOCAB)
        return cross_entropy(logits, targets)


def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """-log softmax(logits)[targets] in nats: logits [..., V] float32, targets [...] → [...]."""

    def by_index(logits, targets):
        return jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]

    def by_sum(logits, targets):
        """A sum over V: logits that are sharded along it stay where they are."""
        return jnp.sum(jnp.where(jnp.arange(logits.shape[-1]) == targets[..., None], logits, 0), axis=-1)

    # XLA's CPU backend makes the sum over V a pass of its own.
    chosen = jax.lax.platform_dependent(logits, targets, cpu=by_index, default=by_sum)
    return jax.nn.logsumexp(logits, axis=-1) - chosen


def cls_loss(safety_logits: jax.Array, labels: jax.Array, weights: jax.Array, total: jax.Array) -> jax.Array:
    """Sum of weighted binary cross-entropies / total, float32. Logits [B, M], or of several
    members [B, M, E], and arrays that go with them; label 1 is malicious."""
    losses = jax.nn.softplus(safety_logits) - labels * safety_logits
    return jnp.sum(losses * weights) / total


def safety_counts(safety_logits: jax.Array, batch: Batch) -> dict[str, jax.Array]:
    """Right and counted checks (sums, not means), for queries and for windows (everything else)."""
    right = ((safety_logits >= 0) == (batch.cls_labels > 0.5)).astype(jnp.float32) * batch.cls_weights
    query = (batch.cls_kinds == Kind.QUERY).astype(jnp.float32)
    counts = {}
    for name, mask in (("query", query), ("window", 1 - query)):
        counts[f"{name}_right"] = jnp.sum(right * mask)
        counts[f"{name}_count"] = jnp.sum(batch.cls_weights * mask)
    return counts
