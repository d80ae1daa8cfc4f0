"""A soft prompt: free vectors where GCG's suffix stands, moved by their gradient through the model and the gate's checks.

No text encodes to them, so nobody who asks in words can send them: they bound from above what a search for a suffix of as
many tokens could find, as far as Adam gets (Schwinn et al. 2024 attack open models so; here the gate is in the loss [ours]).
"""

import dataclasses
import functools
from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from safety_align.attacks.base import Crafted, ask
from safety_align.attacks.objective import AttackLoss, AttackRow, Minimises, attack_losses, attack_row, embed
from safety_align.attacks.prefix import read_prefix, slots_of
from safety_align.bounds import number
from safety_align.bundle import Bundle
from safety_align.data.behavior import Behavior
from safety_align.decoding import GateConfig, Request, SoftTokens
from safety_align.errors import InputError
from safety_align.fields import check_fields
from safety_align.model import Cache, TransformerConfig, unroll
from safety_align.model.quantized import widened

SCAN = 16
"""Steps of one program where no answer is written in between."""


@dataclasses.dataclass(frozen=True)
class SoftPrompt(Minimises):
    """The attack's budget and loss.

    steps: gradients; tokens: N, vectors; learning_rate: of Adam, in root mean squares of the token embeddings' numbers, so that it
    means the same in every model; start: the text whose embeddings the vectors are at first, over and over; lam, margin, smooth: see
    `AttackLoss`; look_every: steps between answers that are written through the gate, to see whether the vectors work already, and
    of one compiled program; 0: none before the end.
    """

    steps: int = 256
    tokens: int = 20
    learning_rate: float = 0.05
    start: str = "x"
    look_every: int = 32

    def __post_init__(self):
        check_fields(self, "attack.", steps=1, tokens=1, look_every=0)
        number("attack.learning_rate", self.learning_rate, 1e-6, 100)
        super().__post_init__()

    def craft(self, behavior: Behavior, bundle: Bundle, gate: GateConfig, works: Callable[[Request], bool]) -> Crafted:
        """See `OptimisedAttack.craft`. The record has the curve, not the vectors."""

        def looked(step: int, found: Vectors) -> bool:
            return bool(self.look_every) and step < self.steps and works(request(behavior.goal, found))

        found = soft_prompt(bundle, gate, behavior.goal, behavior.target, self, looked)
        record = {"loss": found.loss, "curve": [list(point) for point in found.curve]}
        return Crafted(request(behavior.goal, found), len(found.curve), record)


@dataclasses.dataclass(frozen=True, eq=False)
class Vectors:
    """What was found: the vectors [N, D] float32 of the lowest loss, that loss, and of each step (loss, cross entropy, statistic) of
    the vectors that it started from; the lowest is among them."""

    vectors: np.ndarray
    loss: float
    curve: tuple[tuple[float, float, float], ...]


def request(goal: str, found: Vectors) -> Request:
    """The goal with the vectors behind it."""
    return ask(goal, soft=SoftTokens(found.vectors))


def soft_prompt(
    bundle: Bundle,
    gate: GateConfig,
    goal: str,
    target: str,
    config: SoftPrompt,
    looked: Callable[[int, Vectors], bool] = lambda step, found: False,
) -> Vectors:
    """The best vectors for `goal` after `config.steps` steps, or once `looked(step, best so far)`, called every `look_every`
    steps (or every `SCAN`), says true.

    `bundle` has its parameters on one device; `gate` is the one to get through. InputError where the start is no text, or
    no vectors have a finite loss.
    """
    model, params = unroll(bundle.model_config, bundle.params)
    start = bundle.tokenizer.encode(f" {config.start}", "text")
    if not start:
        raise InputError(f"attack.start {config.start!r} encodes to no token")
    row = attack_row(bundle, gate, goal, target, np.resize(np.asarray(start, np.int32), config.tokens))
    base = embed(model, params, jnp.asarray(row.tokens))
    prefix = read_prefix(model, int(row.free[0]), params, base, row.positions, row.routing)
    base = base[:, slots_of(prefix) :]
    rate = config.learning_rate * jnp.sqrt(jnp.mean(jnp.square(widened(params["embedding"], (1,)))))
    free = base[0, row.free - slots_of(prefix)].astype(jnp.float32)
    state = State(free, optax.scale_by_adam().init(free), free, jnp.float32(jnp.inf))
    curve: list[tuple[float, float, float]] = []
    while len(curve) < config.steps:
        count = min(config.look_every or SCAN, config.steps - len(curve))
        state, points = _steps(model, config.loss, count, params, gate.logit_threshold, row, base, prefix, rate, state)
        points = jax.device_get(points)
        curve += zip(*(points[name].tolist() for name in ("loss", "cross_entropy", "statistic")), strict=True)
        if not np.isfinite(state.best_loss):
            raise InputError(f"the attack's loss is not finite for {goal[:60]!r} from attack.start {config.start!r}")
        best = Vectors(np.asarray(state.best), float(state.best_loss), tuple(curve))
        if looked(len(curve), best):
            break
    return best


@flax.struct.dataclass
class State:
    """Of the search: free [N, D] float32, the vectors; moments: Adam's; best [N, D], those of the lowest loss; that loss."""

    free: jax.Array
    moments: optax.OptState
    best: jax.Array
    best_loss: jax.Array


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _steps(
    model: TransformerConfig,
    loss: AttackLoss,
    count: int,
    params,
    threshold,
    row: AttackRow,
    base,
    prefix: Cache | None,
    rate,
    state: State,
):
    """(state, {"loss", "cross_entropy", "statistic"} [count]) after `count` steps; `base` [1, N, D] are the row's last slots, the
    `prefix` has those before."""
    places = row.free - slots_of(prefix)

    def measured(free):
        vectors = base.at[0, places].set(free.astype(base.dtype))
        found = jax.tree.map(lambda x: x[0], attack_losses(model, params, loss, threshold, row, vectors, prefix))
        return found["loss"], found

    def step(state: State, _):
        (now, found), gradient = jax.value_and_grad(measured, has_aux=True)(state.free)
        update, moments = optax.scale_by_adam().update(gradient, state.moments)
        better = now < state.best_loss
        best = jnp.where(better, state.free, state.best)
        lowest = jnp.where(better, now, state.best_loss)
        return State(state.free - rate * update, moments, best, lowest), found

    return jax.lax.scan(step, state, length=count)
