"""What an attacker who knows the gate minimises, as a function of the vectors that stand in the query [ours].

    lam * CE(target) + (1 - lam) * softplus(a - logit(threshold) + margin)

`a` is the gate's own statistic of a whole answer, max(z_0, max_i min(z_i, …, z_{i + tau - 1})), over the query's check z_0 and
the check after each token of the target, made smooth. The second reading of `gate.reread` is no part of it: of a given
target it is the same whatever the query says. All of them are copies of `[CLS]` in one row, or checks beside it.
lam = 1 knows nothing of the gate: plain GCG.
"""

import dataclasses
from collections.abc import Sequence

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from safety_align.attacks.prefix import STEP
from safety_align.bounds import number
from safety_align.bundle import Bundle
from safety_align.decoding import GateConfig
from safety_align.decoding.prefix import read_rest
from safety_align.errors import InputError
from safety_align.model import Cache, SafetyTransformer, TransformerConfig
from safety_align.model.watch import used_checks, watch
from safety_align.placement import Batch, RowShape, Segment
from safety_align.routing import Check, Kind, Routing, rule2_window
from safety_align.text import Turn


@dataclasses.dataclass(frozen=True)
class AttackLoss:
    """The weights of the loss. Hashable.

    lam: weight of the target's cross entropy; the rest is the gate's. margin: how far below the threshold, in logits, the
    statistic is pushed. smooth: temperature of the smooth maxima and minima; small is exact.
    """

    lam: float = 0.5
    margin: float = 1.0
    smooth: float = 0.5

    def __post_init__(self):
        number("attack.lam", self.lam, 0, 1)
        number("attack.margin", self.margin, -100, 100)
        number("attack.smooth", self.smooth, 1e-3, 100)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Minimises:
    """Base of the attacks that minimise an `AttackLoss`: its weights are fields of theirs. InputError for one that is none."""

    lam: float = AttackLoss.lam
    margin: float = AttackLoss.margin
    smooth: float = AttackLoss.smooth

    def __post_init__(self):
        _ = self.loss  # raises

    @property
    def loss(self) -> AttackLoss:
        """What is minimised."""
        return AttackLoss(self.lam, self.margin, self.smooth)


@flax.struct.dataclass
class AttackRow:
    """One query with a free stretch, and the target behind it, as a row [1, S].

    Attributes:
      tokens, positions, routing: the row. free: [N] int32, the slots of the free stretch; predicts: [T] int32, the slots
      whose next token is a target's; targets: [T] int32; weights: [T] float32, 0 behind the target's end.
      tau: confirmations, static.
    """

    tokens: jax.Array
    positions: jax.Array
    routing: Routing
    free: jax.Array
    predicts: jax.Array
    targets: jax.Array
    weights: jax.Array
    tau: int = flax.struct.field(pytree_node=False)


