"""A safety signal beside a frozen language model: two streams in one pass (docs/method.md section 11).

The language model's tokens go first through each layer, forward only, as if there were no `[CLS]`; the checks go beside
them, over the keys and values of the content that they read. Nothing of the language model depends on a check, so that
its outputs stay what they are to the bit, and a gradient touches the checks' own rows alone. What is read no deeper than
layer k runs no deeper than layer k, unless the whole language model is wanted.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from safety_align.errors import InputError
from safety_align.model.attention import in_parts, rotary_angles
from safety_align.model.cache import Cache, LayerCache
from safety_align.model.config import TransformerConfig
from safety_align.model.layers import Block, RMSNorm
from safety_align.model.readout import Adapter, pool_members, probe_features, probe_scores, split_signal
from safety_align.model.transformer import SafetyTransformer
from safety_align.routing import CLS_TOKEN, Routing, check_reads


class Watched(NamedTuple):
    """members: safety logits of each member of a probe [B, M, E], of another kind E is 1, 0 in unused slots; of a probe what it
    reads, `states` [B, S, n, D], else None; of the whole language model also its final normed hidden states [B, S, D] and
    its cache, else None."""

    members: jax.Array
    states: jax.Array | None = None
    hidden: jax.Array | None = None
    cache: Cache | None = None

    @property
    def safety_logits(self) -> jax.Array:
        """[B, M], 0 in unused slots."""
        return jnp.mean(self.members, axis=-1)


def watch(
    config: TransformerConfig,
    params: dict,
    tokens: jax.Array,
    positions: jax.Array,
    routing: Routing,
    whole: bool = False,
) -> Watched:
    """The checks of whole rows; arguments as of `SafetyTransformer.__call__`. Slots of `[CLS]` are padding to the tokens;
    where vectors [B, S, D] are given in place of tokens every slot is a token's, and gradients reach the vectors.

    `whole`: run the language model to its end, and return what it has; layers must be unrolled then.
    """
    if whole and config.scan_layers:
        raise InputError(
            "the cache of a whole model needs unrolled layers: scan_layers=False and unroll(config, params)"
        )
    signal, plain = split_signal(params)
    plain = jax.lax.stop_gradient(plain)
    model = SafetyTransformer(config)
    segments, none = routing.segments, jnp.zeros((len(tokens), 0), jnp.int32)
    soft = tokens.ndim == 3
    stop = (lambda x: x) if soft else jax.lax.stop_gradient
    own = segments if soft else jnp.where(tokens == CLS_TOKEN, -jnp.abs(segments), segments)
    lm_routing = Routing(own, routing.content, none, jnp.zeros((len(tokens), 0, 2), jnp.int32))
    x = stop(model.apply({"params": params}, tokens, method="embed"))
    angles = rotary_angles(positions, config)
    block, depths = Block(config), config.signal.depths_of(config.layers)

    def at(i) -> dict:
        if config.scan_layers:
            return jax.tree.map(lambda p: jax.lax.dynamic_index_in_dim(p, i, keepdims=False), plain["layers"]["block"])
        return plain[f"layer_{i}"]

    def layer(i, x):
        return block.apply({"params": at(i)}, x, angles, lm_routing, positions)

    def normed(x, depth):
        if depth == config.layers:
            return RMSNorm(config).apply({"params": plain["final_norm"]}, x)
        return block.apply({"params": at(depth)}, x, method="normed")

    if config.signal.kind == "probe":
        rows, states = None, []
    else:
        reads, used = check_reads(routing), used_checks(routing)
        rows = jnp.broadcast_to(signal["cls_embedding"], (*used.shape, config.width)).astype(x.dtype)
        zero = rotary_angles(jnp.zeros(used.shape, jnp.int32), config)  # [CLS] has position id 0

    def beside(rows, tokens: LayerCache, i, adapter: Adapter | None):
        # Recomputed in the backward pass from what it reads; and the layer's weights, which it takes from all layers' by
        # their number, are not kept once more for each layer.
        @jax.checkpoint
        def one(rows, tokens, adapter):
            return block.apply({"params": at(i)}, rows, zero, tokens, reads, adapter, method="beside")

        return one(rows, tokens, adapter)

    def through(begin, end, x, rows, layers):
        """Layers begin … end - 1."""
        if config.scan_layers:

            def one(carry, inputs):
                (x, rows), (i, adapter) = carry, inputs
                x, own = layer(i, x)
                return (x, None if rows is None else beside(rows, own, i, adapter)), None

            adapters = Adapter.of(signal, slice(begin, end))
            (x, rows), _ = jax.lax.scan(one, (x, rows), (jnp.arange(begin, end), adapters))
            return x, rows
        for i in range(begin, end):
            x, own = layer(i, x)
            layers.append(own)
            if rows is not None:
                rows = beside(rows, own, i, Adapter.of(signal, i))
        return x, rows

    logits, layers, begin = 0.0, [], 0
    for number, depth in enumerate(depths):
        x, rows = through(begin, depth, x, rows, layers)
        begin = depth
        if rows is None:
            states.append(stop(normed(x, depth)))
        else:
            logits += model.apply({"params": params}, normed(rows, depth), number, method="safety_logit")
    if rows is None:
        states = jnp.stack(states, axis=2)
        scores = state_scores(signal, states)
        found = Watched(probe_logits(signal, scores, routing), states)
    else:
        scores, found = None, Watched(jnp.where(used, logits, 0.0)[..., None])
    if not whole:
        return found
    x, _ = through(begin, config.layers, x, None, layers)
    cache = Cache(tuple(layers), None if scores is None else scores[:, None])
    return found._replace(hidden=normed(x, config.layers), cache=cache)


def used_checks(routing: Routing) -> jax.Array:
    """Which checks there are, [B, M]."""
    return routing.cls_index < routing.segments.shape[1]


def state_scores(signal: dict, states: jax.Array) -> jax.Array:
    """A probe's scores [B, S, 2 E J] of the normed hidden states that it reads, [B, S, n, D] (`Watched.states`)."""
    return probe_scores(signal, [probe_features(signal, i, states[:, :, i]) for i in range(states.shape[2])])


def probe_logits(signal: dict, scores: jax.Array, routing: Routing) -> jax.Array:
    """Scores [B, S, 2 E J] → safety logits of each member [B, M, E], 0 in unused slots."""
    logits = in_parts(lambda part: pool_members(signal, scores, part), check_reads(routing))
    return jnp.where(used_checks(routing)[..., None], logits, 0.0)
