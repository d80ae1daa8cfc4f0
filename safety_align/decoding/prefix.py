"""A long beginning that all prompts of a group share (a system prompt, a many-shot attack) is read once, and copied to each row.

Prompts stand at the right of their slots, so that the first slots of every row hold nothing but the beginning, or padding: the first
pass leaves these out, and reads the rest over their keys, values and scores. Of `[CLS]` rows among the tokens, of probes, and without
a gate; a signal of rows beside the tokens reads whole rows.
"""

import functools
from collections.abc import Sequence

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from safety_align.decoding.decoder import Decoder
from safety_align.decoding.requests import Encoded
from safety_align.model import Cache, SafetyTransformer, TransformerConfig, Write
from safety_align.model.watch import used_checks, watch
from safety_align.routing import IGNORED, Routing, causal_mask, check_reads, cls_mask, in_sliding_window

PARTS = 8
"""Of the prompt's slots, of which a part is read or left out: so many programs for each bucket of prompts at most."""

MOST_SCORES = 2**29
"""Bytes of the scores and the mask of a rest, which are all in memory at once; a row that is read whole goes in parts."""


@flax.struct.dataclass
class Prefix:
    """cache: of one row, whose slots hold the beginning's tokens from the first on. left_out: static, the slots of a prompt, from the
    first on, that hold nothing else in any row."""

    cache: Cache
    left_out: int = flax.struct.field(pytree_node=False)

    def rows(self, before: jax.Array) -> Cache:
        """The cache of the slots left out, of rows that begin with `before` [B] slots of padding; what is in these means nothing."""
        at = jnp.maximum(jnp.arange(self.left_out) - before[:, None], 0)
        return jax.tree.map(lambda x: jnp.moveaxis(x[0][:, at], 1, 0), self.cache)


def can_share(decoder: Decoder, encoded: Sequence[Encoded]) -> bool:
    """Whether the rest of a prompt can be read apart from its beginning."""
    return (not decoder.beside or decoder.probes) and all(one.request.soft is None for one in encoded)


def shared(encoded: Sequence[Encoded], slots: int) -> tuple[int, int]:
    """(how many first tokens all prompts share, how many of `slots` slots can be left out for it); (0, 0) where they share less than a
    part of the slots: padding alone is no beginning."""
    shortest = min(len(one.prompt.ids) for one in encoded) - 1  # the last token is read in its row
    same = np.stack([one.prompt.ids[:shortest] for one in encoded])
    differ = np.flatnonzero((same != same[:1]).any(0))
    count = int(differ[0]) if differ.size else shortest
    part = slots // PARTS
    if count < part:
        return 0, 0
    rest = max(len(one.prompt.ids) for one in encoded) - count
    return count, slots - -(-rest // part) * part


def fits(decoder: Decoder, rows: int, left_out: int) -> bool:
    """Whether the rest of `rows` rows may be read at once: of each the prompt's, `[CLS]`, the prefilled answer, and a `[CLS]` for each of
    its windows at most."""
    slots = decoder.layout.prompt + 1 + 2 * decoder.layout.prefill
    return rows * slots * (4 * decoder.model.heads * (slots - left_out) + slots) <= MOST_SCORES


def read_once(decoder: Decoder, params, ids: np.ndarray, left_out: int) -> Prefix:
    """The prefix whose tokens are `ids`."""
    part = decoder.layout.prompt // PARTS
    tokens = np.pad(ids, (0, -len(ids) % part))[None].astype(np.int32)
    return Prefix(_read(decoder, params, tokens), left_out)


@functools.partial(jax.jit, static_argnums=0)
def _read(decoder: Decoder, params, tokens: jax.Array) -> Cache:
    """Of tokens [1, C]. Nothing sees what stands behind it, padding too."""
    ones = jnp.ones(tokens.shape, jnp.int32)
    routing = Routing(ones, ones > 1, jnp.full((1, 1), IGNORED), jnp.zeros((1, 1, 2), jnp.int32))  # no check
    positions = jnp.cumsum(ones, axis=1)
    return cache_of(decoder.model, params, tokens, positions, routing, decoder.probes)


def cache_of(
    config: TransformerConfig, params: dict, tokens: jax.Array, positions: jax.Array, routing: Routing, probes: bool
) -> Cache:
    """What rows of tokens [B, S] or vectors [B, S, D] leave for what is read behind them; `probes`: with a probe's scores."""
    if probes:
        return watch(config, params, tokens, positions, routing, whole=True).cache
    return SafetyTransformer(config).apply({"params": params}, tokens, positions, routing, method="hidden")[1]


def read_rest(
    config: TransformerConfig, params: dict, cache: Cache, tokens: jax.Array, positions: jax.Array, routing: Routing
) -> tuple[jax.Array, jax.Array, Cache]:
    """Hidden states [B, N, D] of the last N slots, whose tokens [B, N] or vectors [B, N, D] are given, the safety logits [B, M] of the
    row's checks, and the cache of all slots.

    cache: of the first S - N slots of each row, or of one row for all; positions [B, S], routing: of whole rows.
    """
    (rows, new), first = tokens.shape[:2], cache.slots
    cache = jax.tree.map(lambda x: jnp.broadcast_to(x, (rows, *x.shape[1:])), cache.arrange([slice(None), new]))
    mask = row_mask(config, positions, routing)[:, first:]
    writes, model = [Write(slice(0, new), first)], SafetyTransformer(config)
    arguments = (tokens, positions[:, first:], cache, writes, mask)
    hidden, _, cache = model.apply({"params": params}, *arguments, method="extend")
    if cache.scores is None:
        # Every check stands in the rest.
        there = routing.replace(cls_index=jnp.where(used_checks(routing), routing.cls_index - first, new))
        return hidden, model.apply({"params": params}, hidden, there, method="read_checks"), cache
    logits = model.apply({"params": params}, cache, check_reads(routing), method="pooled")
    return hidden, jnp.where(used_checks(routing), logits, 0.0), cache


def row_mask(config: TransformerConfig, positions: jax.Array, routing: Routing) -> jax.Array:
    """[B, S, S] bool: who attends to whom in whole rows, `[CLS]` rows among the others where they are."""
    mask = causal_mask(routing.segments)
    if config.sliding_window is not None:
        mask &= in_sliding_window(positions[:, :, None], positions[:, None, :], config.sliding_window)
    if not config.signal.in_stream:
        return mask
    put = jax.vmap(lambda row, at, new: row.at[at].set(new, mode="drop"))
    return put(mask, routing.cls_index, cls_mask(routing))
