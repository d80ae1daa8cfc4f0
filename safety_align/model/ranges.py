"""Within which bounds the fields of a transformer's config are taken for what they say, wherever they come from."""

SIZES = {
    "vocab_size": 10**8, "width": 10**6, "layers": 10**4, "heads": 10**5, "kv_heads": 10**5, "head_dim": 10**5,
    "mlp_width": 10**7,
}  # fmt: skip
"""Fields that are sizes → the largest that is taken for one: ten times and more what any published model has."""

NORM_EPS = 1e-12, 1e-3
"""Bounds of `norm_eps`. A larger one outweighs the activations that it is added to: hidden states shrink to nothing,
and every verdict becomes the same benign constant. Published models have 1e-5 or 1e-6."""

ROPE_THETA = 2.0, 1e15
"""Bounds of `rope_theta`: at 1 all frequencies are one; the longest published contexts have some 1e10."""