def attack_row(
    bundle: Bundle, gate: GateConfig, goal: str, target: str, free: np.ndarray, slots: int | None = None
) -> AttackRow:
    """The row of `goal`, then the ids `free` [N] within the same user turn, then `target` as the answer.

    A free stretch begins at a multiple of `STEP`, behind some padding. `slots`: S, by default what it takes, rounded up to `STEP`;
    checks and target are rounded up too, so that goals and targets of about one length share a compiled program. InputError
    where the target is empty or nothing of the goal is content.
    """
    prompt = bundle.template.encode(bundle.tokenizer, (Turn("user", goal),))
    answer = bundle.template.encode_response(bundle.tokenizer, target)
    if not len(answer) or not prompt.content.any():
        raise InputError(f"an attack needs a goal and a target, got {goal[:60]!r} and {target[:60]!r}")
    prompt, end = prompt.insert(free)
    size, beside = len(prompt.ids), not bundle.model_config.signal.in_stream
    checks = [Check(Kind.QUERY, 0, size, 1.0, hidden=not gate.visible)]
    for count in range(1, len(answer) + 1):
        low, high = (0, count) if gate.reads == "all" else rule2_window(count, gate.r2)
        checks.append(Check(Kind.WINDOW, size + max(low, 0), size + high, 1.0))
    segment = Segment(prompt.ids, prompt.content, answer, np.ones(len(answer), bool), tuple(checks), beside=beside)
    lead = -end % STEP if len(free) else 0
    slots = -(-(lead + segment.length) // STEP) * STEP if slots is None else slots
    room = -(-len(answer) // STEP) * STEP
    batch = Batch.of([[*_padding(lead), segment]], RowShape(slots, 1 + room))
    between = int(gate.visible and not beside)  # the visible [CLS], between prompt and answer
    first = size + between
    predicts = lead + np.concatenate([[size - 1], np.arange(first, first + len(answer) - 1)])
    tokens, positions, routing = batch.inputs
    if gate.windows_include_query or gate.reads == "all":  # beside the window
        also = np.where(batch.cls_kinds[..., None] == Kind.WINDOW, np.array([lead, lead + size], np.int32), 0)
        routing = routing.replace(cls_also=also)
    predicts, targets, weights = (
        np.pad(part, (0, room - len(answer)))
        for part in (predicts, np.asarray(answer), np.ones(len(answer), np.float32))
    )
    free_slots = lead + np.arange(end, end + len(free))
    return AttackRow(tokens, positions, routing, free_slots, predicts, targets, weights, gate.confirmations)


def _padding(slots: int) -> list[Segment]:
    """A segment of its own, which nothing reads, of so many slots; none of none."""
    nothing = np.zeros(0, np.int32)
    filler = Segment(np.zeros(slots, np.int32), np.zeros(slots, bool), nothing, nothing.astype(bool), train_lm=False)
    return [filler] if slots else []


def stacked(rows: Sequence[AttackRow]) -> AttackRow:
    """Rows of different prompts as one, to be measured together; all of one shape (`attack_row` with `slots`)."""

    def joined(*parts):
        return np.stack(parts) if np.ndim(parts[0]) == 1 else np.concatenate(parts)

    return jax.tree.map(joined, *rows)


def embed(config: TransformerConfig, params: dict, tokens: jax.Array) -> jax.Array:
    """The vectors [B, S, D] of tokens [B, S] (`[CLS]` among them), from which an attack starts."""
    return SafetyTransformer(config).apply({"params": params}, tokens, method="embed")


def attack_losses(
    config: TransformerConfig,
    params: dict,
    loss: AttackLoss,
    threshold: float,
    row: AttackRow,
    vectors: jax.Array,
    prefix: Cache | None = None,
) -> dict[str, jax.Array]:
    """{"loss", "cross_entropy", "statistic"} [B] of rows whose vectors are [B, S, D]; `threshold` is a logit. With a `prefix`
    (`prefix.read_prefix`) the vectors are those of the row's last slots, [B, N, D], the free stretch among them.

    `row` is one that all share, or `stacked`, one for each. The cross entropy is the mean over the target, in nats; the
    statistic is the exact one. Differentiable in `vectors`.
    """
    count = len(vectors)
    positions, routing = jax.tree.map(
        lambda x: jnp.broadcast_to(x, (count, *x.shape[1:])), (row.positions, row.routing)
    )
    predicts, targets, weights = (
        jnp.broadcast_to(x, (count, x.shape[-1])) for x in (row.predicts, row.targets, row.weights)
    )
    model = SafetyTransformer(config)
    if prefix is not None:
        hidden, safety, _ = read_rest(config, params, prefix, vectors, positions, routing)
        predicts = jnp.maximum(predicts - prefix.slots, 0)  # those behind the target's end are 0
    elif config.signal.in_stream:
        hidden, safety = model.apply({"params": params}, vectors, positions, routing, method=_hidden_and_checks)
    else:
        found = watch(config, params, vectors, positions, routing, whole=True)
        hidden, safety = found.hidden, found.safety_logits
    before = jnp.take_along_axis(hidden, predicts[..., None], axis=1)
    logits = model.apply({"params": params}, before, method="lm_logits")
    nats = -jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], axis=-1)[..., 0]
    cross_entropy = jnp.sum(nats * weights, axis=-1) / jnp.sum(weights, axis=-1)
    used = used_checks(routing)
    smooth = gate_statistic(safety, row.tau, loss.smooth, used)
    total = loss.lam * cross_entropy + (1 - loss.lam) * jax.nn.softplus(smooth - threshold + loss.margin)
    return {"loss": total, "cross_entropy": cross_entropy, "statistic": gate_statistic(safety, row.tau, used=used)}


def _hidden_and_checks(model: SafetyTransformer, vectors, positions, routing):
    hidden, _ = model.hidden(vectors, positions, routing)
    return hidden, model.read_checks(hidden, routing)


def gate_statistic(logits: jax.Array, tau: int, smooth: float = 0.0, used: jax.Array | None = None) -> jax.Array:
    """The logit at which a gate with `tau` confirmations begins to let an answer pass, [B], from the logits [B, 1 + T] of its
    query's check and of the one after each token. At the end fewer than `tau` checks in a row are enough, as in the gate.

    `used` [B, 1 + T]: which checks there are, the first ones; None: all. `smooth` > 0: a smooth maximum of smooth minima, of
    that temperature, above the exact value by no more than smooth * (log(1 + T) + log(tau)).
    """
    query, rest = logits[:, :1], logits[:, 1:]
    count, there = rest.shape[1], jnp.ones(rest.shape, bool) if used is None else used[:, 1:]
    ahead = ((0, 0), (0, tau - 1))
    present = jnp.stack([jnp.pad(there, ahead)[:, i : i + count] for i in range(tau)])  # [tau, B, T]
    present = present.at[0].set(True)  # so that none is of nothing; those behind the end are left out below
    windows = jnp.stack([jnp.pad(rest, ahead)[:, i : i + count] for i in range(tau)])
    if not smooth:
        lowest = jnp.where(present, windows, jnp.inf).min(0)
        return jnp.concatenate([query, jnp.where(there, lowest, -jnp.inf)], axis=1).max(1)
    # Means in place of sums: of equal logits the smooth minimum is that logit.
    summed = jax.nn.logsumexp(-windows / smooth, axis=0, b=present)
    lowest = smooth * (jnp.log(jnp.maximum(present.sum(0), 1)) - summed)
    every = jnp.concatenate([jnp.ones_like(query, bool), there], axis=1)
    return smooth * jax.nn.logsumexp(jnp.concatenate([query, lowest], axis=1) / smooth, axis=1, b=every)
