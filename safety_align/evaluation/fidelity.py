"""How near a model whose weights were rounded (model/quantized.py) is to the model that it was: in what it thinks of given answers,
token by token, and in what it writes itself."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from safety_align.bundle import Bundle
from safety_align.data.examples import Example
from safety_align.decoding import Generator, Request
from safety_align.errors import InputError
from safety_align.model import SafetyTransformer, TransformerConfig
from safety_align.routing import Routing

SLOTS = 64
"""Rows are padded to a multiple of so many: few programs."""

LONGEST = 512
"""Tokens of a conversation that are read, at most: the scores of a whole vocabulary stand in memory for each."""


def fidelity(
    whole: Bundle,
    rounded: Bundle,
    examples: Sequence[Example],
    new_tokens: int = 64,
    batch_size: int = 8,
    progress: Callable[[int], None] | None = None,
) -> dict:
    """Two bundles of one model on one device, the second with rounded weights, on conversations with answers.

    Returns, of the tokens of the given answers (in nats): "kl" {"mean", "p99", "max"}, the divergence of the second model's next
    token from the first's; "same_top", the share at which both have the same likeliest token; "perplexity" {"whole",
    "rounded"}; "tokens". Of greedy answers of `new_tokens` to the same conversations: "greedy" {"n", "identical", "kept": mean
    share of the first model's tokens that stand before the first difference}. No signal is looked at.

    progress: called with 1 for each conversation that was read, and for each that was answered by either: three times each.
    Raises InputError where no answer fits.
    """
    parts = [found for example in examples if (found := _compared(whole, rounded, example, progress)) is not None]
    if not parts:
        raise InputError(f"none of {len(examples)} conversations has an answer within {LONGEST} tokens")
    kl, same, nats, nats_rounded = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    requests = [Request(example.turns) for example in examples]
    first, second = (
        Generator(bundle, "off").generate(requests, new_tokens, batch_size, progress) for bundle in (whole, rounded)
    )
    kept = [_before(a.token_ids, b.token_ids) for a, b in zip(first, second, strict=True)]
    return {
        "tokens": len(kl),
        "kl": {"mean": float(kl.mean()), "p99": float(np.percentile(kl, 99)), "max": float(kl.max())},
        "same_top": float(same.mean()),
        "perplexity": {"whole": math.exp(nats.mean()), "rounded": math.exp(nats_rounded.mean())},
        "greedy": {
            "n": len(kept),
            "identical": sum(share == 1 for share in kept),
            "kept": float(np.mean(kept)),
        },
    }


def _before(one: Sequence[int], other: Sequence[int]) -> float:
    """The share of an answer's tokens that stand before the first one in which the two differ."""
    if not (one or other):
        return 1.0
    same = next((i for i, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))
    return same / max(len(one), len(other))


def _compared(whole: Bundle, rounded: Bundle, example: Example, progress) -> tuple[np.ndarray, ...] | None:
    """Of each token of the answer: KL divergence, equal top, and nats by either; None for one that is too long, or empty."""
    prompt = whole.template.encode(whole.tokenizer, example.turns).ids
    answer = whole.template.encode_response(whole.tokenizer, example.response)
    if progress:
        progress(1)
    size = len(prompt) + len(answer)
    if not len(answer) or size > LONGEST:
        return None
    ids = np.zeros(-(-size // SLOTS) * SLOTS, np.int32)
    ids[:size] = *prompt, *answer
    configs = (_plain(bundle.model_config) for bundle in (whole, rounded))
    found = _compare(*configs, whole.params, rounded.params, ids)
    return tuple(np.asarray(column)[len(prompt) - 1 : size - 1] for column in found)


def _plain(config: TransformerConfig) -> TransformerConfig:
    return dataclasses.replace(config, safety_signal=False)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _compare(config: TransformerConfig, rounded: TransformerConfig, params, params_rounded, ids: jax.Array):
    """At each slot, of the token that comes next: (KL divergence, equal top, nats of the first model, of the second)."""
    ours, theirs = (_log_probabilities(*of, ids) for of in ((config, params), (rounded, params_rounded)))
    following = jnp.roll(ids, -1)[:, None]
    return (
        jnp.sum(jnp.exp(ours) * (ours - theirs), axis=-1),
        ours.argmax(-1) == theirs.argmax(-1),
        -jnp.take_along_axis(ours, following, axis=1)[:, 0],
        -jnp.take_along_axis(theirs, following, axis=1)[:, 0],
    )


def _log_probabilities(config: TransformerConfig, params, ids: jax.Array) -> jax.Array:
    positions = jnp.arange(1, len(ids) + 1)[None]
    none = jnp.zeros((1, 0), jnp.int32)
    # Padding stands behind the answer, where nothing reads it.
    routing = Routing(
        jnp.zeros((1, len(ids)), jnp.int32), jnp.ones((1, len(ids)), bool), none, jnp.zeros((1, 0, 2), jnp.int32)
    )
    return jax.nn.log_softmax(
        SafetyTransformer(config).apply({"params": params}, ids[None], positions, routing).logits[0]
    )
