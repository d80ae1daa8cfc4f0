"""Tokens → (logits, safety logits): a Llama-family decoder with the explicit safety signal beside an untouched LM.

Axis legend in attention.py. The signal is a few small arrays (readout.py); in the paper's form the `[CLS]` embedding [D]
and a linear head [D] → 1 with a bias, read from the final hidden state of `[CLS]` (docs/method.md section 2).
"""

import dataclasses
import functools
from collections.abc import Sequence

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from safety_align import sharding
from safety_align.errors import InputError
from safety_align.model import quantized
from safety_align.model.attention import rotary_angles
from safety_align.model.cache import Cache, Write, apart
from safety_align.model.config import TransformerConfig
from safety_align.model.kernels import einsum32
from safety_align.model.layers import Block, RMSNorm, parameter
from safety_align.model.quantized import INT8, Int8Weight, Weight
from safety_align.model.readout import Adapter, fan_in_axis, pool, probe_features, probe_scores, signal_shapes
from safety_align.routing import CLS_TOKEN, Routing


@flax.struct.dataclass
class Output:
    """logits [B, S, V] float32; safety_logits [B, M] float32, positive means malicious, 0 in unused check slots;
    cache: keys and values of the S slots; None where layers are scanned."""

    logits: jax.Array
    safety_logits: jax.Array
    cache: Cache | None = None


class _Scanned(nn.Module):
    """One block in the form that `nn.scan` wants."""

    config: TransformerConfig

    @nn.compact
    def __call__(self, x, angles, routing, positions):
        policies = {"full": None, "dots": jax.checkpoint_policies.checkpoint_dots_with_no_batch_dims}
        block = Block
        if self.config.remat != "none":
            block = nn.remat(Block, policy=policies[self.config.remat], prevent_cse=False)
        return block(self.config, name="block")(x, angles, routing, positions)[0], None


