"""The shape of a transformer, and the presets."""

import dataclasses
import math

from safety_align.bounds import boolean, integer, number, shown
from safety_align.errors import InputError
from safety_align.model.huggingface_config import read_config
from safety_align.model.ranges import NORM_EPS, ROPE_THETA, SIZES
from safety_align.model.readout import SignalConfig

DTYPES = ("float32", "bfloat16")

REMAT_POLICIES = ("none", "full", "dots")

ATTENTION = ("auto", "dense", "chunked", "splash", "cudnn", "xla")

RUNTIME_FIELDS = ("safety_signal", "signal", "dtype", "param_dtype", "remat", "attention", "scan_layers")
"""Fields of `TransformerConfig` that say how a language model is computed, not which one it is."""

ROPE_KINDS = ("linear", "llama3", "yarn")


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """How rotary frequencies are stretched for contexts longer than the pretrained one.

    Attributes:
      kind: "linear" (all frequencies divided by `factor`), "llama3" or "yarn" (only the low ones; a blend in between).
      factor: how much longer, at least 1.
      low_frequency, high_frequency: turns within `original_length` up to which a frequency is stretched, and from which
        it is kept. None is 1 and 4 for "llama3", 1 and 32 for "yarn" (`beta_slow` and `beta_fast` there).
      original_length: the pretrained context, in tokens; of "llama3" and "yarn".
      attention_factor: of "yarn": what cosines and sines are multiplied by; None is `0.1 ln(factor) + 1`.
    """

    kind: str
    factor: float
    low_frequency: float | None = None
    high_frequency: float | None = None
    original_length: int = 8192
    attention_factor: float | None = None

    def __post_init__(self):
        if self.kind not in ROPE_KINDS:
            raise InputError(f"model.rope_scaling.kind {shown(self.kind)} is not one of {', '.join(ROPE_KINDS)}")
        number("model.rope_scaling.factor", self.factor, 1, 1e6)
        integer("model.rope_scaling.original_length", self.original_length, 1)
        defaults = {
            "low_frequency": 1.0,
            "high_frequency": 32.0 if self.kind == "yarn" else 4.0,
            "attention_factor": 0.1 * math.log(self.factor) + 1 if self.kind == "yarn" else 1.0,
        }
        for name, default in defaults.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)
            number(f"model.rope_scaling.{name}", getattr(self, name), 1e-3, 1e3)
        if not self.low_frequency < self.high_frequency:
            raise InputError(
                f"model.rope_scaling: low_frequency ({self.low_frequency}) must be below high_frequency "
                f"({self.high_frequency})"
            )
        if self.kind != "yarn" and self.attention_factor != 1:
            raise InputError(f"model.rope_scaling.attention_factor is of yarn only, not of {self.kind}")


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """A decoder-only transformer of the Llama family (Llama, Mistral, Qwen), with or without the safety signal.

    Attributes:
      vocab_size: V, entries of the token embedding; `[CLS]` is not one of them.
      width: D, the residual stream.
      layers: L.
      heads: H, query heads.
      kv_heads: K, key/value heads; divides `heads` (grouped-query attention).
      head_dim: per-head size, even (RoPE rotates pairs).
      mlp_width: F, hidden size of SwiGLU.
      rope_theta: base of the rotary frequencies.
      rope_scaling: how they are stretched, or None.
      sliding_window: tokens (itself included) that a token sees, or None for all before it; the signal is always seen.
      qkv_bias: query, key and value projections have a bias (Qwen 2).
      qk_norm: RMSNorm over each query and key head before RoPE (Qwen 3).
      norm_eps: epsilon of RMSNorm.
      tied_embeddings: the LM head is the embedding, transposed.
      safety_signal: has the safety signal, a few arrays beside an untouched LM.
      signal: what its head reads; without the signal it says nothing.
      dtype: activations, "float32" or "bfloat16"; norms, softmax and losses are always float32.
      param_dtype: stored parameters: "float32", "bfloat16"; "int8" of a model that is decoded only (quantized.py): its
        weights have a byte each, its other parameters are of `dtype`.
      remat: what the backward pass recomputes: "none", "full" (whole blocks), "dots" (all but matmuls).
      attention: backend of causal attention over whole rows, see kernels/; "auto" goes by the platform.
      scan_layers: one stacked set of block parameters under `lax.scan` (training) or one per layer (decoding).
    """

    vocab_size: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp_width: int
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    sliding_window: int | None = None
    qkv_bias: bool = False
    qk_norm: bool = False
    norm_eps: float = 1e-5
    tied_embeddings: bool = False
    safety_signal: bool = True
    signal: SignalConfig = SignalConfig()
    dtype: str = "float32"
    param_dtype: str = "float32"
    remat: str = "none"
    attention: str = "auto"
    scan_layers: bool = True

    def __post_init__(self):
        if isinstance(self.rope_scaling, dict):  # as read from JSON
            fields = {field.name for field in dataclasses.fields(RopeScaling)}
            if odd := sorted({"kind", "factor"} - self.rope_scaling.keys() | self.rope_scaling.keys() - fields):
                raise InputError(f"model.rope_scaling: field {odd[0]!r} is missing or unknown")
            object.__setattr__(self, "rope_scaling", RopeScaling(**self.rope_scaling))
        if not isinstance(self.rope_scaling, RopeScaling | None):
            raise InputError(f"model.rope_scaling must be a RopeScaling or None, got {shown(self.rope_scaling)}")
        if isinstance(self.signal, dict):
            fields = {field.name for field in dataclasses.fields(SignalConfig)}
            if odd := sorted(self.signal.keys() - fields):
                raise InputError(f"model.signal: field {odd[0]!r} is not one of {', '.join(sorted(fields))}")
            object.__setattr__(self, "signal", SignalConfig(**self.signal))
        if not isinstance(self.signal, SignalConfig):
            raise InputError(f"model.signal must be a SignalConfig, got {shown(self.signal)}")
        for name, most in SIZES.items():
            integer(f"model.{name}", getattr(self, name), 1, most)
        for name in ("qkv_bias", "qk_norm", "tied_embeddings", "safety_signal", "scan_layers"):
            boolean(f"model.{name}", getattr(self, name))
        number("model.norm_eps", self.norm_eps, *NORM_EPS)
        number("model.rope_theta", self.rope_theta, *ROPE_THETA)
        if self.sliding_window is not None:
            integer("model.sliding_window", self.sliding_window, 1)
        if self.signal.kind != "row":  # spelled out, so that a stored signal keeps to what it was trained with
            depths = self.signal.depths_of(self.layers)
            object.__setattr__(self, "signal", dataclasses.replace(self.signal, depths=depths))
        if self.heads % self.kv_heads:
            raise InputError(f"model.heads ({self.heads}) must be a multiple of model.kv_heads ({self.kv_heads})")
        if self.head_dim % 2:
            raise InputError(f"model.head_dim ({self.head_dim}) must be even: RoPE rotates pairs")
        if self.remat not in REMAT_POLICIES:
            raise InputError(f"model.remat {shown(self.remat)} is not one of {', '.join(REMAT_POLICIES)}")
        if self.attention not in ATTENTION:
            raise InputError(f"model.attention {shown(self.attention)} is not one of {', '.join(ATTENTION)}")
        for name, known in (("dtype", DTYPES), ("param_dtype", (*DTYPES, "int8"))):
            if getattr(self, name) not in known:
                raise InputError(f"model.{name} {shown(getattr(self, name))} is not one of {', '.join(known)}")
        if self.param_dtype == "int8" and self.scan_layers:
            raise InputError(
                'model.param_dtype int8 is of a model that is decoded, with scan_layers=False; load it with weights="int8"'
            )

    @property
    def float_dtype(self) -> str:
        """Of stored parameters that are floats."""
        return self.dtype if self.param_dtype == "int8" else self.param_dtype

    @classmethod
    def from_huggingface(cls, values: dict, **overrides) -> "TransformerConfig":
        """The config that a Hugging Face config.json (parsed: `values`) describes, without the safety signal.

        `overrides` are fields of this class. Raises InputError for an architecture, activation, RoPE type or field
        that this transformer does not implement.
        """
        return cls(**(read_config(values) | {"safety_signal": False} | overrides))


