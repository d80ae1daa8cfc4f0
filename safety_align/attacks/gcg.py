"""GCG: a suffix of tokens found by gradients (Zou et al. 2023), here through the gate's own checks as well [ours].

In every step the gradient says which tokens would lower the loss at each place of the suffix; `width` candidates, each with
one place changed to one of the best `top_k`, are measured, and the best that is text is kept: one that survives decoding and
encoding again, since an attacker sends text. Candidates are looked at from the lowest loss on, so that few are encoded.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from safety_align.attacks.base import Crafted, ask
from safety_align.attacks.objective import AttackLoss, AttackRow, Minimises, attack_losses, attack_row, embed
from safety_align.attacks.prefix import read_prefix, slots_of
from safety_align.bundle import Bundle
from safety_align.data.behavior import Behavior
from safety_align.decoding import GateConfig, Request
from safety_align.errors import InputError
from safety_align.fields import check_fields
from safety_align.model import Cache, TransformerConfig, unroll
from safety_align.model.quantized import widened
from safety_align.text import Turn


@dataclasses.dataclass(frozen=True)
class Gcg(Minimises):
    """The attack's budget and loss; the defaults of the budget are nanoGCG's.

    steps; width: candidates a step; top_k: tokens a place; tokens: length of the suffix; start: what it is filled with; batch:
    candidates measured at once; lam, margin, smooth: see `AttackLoss`; look_every: steps between answers that are written
    through the gate, to see whether the suffix works already; 0: none before the end; seed.
    """

    steps: int = 250
    width: int = 512
    top_k: int = 256
    tokens: int = 20
    start: str = "x"
    batch: int = 64
    look_every: int = 10
    seed: int = 0

    def __post_init__(self):
        sizes = ("steps", "width", "top_k", "tokens", "batch")
        check_fields(self, "attack.", seed=0, look_every=0, **dict.fromkeys(sizes, 1))
        if self.width % self.batch:
            raise InputError(f"attack.width ({self.width}) must be a multiple of attack.batch ({self.batch})")
        super().__post_init__()

    def craft(self, behavior: Behavior, bundle: Bundle, gate: GateConfig, works: Callable[[Request], bool]) -> Crafted:
        """See `OptimisedAttack.craft`."""

        def looked(step: int, found: Suffix) -> bool:
            due = self.look_every and step % self.look_every == 0 and step < self.steps
            return bool(due) and works(ask(with_suffix(behavior.goal, found.text)))

        found = gcg(bundle, gate, behavior.goal, behavior.target, self, looked)
        record = {"suffix": found.text, "ids": list(found.ids), "curve": [list(point) for point in found.curve]}
        return Crafted(ask(with_suffix(behavior.goal, found.text)), len(found.curve) - 1, record)


@dataclasses.dataclass(frozen=True)
class Suffix:
    """What was found: the text to put behind the goal, its ids, its loss, and of every step (loss, cross entropy, statistic) of
    the suffix that was kept."""

    text: str
    ids: tuple[int, ...]
    loss: float
    curve: tuple[tuple[float, float, float], ...]


def gcg(
    bundle: Bundle,
    gate: GateConfig,
    goal: str,
    target: str,
    config: Gcg,
    looked: Callable[[int, Suffix], bool] = lambda step, found: False,
) -> Suffix:
    """The best suffix for `goal` after `config.steps` steps, or once `looked(step, best so far)`, called after each, says true.

    `bundle` has its parameters on one device; `gate` is the one to get through. InputError where no text can be started from.
    """
    model, params = unroll(bundle.model_config, bundle.params)
    suffix = _start(bundle, goal, config)
    row = attack_row(bundle, gate, goal, target, suffix)
    allowed = jnp.asarray(_plain_tokens(bundle.tokenizer, model.vocab_size))
    threshold = gate.logit_threshold
    key = jax.random.key(config.seed)
    vectors = embed(model, params, jnp.asarray(row.tokens))
    prefix = read_prefix(model, int(row.free[0]), params, vectors, row.positions, row.routing)
    measured = _measure(model, config.loss, params, threshold, row, prefix, jnp.asarray(suffix))
    measured = jax.tree.map(float, measured)
    best = Suffix(_text(bundle, goal, suffix), tuple(map(int, suffix)), measured["loss"], (_point(measured),))
    for step in range(config.steps):
        candidates, found = _step(
            model,
            config,
            params,
            threshold,
            row,
            prefix,
            jnp.asarray(best.ids),
            allowed,
            jax.random.fold_in(key, step),
        )
        candidates, found = jax.device_get((candidates, found))
        best = dataclasses.replace(best, curve=(*best.curve, best.curve[-1]))
        for index in np.argsort(found["loss"]):
            if not found["loss"][index] < best.loss:
                break
            if (text := _text(bundle, goal, candidates[index])) is not None:
                point = tuple(float(found[name][index]) for name in ("loss", "cross_entropy", "statistic"))
                ids = tuple(map(int, candidates[index]))
                best = Suffix(text, ids, point[0], (*best.curve[:-1], point))
                break
        if looked(step + 1, best):
            break
    return best


def _point(measured: dict) -> tuple[float, float, float]:
    return measured["loss"], measured["cross_entropy"], measured["statistic"]


def with_suffix(goal: str, suffix: str) -> str:
    """The text of the request."""
    return goal + suffix


def _text(bundle: Bundle, goal: str, suffix) -> str | None:
    """The text of a suffix; None unless the goal with it is encoded as the goal's ids and the suffix's."""
    encode = functools.partial(bundle.template.encode, bundle.tokenizer)
    plain = encode((Turn("user", goal),))
    end = int(np.flatnonzero(plain.content)[-1]) + 1
    ids = [*plain.ids[:end], *map(int, suffix)]
    before = bundle.tokenizer.decode([int(i) for i in plain.ids[:end][plain.content[:end]]])
    whole = bundle.tokenizer.decode(
        [int(i) for i in np.array(ids)[np.concatenate([plain.content[:end], np.ones(len(suffix), bool)])]]
    )
    if not whole.startswith(before):
        return None
    text = whole[len(before) :]
    if not text.strip() or "\ufffd" in text:
        return None
    try:
        again = encode((Turn("user", with_suffix(goal, text)),)).ids
    except InputError:  # a text that no request may hold
        return None
    return text if np.array_equal(again, [*ids, *plain.ids[end:]]) else None


def _start(bundle: Bundle, goal: str, config: Gcg) -> np.ndarray:
    """`tokens` ids of the start's text behind the goal; InputError where they are not text."""
    one = bundle.tokenizer.encode(f" {config.start}", "text")
    suffix = np.resize(np.asarray(one, np.int32), config.tokens)
    if _text(bundle, goal, suffix) is None:
        raise InputError(
            f"attack.start {config.start!r} does not survive decoding and encoding behind {goal[:60]!r}; choose another"
        )
    return suffix