class SafetyTransformer(nn.Module):
    """The model. `apply({"params": p}, tokens, positions, routing)` is pure.

    With `config.scan_layers` parameters are stacked [L, …] below "layers"; without it they are one subtree per layer,
    "layer_0" …, which is what decoding uses (`unstack_layers`).
    """

    config: TransformerConfig

    def setup(self):
        c = self.config
        normal = nn.initializers.normal(c.width**-0.5)
        self.embedding = parameter(self, "embedding", (c.vocab_size, c.width), (sharding.VOCAB, sharding.WIDTH), normal)
        if not c.tied_embeddings:
            self.lm_head = parameter(self, "lm_head", (c.width, c.vocab_size), (None, sharding.HEAD_VOCAB), normal)
        if c.safety_signal:
            # Zero where it is not drawn: before training every verdict is 0.5 and the head sends no gradient into the LM.
            self.signal = {
                name: self._signal(name, shape, _drawn(name, shape)) for name, shape in signal_shapes(c).items()
            }
        if c.scan_layers:
            scanned = nn.scan(
                _Scanned,
                variable_axes={"params": 0},
                split_rngs={"params": True},
                in_axes=nn.broadcast,
                length=c.layers,
                metadata_params={nn.PARTITION_NAME: sharding.LAYERS},
            )
            self.layers = scanned(c)
        else:
            self.blocks = [Block(c, name=f"layer_{i}") for i in range(c.layers)]
        self.final_norm = RMSNorm(c)

    def _signal(self, name: str, shape: tuple[int, ...], init) -> jax.Array:
        """A parameter of the signal: stored, and used, in float32 whatever the model's dtype is. These few numbers are
        trained by steps too small for bfloat16."""
        axes = (None,) * len(shape)
        return self.param(name, nn.with_logical_partitioning(init, axes), shape, jnp.float32)

    def embed(self, tokens: jax.Array) -> jax.Array:
        """Embeddings [B, S, D] of tokens [B, S]; `CLS_TOKEN` reads the `[CLS]` embedding. Vectors [B, S, D], soft tokens,
        are taken as they are."""
        if tokens.ndim == 3:
            return sharding.constrain(
                tokens.astype(self.config.dtype), sharding.BATCH, sharding.LENGTH, sharding.ACT_WIDTH
            )
        x = quantized.rows(self.embedding, jnp.maximum(tokens, 0), self.config.dtype)
        if self.config.safety_signal and "cls_embedding" in self.signal:
            # Broadcast before the cast, so that the gradient adds up over all copies in float32.
            signal = jnp.broadcast_to(self.signal["cls_embedding"], x.shape).astype(x.dtype)
            x = jnp.where((tokens == CLS_TOKEN)[..., None], signal, x)
        return sharding.constrain(x, sharding.BATCH, sharding.LENGTH, sharding.ACT_WIDTH)

    def lm_logits(self, hidden: jax.Array) -> jax.Array:
        """hidden [..., D] → next-token logits [..., V], float32."""
        with jax.named_scope("lm_head"):
            head = self.head()
            if isinstance(head, Int8Weight):
                return quantized.product32(hidden.reshape(-1, hidden.shape[-1]), head).reshape(*hidden.shape[:-1], -1)
            return einsum32("...d,dv->...v", hidden, head)

    def head(self) -> Weight:
        """The weight [D, V] from hidden states to next-token logits."""
        if self.config.tied_embeddings and isinstance(self.embedding, Int8Weight):
            return self.embedding  # its rows are the channels either way
        return self.embedding.T if self.config.tied_embeddings else self.lm_head

    def safety_logit(self, hidden: jax.Array, depth: int = 0) -> jax.Array:
        """hidden [..., D] of `[CLS]` rows after the depth of that number, normed → their part of the safety logits [...],
        float32; positive means malicious."""
        with jax.named_scope("safety_head"):
            kernel, bias = self.signal["safety_kernel"], self.signal["safety_bias"]
            kernel, bias = (kernel, bias) if kernel.ndim == 1 else (kernel[depth], bias / len(kernel))
            # A sum, not a product of matrices: that is done in bfloat16 on TPUs.
            return jnp.sum(hidden.astype(jnp.float32) * kernel, axis=-1) + bias

    def pooled(self, cache: Cache, reads: jax.Array) -> jax.Array:
        """A probe's safety logits [B, M] of checks that read slots [B, M, T] of the cache."""
        with jax.named_scope("safety_head"):
            return pool(self.signal, cache.scores[:, 0], reads)

    def normed(self, x: jax.Array, depth: int) -> jax.Array:
        """The residual stream x [B, N, D] after `depth` layers, normed as what comes next reads it; layers unrolled."""
        return self.final_norm(x) if depth == self.config.layers else self.blocks[depth].normed(x)

    def __call__(self, tokens: jax.Array, positions: jax.Array, routing: Routing) -> Output:
        """Whole rows.

        Args:
          tokens: [B, S] int32, `CLS_TOKEN` where `[CLS]` stands; or [B, S, D], vectors in their place, of which `embed`
            gives those of tokens and of `[CLS]`.
          positions: [B, S] int32 position ids (0 for `[CLS]`, then 1, 2, … per segment).
          routing: who attends to whom; fields [B, S] and [B, M].

        Raises InputError for a signal that stands beside the tokens.
        """
        if self.config.safety_signal and not self.config.signal.in_stream:
            raise InputError(
                f"a signal of kind {self.config.signal.kind!r} (rank {self.config.signal.rank}) does not stand among the tokens: "
                "model.watch.watch has its checks, and the language model's output beside them"
            )
        hidden, cache = self.hidden(tokens, positions, routing)
        logits = sharding.constrain(self.lm_logits(hidden), sharding.BATCH, sharding.LENGTH, sharding.ACT_VOCAB)
        return Output(logits, self.read_checks(hidden, routing), cache)

    def readout(self, tokens, positions, routing: Routing) -> tuple[jax.Array, jax.Array, jax.Array]:
        """What a loss needs: final hidden states [B, S, D], the head [D, V] (see `losses.lm_loss`), safety logits
        [B, M]; no logits."""
        hidden, _ = self.hidden(tokens, positions, routing)
        return hidden, quantized.matrix(self.head()), self.read_checks(hidden, routing)

    def read_checks(self, hidden: jax.Array, routing: Routing) -> jax.Array:
        """Safety logits [B, M] of the checks in hidden [B, S, D]; 0 in unused slots. Of a read-out beside the language
        model, which is not in these rows, all are 0: see watch.py."""
        if not (self.config.safety_signal and self.config.signal.in_stream):
            return jnp.zeros(routing.cls_index.shape, jnp.float32)
        size = hidden.shape[1]
        rows = jnp.take_along_axis(hidden, jnp.minimum(routing.cls_index, size - 1)[..., None], axis=1)
        return jnp.where(routing.cls_index < size, self.safety_logit(rows), 0.0)

    def hidden(self, tokens, positions, routing: Routing) -> tuple[jax.Array, Cache | None]:
        """Final normed hidden states [B, S, D], and the cache [B, K, S, E] a layer where layers are not scanned."""
        c = self.config
        x, angles = self.embed(tokens), rotary_angles(positions, c)
        if c.scan_layers:
            x, _ = self.layers(x, angles, routing, positions)
            return self.final_norm(x), None
        layers = []
        for block in self.blocks:
            x, layer = block(x, angles, routing, positions)
            layers.append(layer)
        return self.final_norm(x), Cache(tuple(layers))

    def extend(self, tokens, positions, cache: Cache, writes: Sequence[Write], mask, checks: int = 0):
        """`over`, with the rows' keys and values in the cache: (hidden states, safety logits, the cache)."""
        hidden, logits, new = self.over(tokens, positions, cache, writes, mask, checks)
        return hidden, logits, cache.write(new, writes)

    def over(
        self,
        tokens: jax.Array,
        positions: jax.Array,
        cache: Cache,
        writes: Sequence[Write],
        mask: jax.Array,
        checks: int = 0,
    ) -> tuple[jax.Array, jax.Array, Cache]:
        """A few new rows over a cache that is only read, layers unrolled: the decoder's step.

        All rows attend as if each had written its keys and values before: a row sees another where `mask` says so.

        Args:
          tokens, positions: [B, N]; tokens may be vectors [B, N, D].
          cache: of T slots.
          writes: which new row is to be written to which cache slot, in which batch rows; no two of a batch row to one.
          mask: [B, N, T] bool over cache slots.
          checks: M, how many of the rows are `[CLS]`; they are the last ones.

        Returns:
          Final normed hidden states of the tokens [B, N - M, D] (see `lm_logits`), safety logits [B, M] of `[CLS]` rows,
          and the rows' keys and values for `Cache.write`: of `[CLS]` only as deep as it is read, of a probe with the new
          tokens' scores (see `pooled`).
        """
        c = self.config
        x, angles, rows = self.embed(tokens), rotary_angles(positions, c), tokens.shape[1] - checks
        depths = c.signal.depths_of(c.layers)
        probing = cache.scores is not None
        logits, features, made = jnp.zeros((len(tokens), checks), jnp.float32), [], []
        masks = apart(mask, writes)
        for i, (block, layer) in enumerate(zip(self.blocks, cache.layers, strict=True)):
            if not x.shape[1]:  # checks alone, and they have read enough
                made.append(jax.tree.map(lambda rows: rows[:, :, :0], layer))
                continue
            adapter = Adapter.of(self.signal, i, rows) if x.shape[1] > rows else None
            x, new = block.over(x, angles, layer, masks, adapter)
            made.append(new)
            if i + 1 in depths and probing:
                features.append(probe_features(self.signal, len(features), self.normed(x, i + 1)))
            elif i + 1 in depths and checks:
                logits += self.safety_logit(self.normed(x[:, rows:], i + 1), depths.index(i + 1))
            if i + 1 == depths[-1] and x.shape[1] > rows:  # [CLS] goes no deeper than it is read
                x, angles = x[:, :rows], tuple(angle[:, :rows] for angle in angles)
                masks = masks[0][:, :rows], masks[1][:, :rows, :rows]
        scores = probe_scores(self.signal, features)[:, None] if probing else None
        return self.final_norm(x), logits, Cache(tuple(made), scores)


