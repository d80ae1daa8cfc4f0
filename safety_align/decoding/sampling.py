"""Drawing the next token, each row with its own settings and its own random stream.

Whatever the numbers are, the most likely token can be drawn and one of no probability cannot.
"""

import jax
import jax.numpy as jnp

from safety_align.decoding.config import TEMPERATURES


def sample(logits: jax.Array, temperature: jax.Array, top_k: jax.Array, top_p: jax.Array, seeds, step) -> jax.Array:
    """Next tokens [B] int32.

    Args:
      logits: [B, V] float32; NaN counts as -inf.
      temperature: [B]; 0 is greedy.
      top_k: [B] int32; 0 keeps all.
      top_p: [B] in (0, 1].
      seeds: [B] uint32, one stream a row: a row draws the same tokens whoever its neighbours are.
      step: [B], or a scalar; each step folds into the seed.
    """
    # Finite, so that differences from the best are 0 for the best and never NaN.
    logits = jnp.nan_to_num(logits, nan=jnp.finfo(logits.dtype).min)
    greedy = jnp.argmax(logits, axis=-1).astype(jnp.int32)

    def draw(_):
        below_best = logits - jnp.max(logits, axis=-1, keepdims=True)
        scaled = below_best / jnp.clip(temperature, *TEMPERATURES)[:, None]
        # Sorting the vocabulary is dear: over 150,000 tokens dearer, on a CPU, than the model's own step.
        filters = jnp.any((temperature > 0) & ((top_k > 0) | ~(top_p >= 1)))
        scaled = jax.lax.cond(filters, lambda x: filter_logits(x, top_k, top_p), lambda x: x, scaled)
        steps = jnp.broadcast_to(step, seeds.shape)
        keys = jax.vmap(lambda seed, step: jax.random.fold_in(jax.random.key(seed), step))(seeds, steps)
        noise = jax.vmap(lambda key: jax.random.gumbel(key, logits.shape[1:]))(keys)
        return jnp.where(temperature > 0, jnp.argmax(scaled + noise, axis=-1).astype(jnp.int32), greedy)

    # Batches without a sampling row skip all of it at run time.
    return jax.lax.cond(jnp.any(temperature > 0), draw, lambda _: greedy, None)


def filter_logits(logits: jax.Array, top_k: jax.Array, top_p: jax.Array) -> jax.Array:
    """logits [B, V], none NaN or +inf, with everything outside top-k, then outside the nucleus of what is left, at -inf.

    Ties with the last kept token are kept. The nucleus is the smallest set whose probability reaches top_p; the most
    likely token is always in it.
    """
    vocab = logits.shape[-1]
    ordered = -jnp.sort(-logits, axis=-1)
    limit = jnp.where(top_k > 0, jnp.minimum(top_k, vocab), vocab)
    place = jnp.arange(vocab)
    inside_k = place < limit[:, None]
    probabilities = jax.nn.softmax(jnp.where(inside_k, ordered, -jnp.inf), axis=-1)
    # A token is in the nucleus if what stands before it has not reached top_p yet.
    before = jnp.cumsum(probabilities, axis=-1) - probabilities
    inside = inside_k & ((before < top_p[:, None]) | (top_p[:, None] >= 1) | (place == 0))
    floor = jnp.min(jnp.where(inside, ordered, jnp.inf), axis=-1, keepdims=True)
    return jnp.where(logits >= floor, logits, -jnp.inf)
