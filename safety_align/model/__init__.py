"""tokens → (logits, safety logits, cache). Knows nothing of decoding strategies."""

from safety_align.model.cache import Cache, Write
from safety_align.model.config import PRESETS, RopeScaling, TransformerConfig, preset
from safety_align.model.readout import SignalConfig
from safety_align.model.signal import add_signal, fresh_signal
from safety_align.model.transformer import (
    Output,
    SafetyTransformer,
    abstract_params,
    for_decoding,
    init_params,
    stack_layers,
    unroll,
    unstack_layers,
)

__all__ = [
    "PRESETS", "Cache", "Output", "RopeScaling", "SafetyTransformer", "SignalConfig", "TransformerConfig", "Write", "abstract_params",
    "add_signal", "for_decoding", "fresh_signal", "init_params", "preset", "stack_layers", "unroll", "unstack_layers",
]  # fmt: skip