def _drawn(name: str, shape: tuple[int, ...]):
    axis = fan_in_axis(name)
    return nn.initializers.zeros if axis is None else nn.initializers.normal(shape[axis] ** -0.5)


def unstack_layers(params: dict, layers: int) -> dict:
    """Parameters of a scanned model as those of an unrolled one (`scan_layers=False`)."""
    rest = {name: value for name, value in params.items() if name != "layers"}
    stacked = params["layers"]["block"]
    return rest | {f"layer_{i}": jax.tree.map(lambda p, i=i: p[i], stacked) for i in range(layers)}


def for_decoding(config: TransformerConfig, dtype: str | None = None, unrolled: bool = True) -> TransformerConfig:
    """The config that a trained model of `config` is decoded with.

    Parameters are stored in the dtype of the activations, or both in `dtype`: what training keeps beyond that, the
    optimizer's small steps need and an answer does not. Layers are unrolled, or still as they were.
    """
    dtype = dtype or config.dtype
    scan = config.scan_layers and not unrolled
    return dataclasses.replace(config, dtype=dtype, param_dtype=dtype, remat="none", scan_layers=scan)


def unroll(
    config: TransformerConfig, params: dict, mesh: jax.sharding.Mesh | None = None, consume: bool = False
) -> tuple[TransformerConfig, dict]:
    """(config, parameters) as decoding wants them: layers unrolled, on `mesh` by the rules table, else where they are.

    One stacked parameter is taken apart after the other, and `consume` frees each of them then: a model that fills the
    devices never stands there twice. `params` must not be used afterwards.
    """
    scanned, config = config, dataclasses.replace(config, scan_layers=False)
    where = None if mesh is None else sharding.param_shardings(mesh, abstract_params(config))
    if "layers" not in params:
        return config, params if mesh is None else jax.device_put(params, where)
    params = dict(params)
    stacked = params.pop("layers")
    if mesh is not None:
        shardings = sharding.param_shardings(mesh, abstract_params(dataclasses.replace(scanned, scan_layers=True)))
        stacked = jax.device_put(stacked, shardings["layers"])
        params = jax.device_put(params, {name: where[name] for name in params})
    leaves, tree = jax.tree.flatten(stacked["block"])
    del stacked
    layers = {f"layer_{i}": [] for i in range(config.layers)}
    places = (
        [None] * len(leaves) if mesh is None else jax.tree.leaves(where["layer_0"])
    )  # every layer lies as the first
    for leaf, place in zip(leaves, places, strict=True):
        slices = _apart(leaf, config.layers, place)
        for layer, part in zip(layers.values(), jax.block_until_ready(slices), strict=True):
            layer.append(part)
        if consume:
            leaf.delete()
    return config, params | {name: tree.unflatten(parts) for name, parts in layers.items()}


