"""Safety alignment with an explicit safety signal: the pieces to reuse.

The model and its routing, the gated decoder, the training objective. Pure functions, linen modules and frozen
dataclasses; importing them reads no file and keeps no global state. Each is imported when it is first asked for, so that
what needs no jax does not wait for it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safety_align.bundle import Bundle
    from safety_align.decoding import Decoder, GateConfig, Generator, Layout, Request, Result, Sampling, decode, prefill
    from safety_align.errors import InputError
    from safety_align.model import SafetyTransformer, TransformerConfig, abstract_params, init_params, preset
    from safety_align.placement import Batch, RowShape, Segment
    from safety_align.routing import Check, Kind, Routing, RoutingConfig
    from safety_align.training.losses import cls_loss, lm_loss
    from safety_align.training.objective import Objective

_WHERE = {
    "bundle": ("Bundle",),
    "decoding": (
        "Decoder", "GateConfig", "Generator", "Layout", "Request", "Result", "Sampling", "decode", "prefill",
    ),
    "errors": ("InputError",),
    "model": ("SafetyTransformer", "TransformerConfig", "abstract_params", "init_params", "preset"),
    "placement": ("Batch", "RowShape", "Segment"),
    "routing": ("Check", "Kind", "Routing", "RoutingConfig"),
    "training.losses": ("cls_loss", "lm_loss"),
    "training.objective": ("Objective",),
}  # fmt: skip

__all__ = [
    "Batch",
    "Bundle",
    "Check",
    "Decoder",
    "GateConfig",
    "Generator",
    "InputError",
    "Kind",
    "Layout",
    "Objective",
    "Request",
    "Result",
    "Routing",
    "RoutingConfig",
    "RowShape",
    "SafetyTransformer",
    "Sampling",
    "Segment",
    "TransformerConfig",
    "abstract_params",
    "cls_loss",
    "decode",
    "init_params",
    "lm_loss",
    "prefill",
    "preset",
]


def __getattr__(name: str) -> Any:
    for module, names in _WHERE.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