@functools.lru_cache(maxsize=1)  # a large vocabulary takes a second, for each behaviour
def _plain_tokens(tokenizer, size: int) -> np.ndarray:
    """[V] bool: tokens whose text is printable ASCII, no control token among them."""
    found = np.zeros(size, bool)
    for token in range(min(tokenizer.vocab_size, size)):
        text = tokenizer.decode([token])
        found[token] = bool(text.strip()) and text.isascii() and text.isprintable()
    controls = list(getattr(tokenizer, "controls", {}).values())
    found[controls] = False
    return found


def _vectors(model: TransformerConfig, params, row: AttackRow, prefix: Cache | None, suffixes: jax.Array) -> jax.Array:
    """[B, S - P, D]: of the slots behind the `prefix`, with the ids [B, N] in the free ones."""
    kept = slots_of(prefix)
    base = embed(model, params, jnp.asarray(row.tokens)[:, kept:])
    base = jnp.broadcast_to(base, (len(suffixes), *base.shape[1:]))
    return base.at[:, row.free - kept].set(embed(model, params, suffixes))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _measure(model: TransformerConfig, loss: AttackLoss, params, threshold, row: AttackRow, prefix, suffix):
    vectors = _vectors(model, params, row, prefix, suffix[None])
    return jax.tree.map(lambda x: x[0], attack_losses(model, params, loss, threshold, row, vectors, prefix))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _step(model: TransformerConfig, config: Gcg, params, threshold, row: AttackRow, prefix, suffix, allowed, key):
    """(candidates [width, N], their losses) of one step from `suffix`."""
    gradient = token_gradient(model, config.loss, params, threshold, row, suffix, prefix)
    gradient = jnp.where(allowed, gradient, jnp.inf)
    _, top = jax.lax.top_k(-gradient, config.top_k)  # [N, k]
    place_key, token_key = jax.random.split(key)
    places = jax.random.randint(place_key, (config.width,), 0, len(suffix))
    chosen = top[places, jax.random.randint(token_key, (config.width,), 0, config.top_k)]
    candidates = jnp.broadcast_to(suffix, (config.width, len(suffix))).at[jnp.arange(config.width), places].set(chosen)

    def measure(some):
        vectors = _vectors(model, params, row, prefix, some)
        return attack_losses(model, params, config.loss, threshold, row, vectors, prefix)

    batches = candidates.reshape(-1, config.batch, len(suffix))
    return candidates, jax.tree.map(jnp.ravel, jax.lax.map(measure, batches))


def token_gradient(
    model: TransformerConfig,
    loss: AttackLoss,
    params,
    threshold,
    row: AttackRow,
    suffix,
    prefix: Cache | None = None,
) -> jax.Array:
    """[N, V]: the loss's derivative by the one-hot vector of each token of the suffix [N]; `prefix`: see `attack_losses`."""
    vectors, free = _vectors(model, params, row, prefix, suffix[None]), row.free - slots_of(prefix)

    def total(changed):
        there = vectors.at[0, free].set(changed)
        return attack_losses(model, params, loss, threshold, row, there, prefix)["loss"][0]

    return jax.grad(total)(vectors[0, free]).astype(jnp.float32) @ widened(params["embedding"], (1,)).T
