"""Rows that one request takes over from another while the rest go on: a suite's refusals end after a line, its answers do not.

A fresh row is read by the same first pass as any other, in a small batch of its own; then it replaces a row that has stopped,
all of it, cache and trace too. So nothing of its predecessor is left, and its neighbours never notice.
"""

import functools

import jax
import jax.numpy as jnp

from safety_align import sharding
from safety_align.decoding.decoder import Decoder
from safety_align.decoding.first_pass import start
from safety_align.decoding.state import DecodeState, PromptBatch
from safety_align.model import Cache

SHARES = 4
"""Parts of the rows that are refilled at once: more of them wait for less, and read prompts in smaller batches."""


@functools.partial(jax.jit, static_argnums=0)
def blank(decoder: Decoder, batch: PromptBatch) -> DecodeState:
    """The state of a `batch` without requests: no row runs."""
    cache = Cache.blank(decoder.model, len(batch.limit), decoder.layout.slots, scores=decoder.probes)
    return _apart(start(decoder, batch, cache))


@functools.partial(jax.jit, donate_argnums=0)
def take_over(
    state: DecodeState, batch: PromptBatch, fresh: DecodeState, requests: PromptBatch, rows: jax.Array
) -> tuple[DecodeState, PromptBatch]:
    """`state` and `batch` with the rows of `fresh`, just read from `requests`, in the places `rows` [k] int32; those of a place
    that there is none of are dropped."""
    fresh = fresh.replace(begun=jnp.full_like(fresh.begun, state.turn))

    def put(old, new):
        return old.at[rows].set(new, mode="drop") if old.ndim else old

    state, batch = jax.tree.map(put, (state, batch), (fresh, requests))
    return _apart(state), _rows_apart(batch)


def _apart(state: DecodeState) -> DecodeState:
    """Rows where the rules table has them, so that the loop moves nothing."""
    return _rows_apart(state.replace(cache=())).replace(cache=state.cache.placed())


def _rows_apart(tree):
    def one(x):
        return sharding.constrain(x, sharding.BATCH, *(None,) * (x.ndim - 1)) if x.ndim else x

    return jax.tree.map(one, tree)
