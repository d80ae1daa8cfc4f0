"""The shape of a transformer, and the presets."""

import dataclasses

from safety_align.errors import InputError

REMAT_POLICIES = ("none", "full", "dots")


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """A decoder-only transformer of the Llama family, with or without the explicit safety signal.

    Attributes:
      vocab_size: V, entries of the token embedding; `[CLS]` is not one of them.
      width: D, the residual stream.
      layers: L.
      heads: H, query heads.
      kv_heads: K, key/value heads; divides `heads` (grouped-query attention).
      head_dim: per-head size, even (RoPE rotates pairs).
      mlp_width: F, hidden size of SwiGLU.
      rope_theta: base of the rotary frequencies.
      norm_eps: epsilon of RMSNorm.
      tied_embeddings: the LM head is the embedding, transposed.
      safety_signal: has the `[CLS]` embedding and the safety head (three arrays beside an untouched LM).
      dtype: activations, "float32" or "bfloat16"; norms, softmax and losses are always float32.
      param_dtype: stored parameters.
      remat: what the backward pass recomputes: "none", "full" (whole blocks), "dots" (all but matmuls).
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
    norm_eps: float = 1e-5
    tied_embeddings: bool = False
    safety_signal: bool = True
    dtype: str = "float32"
    param_dtype: str = "float32"
    remat: str = "none"
    scan_layers: bool = True

    def __post_init__(self):
        for name in ("vocab_size", "width", "layers", "heads", "kv_heads", "head_dim", "mlp_width"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise InputError(f"model.{name} must be a positive integer, got {value!r}")
        if self.heads % self.kv_heads:
            raise InputError(f"model.heads ({self.heads}) must be a multiple of model.kv_heads ({self.kv_heads})")
        if self.head_dim % 2:
            raise InputError(f"model.head_dim ({self.head_dim}) must be even: RoPE rotates pairs")
        if self.remat not in REMAT_POLICIES:
            raise InputError(f"model.remat {self.remat!r} is not one of {', '.join(REMAT_POLICIES)}")
        for name in ("dtype", "param_dtype"):
            if getattr(self, name) not in ("float32", "bfloat16"):
                raise InputError(f"model.{name} {getattr(self, name)!r} is not float32 or bfloat16")
        for name in ("rope_theta", "norm_eps"):
            if not getattr(self, name) > 0:
                raise InputError(f"model.{name} must be positive, got {getattr(self, name)!r}")


PRESETS = {
    # For tests: compiles in a second.
    "tiny": dict(vocab_size=97, width=32, layers=2, heads=4, kv_heads=2, head_dim=8, mlp_width=48, tied_embeddings=True),
    # For the quickstart: trains in about a minute on two cores.
    "mini": dict(vocab_size=2048, width=128, layers=4, heads=4, kv_heads=2, head_dim=32, mlp_width=352, tied_embeddings=True),
    # 5.1 M parameters: trains on real data in about an hour on two cores.
    "small": dict(vocab_size=8192, width=256, layers=4, heads=8, kv_heads=4, head_dim=32, mlp_width=704, tied_embeddings=True),
    # 100.7 M parameters, for benchmarks.
    "base": dict(vocab_size=16384, width=768, layers=14, heads=12, kv_heads=4, head_dim=64, mlp_width=2048, tied_embeddings=True),
    "llama2_7b": dict(
        vocab_size=32000, width=4096, layers=32, heads=32, kv_heads=32, head_dim=128, mlp_width=11008, dtype="bfloat16"
    ),
    "llama3_8b": dict(
        vocab_size=128256, width=4096, layers=32, heads=32, kv_heads=8, head_dim=128, mlp_width=14336,
        rope_theta=500_000.0, dtype="bfloat16",
    ),
    "mistral_7b": dict(
        vocab_size=32000, width=4096, layers=32, heads=32, kv_heads=8, head_dim=128, mlp_width=14336, dtype="bfloat16"
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
