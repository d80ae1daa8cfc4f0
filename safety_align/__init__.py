"""Safety alignment with an explicit safety signal: the pieces to reuse.

The model and its routing, the gated decoder, the training objective. Pure functions, linen modules and frozen
dataclasses; importing them reads no file and keeps no global state.
"""

from safety_align.bundle import Bundle
from safety_align.decoding import Decoder, GateConfig, Generator, Layout, Request, Result, Sampling, decode, prefill
from safety_align.errors import InputError
from safety_align.model import SafetyTransformer, TransformerConfig, abstract_params, init_params, preset
from safety_align.routing import Check, Kind, Routing, RoutingConfig, Segment, place
from safety_align.training.losses import cls_loss, lm_loss

__all__ = [
    "Bundle",
    "Check",
    "Decoder",
    "GateConfig",
    "Generator",
    "InputError",
    "Kind",
    "Layout",
    "Request",
    "Result",
    "Routing",
    "RoutingConfig",
    "SafetyTransformer",
    "Sampling",
    "Segment",
    "TransformerConfig",
    "abstract_params",
    "cls_loss",
    "decode",
    "init_params",
    "lm_loss",
    "place",
    "prefill",
    "preset",
]
