"""The safety signal as parameters of its own, beside a language model."""

import dataclasses

import jax
import jax.numpy as jnp

from safety_align.errors import InputError
from safety_align.model.config import TransformerConfig
from safety_align.model.readout import draw_signal


def add_signal(config: TransformerConfig, params: dict, key: jax.Array) -> tuple[TransformerConfig, dict]:
    """A plain model with a fresh safety signal of the kind `config.signal`, beside untouched parameters [ours].

    The `[CLS]` embedding is drawn with the mean and spread of the token embeddings, so that a response that sees it sees
    nothing out of the ordinary; the head is zero: every verdict starts at 0.5 and sends no gradient into the model.
    """
    if config.safety_signal:
        raise InputError("this model has a safety signal already")
    fresh = draw_signal(config, key)
    if "cls_embedding" in fresh:
        wide = params["embedding"].astype(jnp.float32)
        drawn = jax.random.normal(key, (config.width,), jnp.float32)
        fresh["cls_embedding"] = wide.mean(0) + wide.std(0) * drawn
    return dataclasses.replace(config, safety_signal=True), params | fresh
