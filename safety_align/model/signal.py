"""The safety signal as parameters of its own, beside a language model."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from safety_align.errors import InputError
from safety_align.model.config import TransformerConfig
from safety_align.model.readout import split_signal
from safety_align.model.transformer import init_params


def add_signal(config: TransformerConfig, params: dict, key: jax.Array) -> tuple[TransformerConfig, dict]:
    """A plain model with a fresh safety signal of the kind `config.signal`, beside untouched parameters [ours].

    The `[CLS]` embedding is drawn with the mean and spread of the token embeddings, so that a response that sees it sees
    nothing out of the ordinary; the head is zero: every verdict starts at 0.5 and sends no gradient into the model.
    """
    if config.safety_signal:
        raise InputError("this model has a safety signal already")
    config = dataclasses.replace(config, safety_signal=True)
    fresh = fresh_signal(config, key)
    if "cls_embedding" in fresh:
        wide = params["embedding"].astype(jnp.float32)
        drawn = jax.random.normal(key, (config.width,), jnp.float32)
        fresh["cls_embedding"] = wide.mean(0) + wide.std(0) * drawn
    return config, params | fresh


def fresh_signal(config: TransformerConfig, key: jax.Array) -> dict[str, jax.Array]:
    """The signal's part of `init_params`, unboxed; the rest of the initialisation is dead code to the compiler."""
    return jax.jit(lambda key: split_signal(nn.unbox(init_params(config, key)))[0])(key)
