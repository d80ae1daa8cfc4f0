"""What the safety head reads: the kinds of read-out, and the arrays that each adds to a plain language model.

    row        the paper: the final state of `[CLS]` (docs/method.md section 2)
    row_deep   the state of `[CLS]` after several layers [ours]
    probe      no extra row: the content's own hidden states after several layers, pooled by attention [ours]

With `rank`, `[CLS]` passes through low-rank matrices of its own beside every projection, which no token passes through.
A row without them may stand in the language model's stream, where the answer attends to it. All other kinds stand beside
a language model that does not feel them (watch.py).
"""

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp

from safety_align.bounds import integer, shown
from safety_align.errors import InputError

KINDS = ("row", "row_deep", "probe")

PARTS = {"row_deep": (4, 10), "probe": (4, 8)}
"""Where a kind reads unless told otherwise: from the one to the other of these twelfths of the layers, every second of them."""


@dataclasses.dataclass(frozen=True)
class SignalConfig:
    """A read-out. Hashable.

    Attributes:
      kind: one of `KINDS`.
      rank: r, of the row-private adapters; 0: none. Of rows only.
      depths: after how many layers it reads; empty: as the kind does by default.
      heads: J, of a probe: poolings of a window.
      features: W, of a probe: features of a token at each depth.
      members: E, of a probe: so many probes in one, each with its own heads and features, from its own beginning and trained by
        its own loss; the logit is their mean. Of any other kind 1, whatever is given.
    """

    kind: str = "row"
    rank: int = 0
    depths: tuple[int, ...] = ()
    heads: int = 8
    features: int = 64
    members: int = 1

    def __post_init__(self):
        if self.kind not in KINDS:
            raise InputError(f"signal.kind {shown(self.kind)} is not one of {', '.join(KINDS)}")
        integer("signal.rank", self.rank, 0, 4096)
        integer("signal.heads", self.heads, 1, 1024)
        integer("signal.features", self.features, 1, 65536)
        integer("signal.members", self.members, 1, 64)
        if self.kind != "probe":
            object.__setattr__(self, "members", 1)
        if not isinstance(self.depths, list | tuple):
            raise InputError(f"signal.depths must be a list of layers, got {shown(self.depths)}")
        object.__setattr__(self, "depths", tuple(self.depths))  # a list, as read from JSON
        for depth in self.depths:
            integer("signal.depths", depth, 1, 10**4)
        if list(self.depths) != sorted(set(self.depths)):
            raise InputError(f"signal.depths {list(self.depths)} must rise")
        if self.rank and self.kind == "probe":
            raise InputError("signal.rank is of rows: a probe has no row that could pass through adapters")
        if self.depths and self.kind == "row":
            raise InputError('signal.depths are of "row_deep" and "probe": "row" reads the last layer')

    @property
    def in_stream(self) -> bool:
        """Whether `[CLS]` may stand among the language model's tokens: it passes through the same matrices."""
        return self.kind == "row" and not self.rank

    @property
    def scores(self) -> int:
        """Numbers that a probe keeps of a token, 2 E J."""
        return 2 * self.members * self.heads

    def depths_of(self, layers: int) -> tuple[int, ...]:
        """The depths in a model of so many layers (L); the last is as deep as the kind runs."""
        if self.kind == "row":
            return (layers,)
        if self.depths:
            if self.depths[-1] > layers:
                raise InputError(f"signal.depths {list(self.depths)} reach beyond the model's {layers} layers")
            return self.depths
        first, last = PARTS[self.kind]
        found = {max(1, round(layers * part / 12)) for part in range(first, last + 1, 2)}
        return tuple(sorted(found))


def is_signal(name: str) -> bool:
    """Whether a parameter, by its name at the top of the tree, is the safety signal's and not the language model's."""
    return name.startswith(("cls_", "safety_", "probe_", "adapter_"))


def split_signal(params: dict) -> tuple[dict, dict]:
    """(the safety signal's, the language model's) parameters, or anything else by their names."""
    signal = {name: value for name, value in params.items() if is_signal(name)}
    return signal, {name: value for name, value in params.items() if name not in signal}


def projections(config) -> dict[str, tuple[int, int]]:
    """Of each projection of a block, by its parameter's name: sizes in and out."""
    c = config
    queries, keys = c.heads * c.head_dim, c.kv_heads * c.head_dim
    return {
        "wq": (c.width, queries), "wk": (c.width, keys), "wv": (c.width, keys), "wo": (queries, c.width),
        "gate": (c.width, c.mlp_width), "up": (c.width, c.mlp_width), "down": (c.mlp_width, c.width),
    }  # fmt: skip


