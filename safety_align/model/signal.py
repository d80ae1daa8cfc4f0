"""The safety signal as parameters of its own, beside a language model."""

import dataclasses

import jax
import jax.numpy as jnp

from safety_align.errors import InputError
from safety_align.model.config import TransformerConfig


def add_signal(config: TransformerConfig, params: dict, key: jax.Array) -> tuple[TransformerConfig, dict]:
    """A plain model with a fresh safety signal: `[CLS]` embedding and head beside untouched parameters [ours].

    The embedding is drawn with the mean and spread of the token embeddings, so that a response that sees it sees
    nothing out of the ordinary; the head is zero: every verdict starts at 0.5 and sends no gradient into the model.
    """
    if config.safety_signal:
        raise InputError("this model has a safety signal already")
    wide = params["embedding"].astype(jnp.float32)
    drawn = wide.mean(0) + wide.std(0) * jax.random.normal(key, (config.width,), jnp.float32)
    fresh = {
        "cls_embedding": drawn,
        "safety_kernel": jnp.zeros(config.width, jnp.float32),
        "safety_bias": jnp.zeros((), jnp.float32),
    }
    return dataclasses.replace(config, safety_signal=True), params | fresh