PRESETS = {
    # For tests: compiles in a second.
    "tiny": dict(vocab_size=97, width=32, layers=2, heads=4, kv_heads=2, head_dim=8, mlp_width=48, tied_embeddings=True),
    # For the quickstart: trains in about a minute on two cores.
    "mini": dict(vocab_size=2048, width=128, layers=3, heads=2, kv_heads=2, head_dim=64, mlp_width=352, tied_embeddings=True),
    # 5.1 M parameters: trains on real data in about an hour on two cores.
    "small": dict(vocab_size=8192, width=256, layers=4, heads=8, kv_heads=4, head_dim=32, mlp_width=704, tied_embeddings=True),
    # 100.7 M parameters, for benchmarks.
    "base": dict(vocab_size=16384, width=768, layers=14, heads=12, kv_heads=4, head_dim=64, mlp_width=2048, tied_embeddings=True),
    "llama2_7b": dict(
        vocab_size=32000, width=4096, layers=32, heads=32, kv_heads=32, head_dim=128, mlp_width=11008, dtype="bfloat16"
    ),
    "llama2_70b": dict(
        vocab_size=32000, width=8192, layers=80, heads=64, kv_heads=8, head_dim=128, mlp_width=28672, dtype="bfloat16"
    ),
    "llama3_8b": dict(
        vocab_size=128256, width=4096, layers=32, heads=32, kv_heads=8, head_dim=128, mlp_width=14336,
        rope_theta=500_000.0, dtype="bfloat16",
    ),
    "llama3_1_8b": dict(
        vocab_size=128256, width=4096, layers=32, heads=32, kv_heads=8, head_dim=128, mlp_width=14336,
        rope_theta=500_000.0, rope_scaling=RopeScaling("llama3", 8.0), dtype="bfloat16",
    ),
    "llama3_2_1b": dict(
        vocab_size=128256, width=2048, layers=16, heads=32, kv_heads=8, head_dim=64, mlp_width=8192,
        rope_theta=500_000.0, rope_scaling=RopeScaling("llama3", 32.0), tied_embeddings=True, dtype="bfloat16",
    ),
    "llama3_2_3b": dict(
        vocab_size=128256, width=3072, layers=28, heads=24, kv_heads=8, head_dim=128, mlp_width=8192,
        rope_theta=500_000.0, rope_scaling=RopeScaling("llama3", 32.0), tied_embeddings=True, dtype="bfloat16",
    ),
    # Mistral-7B v0.1 has sliding_window=4096; v0.2 and later attend to everything, with rope_theta=1e6.
    "mistral_7b": dict(
        vocab_size=32000, width=4096, layers=32, heads=32, kv_heads=8, head_dim=128, mlp_width=14336, dtype="bfloat16"
    ),
    "qwen2_5_0_5b": dict(
        vocab_size=151936, width=896, layers=24, heads=14, kv_heads=2, head_dim=64, mlp_width=4864, rope_theta=1_000_000.0,
        norm_eps=1e-6, qkv_bias=True, tied_embeddings=True, dtype="bfloat16",
    ),
    "qwen2_5_7b": dict(
        vocab_size=152064, width=3584, layers=28, heads=28, kv_heads=4, head_dim=128, mlp_width=18944,
        rope_theta=1_000_000.0, norm_eps=1e-6, qkv_bias=True, dtype="bfloat16",
    ),
    "qwen3_8b": dict(
        vocab_size=151936, width=4096, layers=36, heads=32, kv_heads=8, head_dim=128, mlp_width=12288,
        rope_theta=1_000_000.0, norm_eps=1e-6, qk_norm=True, dtype="bfloat16",
    ),
}  # fmt: skip


def preset(name: str, **overrides) -> TransformerConfig:
    """The named preset with `overrides`; unknown names and fields are `InputError`s."""
    if name not in PRESETS:
        raise InputError(f"model preset {name!r} is not one of {', '.join(PRESETS)}")
    fields = {field.name for field in dataclasses.fields(TransformerConfig)}
    if unknown := sorted(set(overrides) - fields):
        raise InputError(f"unknown model field {unknown[0]!r}; the fields are {', '.join(sorted(fields))}")
    return TransformerConfig(**{**PRESETS[name], **overrides})