def signal_shapes(config) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the signal's arrays, float32, of a `TransformerConfig`. D width, n depths, k the last of them,
    r rank, F = n W features:

    cls_embedding [D], safety_kernel [D] or [n, D], safety_bias []; adapter_*_in [k, in, r], adapter_*_out [k, r, out];
    of a probe probe_in [n, D, E W], probe_in_bias [n, E W], probe_key and probe_value [F, E J], safety_bias.
    """
    signal, width = config.signal, config.width
    depths = signal.depths_of(config.layers)
    if signal.kind == "probe":
        n, features = len(depths), len(depths) * signal.features
        return {
            "probe_in": (n, width, signal.members * signal.features),
            "probe_in_bias": (n, signal.members * signal.features),
            "probe_key": (features, signal.members * signal.heads),
            "probe_value": (features, signal.members * signal.heads),
            "safety_bias": (),
        }
    kernel = (width,) if signal.kind == "row" else (len(depths), width)
    shapes = {"cls_embedding": (width,), "safety_kernel": kernel, "safety_bias": ()}
    if signal.rank:
        for name, (inside, outside) in projections(config).items():
            shapes[f"adapter_{name}_in"] = (depths[-1], inside, signal.rank)
            shapes[f"adapter_{name}_out"] = (depths[-1], signal.rank, outside)
    return shapes


DRAWN = {"cls_embedding": 0, "probe_in": 1, "probe_key": 0}
"""The axis of each drawn array by whose size its variance is divided; adapters' too are, by their inputs. What is not drawn
is zero: before training every verdict is 0.5, and sends no gradient into a language model."""


def fan_in_axis(name: str) -> int | None:
    """The axis of fan-in of a drawn array of the signal, None of one that starts at zero."""
    return 1 if name.startswith("adapter_") and name.endswith("_in") else DRAWN.get(name)


# --- adapters ---------------------------------------------------------------------------------------------------------


@flax.struct.dataclass
class Adapter:
    """The adapters of one layer, and which rows pass through them: those from `first` on of x [B, N, …]."""

    arrays: dict[str, jax.Array]
    first: int = flax.struct.field(pytree_node=False, default=0)

    @classmethod
    def of(cls, params: dict, layer: int | slice, first: int = 0) -> "Adapter | None":
        """Those of a layer in the signal's arrays `params`, or of several, stacked; None if it has none."""
        found = {name: value[layer] for name, value in params.items() if name.startswith("adapter_")}
        return cls(found, first) if found else None

    def add(self, name: str, x: jax.Array, y: jax.Array) -> jax.Array:
        """y [B, N, …], a projection of x [B, N, …], with the adapters' part in the rows that have one; other rows are
        left as they are, to the bit."""
        rows = x[:, self.first :].reshape(x.shape[0], x.shape[1] - self.first, -1)
        low = rows @ self.arrays[f"adapter_{name}_in"].astype(x.dtype)
        more = (low @ self.arrays[f"adapter_{name}_out"].astype(x.dtype)).reshape(y[:, self.first :].shape)
        return y + more if self.first == 0 else y.at[:, self.first :].add(more)


# --- probe ------------------------------------------------------------------------------------------------------------


def probe_features(params: dict, index: int, normed: jax.Array) -> jax.Array:
    """Hidden states [..., D] after depth number `index`, normed as the next layer reads them → features [..., E W]."""
    wide = normed.astype(jnp.float32)
    return jax.nn.gelu(_product32(wide, params["probe_in"][index]) + params["probe_in_bias"][index])


def probe_scores(params: dict, features: list[jax.Array]) -> jax.Array:
    """Features of all depths, each [..., E W] → [..., 2 E J], float32: of every pooling how much a token counts (log), and
    what it says. All that a later check needs of a token."""
    members, depths, (of_member, _) = _members(params), len(features), params["probe_key"].shape
    joined = jnp.stack(features, axis=-2)  # [..., n, E W]
    joined = joined.reshape(*joined.shape[:-1], members, -1).swapaxes(-2, -3)  # [..., E, n, W]
    joined = joined.reshape(*joined.shape[:-2], depths * joined.shape[-1])  # [..., E, F]
    both = jnp.stack([params["probe_key"], params["probe_value"]]).reshape(2, of_member, members, -1)
    found = jnp.einsum("...ef,sfej->...sej", joined, both, precision=jax.lax.Precision.HIGHEST)
    return found.reshape(*found.shape[:-3], -1)


def _members(params: dict) -> int:
    """E, from the arrays' sizes."""
    depths, _, features = params["probe_in"].shape
    return depths * features // params["probe_key"].shape[0]


def _product32(a: jax.Array, b: jax.Array) -> jax.Array:
    """In float32 where products of float32 matrices are of fewer bits by default."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def pool(params: dict, scores: jax.Array, reads: jax.Array) -> jax.Array:
    """Scores [B, T, 2 E J] and what each check reads [B, M, T] → safety logits [B, M], the members' mean."""
    return jnp.mean(pool_members(params, scores, reads), axis=-1)


def pool_members(params: dict, scores: jax.Array, reads: jax.Array) -> jax.Array:
    """Scores [B, T, 2 E J] and what each check reads [B, M, T] → safety logits of each member, [B, M, E]. A check that reads
    nothing has the logit that it had of no evidence, the bias."""
    keys, values = (part.swapaxes(1, 2)[:, None] for part in jnp.split(scores, 2, axis=-1))  # [B, 1, E J, T]
    reads = reads[:, :, None]
    keys = jnp.where(reads, keys, -1e30)
    weights = jnp.exp(keys - jnp.max(keys, axis=-1, keepdims=True)) * reads
    said = jnp.sum(weights * jnp.where(reads, values, 0), axis=-1) / jnp.maximum(jnp.sum(weights, axis=-1), 1e-30)
    return jnp.sum(said.reshape(*said.shape[:-1], _members(params), -1), axis=-1) + params["safety_bias"]
