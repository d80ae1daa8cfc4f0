"""Training by low-rank changes (LoRA, Hu et al. 2021) as a gradient transformation: no model and no step knows of it.

Every matrix W of a block is W0 + A B, with A random and B zero at first. The chain rule gives the gradients of A and B from that of
W, the inner optimizer moves both, and W moves by the change of their product. So it saves no memory while it trains; it is here to
train as an attacker with adapters would (docs/threat_model.md), and the result is an ordinary model.
"""

import math

import flax.struct
import jax
import jax.numpy as jnp
import optax

AXES = {"wq": (1, 2), "wk": (1, 2), "wv": (1, 2), "wo": (2, 1), "gate": (1, 1), "up": (1, 1), "down": (1, 1)}
"""The matrices of a block: how many of the last axes go in, and how many come out. An axis before these is the layers'."""


@flax.struct.dataclass
class LowRankState:
    """factors: by a matrix's path, {"a": [L, in, r], "b": [L, r, out]}, L being 1 where layers are not stacked; inner: the inner
    optimizer's, of the factors."""

    factors: dict
    inner: optax.OptState


def low_rank(inner: optax.GradientTransformation, rank: int, seed: int = 0) -> optax.GradientTransformation:
    """Moves the matrices in `AXES` by products of two factors of `rank`, which `inner` optimises; everything else stays.

    A is drawn from `seed` with variance 1 / fan-in. Both factors have their matrix's dtype.
    """

    def init(params):
        factors = {}
        for i, (path, w) in enumerate(_matrices(params).items()):
            layers, into, out = _shape(path, w)
            key = jax.random.fold_in(jax.random.key(seed), i)
            a = jax.random.normal(key, (layers, into, rank), jnp.float32) / math.sqrt(into)
            factors[path] = {"a": a.astype(w.dtype), "b": jnp.zeros((layers, rank, out), w.dtype)}
        return LowRankState(factors, inner.init(factors))

    def update(gradients, state, params=None):
        of_factors = {}
        for path, gradient in _matrices(gradients).items():
            g = gradient.reshape(_shape(path, gradient))
            a, b = state.factors[path]["a"], state.factors[path]["b"]
            of_factors[path] = {"a": _product("lio,lro->lir", g, b), "b": _product("lir,lio->lro", a, g)}
        steps, inner_state = inner.update(of_factors, state.inner, state.factors)
        factors = optax.apply_updates(state.factors, steps)

        def change(path, gradient):
            path = jax.tree_util.keystr(path)
            if path not in factors:
                return jnp.zeros_like(gradient)
            old, new = state.factors[path], factors[path]
            # A'B' - AB without the difference of two near-equal products.
            moved = _product("lir,lro->lio", new["a"] - old["a"], new["b"])
            moved += _product("lir,lro->lio", old["a"], new["b"] - old["b"])
            return moved.reshape(gradient.shape)

        return jax.tree_util.tree_map_with_path(change, gradients), LowRankState(factors, inner_state)

    return optax.GradientTransformation(init, update)


def _matrices(tree) -> dict[str, jax.Array]:
    """The blocks' matrices by their path."""
    found = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path): w
        for path, w in found
        if str(path[0].key).startswith("layer") and path[-1].key in AXES
    }


def _shape(path: str, w: jax.Array) -> tuple[int, int, int]:
    """(layers, in, out) of the matrix at `path`."""
    into, out = AXES[path.rsplit("['", 1)[1][:-2]]
    first = w.ndim - into - out
    return math.prod(w.shape[:first]), math.prod(w.shape[first : first + into]), math.prod(w.shape[first + into :])


def _product(axes: str, *factors: jax.Array) -> jax.Array:
    return jnp.einsum(axes, *factors, precision=jax.lax.Precision.HIGHEST)