def _apart(leaf: jax.Array, layers: int, place: jax.sharding.Sharding | None) -> tuple[jax.Array, ...]:
    if place is None:
        return tuple(leaf[i] for i in range(layers))
    return jax.jit(lambda x: tuple(x), out_shardings=(place,) * layers)(leaf)


def stack_layers(params: dict, layers: int) -> dict:
    """The inverse of `unstack_layers`."""
    rest = {name: value for name, value in params.items() if not name.startswith("layer_")}
    blocks = [params[f"layer_{i}"] for i in range(layers)]
    return rest | {"layers": {"block": jax.tree.map(lambda *p: jnp.stack(p), *blocks)}}


def abstract_params(config: TransformerConfig):
    """Shapes, dtypes and logical axes of the parameters, without allocating them (boxed; `nn.unbox` strips axes)."""
    known = _abstract_params(config, jax.sharding.get_abstract_mesh())
    if config.param_dtype == INT8:
        return quantized.abstract(known)
    return jax.tree.map(lambda leaf: leaf, known)  # dictionaries of the caller's own


@functools.lru_cache(maxsize=64)
def _abstract_params(config: TransformerConfig, mesh):
    """`abstract_params`, traced once for each config and mesh: it is asked for many times in a run."""
    # The key is abstract too: within the mesh of a pod that is not there, nothing can be computed.
    return jax.eval_shape(lambda: init_params(config, jax.random.key(0)))


def init_params(config: TransformerConfig, key: jax.Array):
    """Fresh parameters with their logical axes (boxed), reproducible from `key`; of floats."""
    tokens = jnp.zeros((1, 2), jnp.int32)
    none = jnp.zeros((1, 0), jnp.int32)
    routing = Routing(tokens, tokens.astype(bool), none, jnp.zeros((1, 0, 2), jnp.int32))
    return SafetyTransformer(config).init(key, tokens, tokens, routing, method="hidden")["params"]
