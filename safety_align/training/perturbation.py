"""Adversarial training of the checks: queries whose token vectors are moved, within a radius, to where the checks err most [ours].

The moves are those of projected gradient ascent on L_cls, of all checks of a row (Madry et al. 2018), on the vectors of what a query's
check reads. Both classes are moved: a malicious query towards a benign verdict, a benign one towards a malicious verdict. The language
model's loss is taken there too.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from safety_align.bounds import number
from safety_align.fields import check_fields
from safety_align.placement import Batch
from safety_align.routing import Kind

MOST = 100
"""Steps of a perturbation, at most: they are unrolled."""


@dataclasses.dataclass(frozen=True)
class Perturbation:
    """How far and how often. Hashable.

    radius: the most that a vector moves, as a multiple of the root mean square length of the token embeddings; steps: gradients, each
    of which costs a forward and a backward pass. About half of the rows are moved, by their tokens, so that what is true of plain
    queries stays in view, and a row is moved or not whatever microbatch it is in.
    """

    radius: float = 0.5
    steps: int = 1

    def __post_init__(self):
        check_fields(self, "perturbation.", steps=1)
        number("perturbation.steps", self.steps, 1, MOST)
        number("perturbation.radius", self.radius, 1e-6, 100)


def moves(
    perturbation: Perturbation, embedding: jax.Array, vectors: jax.Array, batch: Batch, loss: Callable
) -> jax.Array:
    """What to add to `vectors` [B, S, D], in float32: 0 where it is not a moved row's query content.

    embedding [V, D]: the tokens'; `loss(vectors)` → what is to become large, a scalar. No gradient flows through the result.
    """
    table = embedding.astype(jnp.float32)
    reach = perturbation.radius * jnp.sqrt(jnp.mean(jnp.sum(table * table, axis=-1)))
    length = reach if perturbation.steps == 1 else 2 * reach / perturbation.steps
    where = moved(batch)[..., None]
    gradient = jax.grad(lambda moves: loss(vectors + moves.astype(vectors.dtype)))
    found = jnp.zeros(vectors.shape, jnp.float32)
    for _ in range(perturbation.steps):
        found = _within(reach, found + length * _unit(gradient(found)) * where)
    return jax.lax.stop_gradient(found)


def moved(batch: Batch) -> jax.Array:
    """[B, S] bool: content of a query that has a labelled check, in rows whose tokens' ids have an even sum."""
    slots, even = jnp.arange(batch.content.shape[1]), jnp.sum(batch.tokens, axis=1) % 2 == 0
    query = (batch.cls_kinds == Kind.QUERY) & (batch.cls_weights > 0)
    inside = (batch.cls_range[..., :1] <= slots) & (slots < batch.cls_range[..., 1:])  # [B, M, S]
    return jnp.any(inside & query[..., None], axis=1) & batch.content & even[:, None]


def _unit(vectors: jax.Array) -> jax.Array:
    """Each of length 1, or 0 where it is 0."""
    size = jnp.linalg.norm(vectors, axis=-1, keepdims=True)
    return jnp.where(size > 0, vectors / jnp.where(size > 0, size, 1), 0)


def _within(reach: jax.Array, vectors: jax.Array) -> jax.Array:
    """Each no longer than `reach`."""
    size = jnp.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors * jnp.minimum(1, reach / jnp.maximum(size, 1e-30))
