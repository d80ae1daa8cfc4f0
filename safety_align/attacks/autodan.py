"""AutoDAN: a hierarchical genetic search over whole prompts (Liu et al. 2024), here through the gate's own checks as well [ours].

Every prompt of the population is a list of sentences, one of which holds the goal. In each generation the best stay as they
are; the others are children of parents that were drawn by their fitness: two parents exchange sentences, a child's sentences
change places, and its words give way to synonyms, of which those that good prompts had are preferred (the paper's word scores,
with momentum).

What differs from the paper: the prototypes are ours, and the synonyms are a small table, where the paper has a language model
write the prototypes anew and WordNet. The fitness is the loss of `attacks.objective`: the paper's with lam = 1, and with the
gate's statistic beside it with less. No gradient is taken.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from safety_align.attacks.base import Crafted, ask
from safety_align.attacks.behaviors import TEMPLATE_SLOT
from safety_align.attacks.objective import AttackLoss, AttackRow, Minimises, attack_losses, attack_row, embed, stacked
from safety_align.attacks.prototypes import PROTOTYPES, SYNONYMS
from safety_align.bounds import number
from safety_align.bundle import Bundle
from safety_align.data.behavior import Behavior
from safety_align.decoding import GateConfig, Request
from safety_align.errors import InputError
from safety_align.fields import check_fields
from safety_align.model import TransformerConfig, unroll

Template = tuple[str, ...]
"""Sentences, one of which holds `TEMPLATE_SLOT`."""

_SYNONYMS = {word: group for group in SYNONYMS for word in group}
_WORD = re.compile(
    r"\b(?:" + "|".join(sorted(map(re.escape, _SYNONYMS), key=len, reverse=True)) + r")\b", re.IGNORECASE
)

_STEP = 128
"""Slots that a row's length is rounded up to, so that few programs are compiled."""


@dataclasses.dataclass(frozen=True)
class AutoDan(Minimises):
    """The search's budget and loss.

    generations; population: prompts in each; elite: how many of the best stay as they are; crossover: probability that a child
    has two parents; mutation: probability of each of its words with synonyms, and of a change of places; batch: prompts measured
    at once; 0: all of them; lam, margin, smooth: see `AttackLoss`; look_every: generations between answers that are written
    through the gate, to see whether the best works already; 0: none before the end; seed.
    """

    generations: int = 20
    population: int = 16
    elite: int = 2
    crossover: float = 0.5
    mutation: float = 0.1
    batch: int = 0
    look_every: int = 5
    seed: int = 0

    def __post_init__(self):
        check_fields(self, "attack.", generations=1, population=2, elite=1, batch=0, look_every=0, seed=0)
        number("attack.crossover", self.crossover, 0, 1)
        number("attack.mutation", self.mutation, 0, 1)
        if self.elite >= self.population:
            raise InputError(f"attack.elite ({self.elite}) must be less than attack.population ({self.population})")
        if self.batch and self.population % self.batch:
            raise InputError(f"attack.population ({self.population}) must be a multiple of attack.batch ({self.batch})")
        super().__post_init__()

    def craft(self, behavior: Behavior, bundle: Bundle, gate: GateConfig, works: Callable[[Request], bool]) -> Crafted:
        """See `OptimisedAttack.craft`."""

        def looked(generation: int, found: Found) -> bool:
            due = self.look_every and generation % self.look_every == 0 and generation < self.generations
            return bool(due) and works(ask(with_goal(found.template, behavior.goal)))

        found = autodan(bundle, gate, behavior.goal, behavior.target, self, looked)
        record = {"template": list(found.template), "curve": [list(point) for point in found.curve]}
        return Crafted(ask(with_goal(found.template, behavior.goal)), len(found.curve) - 1, record)


@dataclasses.dataclass(frozen=True)
class Found:
    """The best template so far, its loss, and of every generation (loss, cross entropy, statistic) of the best until then."""

    template: Template
    loss: float
    curve: tuple[tuple[float, float, float], ...]


def autodan(
    bundle: Bundle,
    gate: GateConfig,
    goal: str,
    target: str,
    config: AutoDan,
    looked: Callable[[int, Found], bool] = lambda generation, found: False,
) -> Found:
    """The best template for `goal` after `config.generations`, or once `looked(generation, best so far)`, called after each, says
    true. The curve's first point is of the population that it starts with.

    `bundle` has its parameters on one device; `gate` is the one to get through.
    """
    rng = np.random.default_rng(config.seed)
    measure = Fitness(bundle, gate, goal, target, config.loss, config.batch)
    population = first_population(config, rng)
    best, scores = Found((), np.inf, ()), {}
    for generation in range(config.generations + 1):
        points = measure([with_goal(template, goal) for template in population])
        losses = points[:, 0]
        if losses.min() < best.loss:
            index = int(losses.argmin())
            best = Found(population[index], float(losses[index]), (*best.curve, tuple(map(float, points[index]))))
        elif best.curve:
            best = dataclasses.replace(best, curve=(*best.curve, best.curve[-1]))
        else:
            raise InputError(f"no prompt for {goal[:60]!r} has a finite loss")
        if generation and looked(generation, best):
            break
        scores = word_scores(population, losses, scores)
        population = next_population(population, losses, scores, config, rng)
    return best


def with_goal(template: Template, goal: str) -> str:
    """The text of the request."""
    return " ".join(template).replace(TEMPLATE_SLOT, goal)


class Fitness:
    """Losses of whole prompts, measured together.

    Rows are as long as the longest prompt so far, in steps of 128 slots: a population's prompts differ in length, and programs
    are few. `batch`: prompts in one program; 0: as many as there are.
    """

    def __init__(self, bundle: Bundle, gate: GateConfig, goal: str, target: str, loss: AttackLoss, batch: int = 0):
        self._bundle, self._gate, self._target, self._loss, self._batch = bundle, gate, target, loss, batch
        self._model, self._params = unroll(bundle.model_config, bundle.params)
        self._slots = 0

    def __call__(self, prompts: Sequence[str]) -> np.ndarray:
        """[B, 3]: (loss, cross entropy, statistic) of each; a loss that is not a number is infinite."""
        rows = [self._row(prompt) for prompt in prompts]
        longest = max(row.tokens.shape[1] for row in rows)
        self._slots = max(self._slots, -(-longest // _STEP) * _STEP)
        rows = [
            row if row.tokens.shape[1] == self._slots else self._row(prompt, self._slots)
            for row, prompt in zip(rows, prompts, strict=True)
        ]
        size = self._batch or len(rows)
        parts = [
            _losses(self._model, self._loss, self._params, self._gate.logit_threshold, stacked(rows[i : i + size]))
            for i in range(0, len(rows), size)
        ]
        found = {name: np.concatenate([np.asarray(part[name]) for part in parts]) for name in parts[0]}
        found["loss"] = np.where(np.isfinite(found["loss"]), found["loss"], np.inf)
        return np.stack([found[name] for name in ("loss", "cross_entropy", "statistic")], axis=1)

    def _row(self, prompt: str, slots: int | None = None) -> AttackRow:
        return attack_row(self._bundle, self._gate, prompt, self._target, np.zeros(0, np.int32), slots)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _losses(model: TransformerConfig, loss: AttackLoss, params, threshold, rows: AttackRow):
    return attack_losses(model, params, loss, threshold, rows, embed(model, params, jnp.asarray(rows.tokens)))


def first_population(config: AutoDan, rng: np.random.Generator) -> list[Template]:
    """The prototypes, then variants of them."""
    made = list(PROTOTYPES[: config.population])
    while len(made) < config.population:
        made.append(mutated(PROTOTYPES[len(made) % len(PROTOTYPES)], max(config.mutation, 0.1), {}, rng))
    return made


def next_population(
    population: Sequence[Template],
    losses: np.ndarray,
    scores: dict[str, float],
    config: AutoDan,
    rng: np.random.Generator,
) -> list[Template]:
    """The elite, best first, then children of parents drawn with probability proportional to exp(-loss)."""
    ranked = np.argsort(losses, kind="stable")
    made = [population[i] for i in ranked[: config.elite]]
    fitness = np.exp(losses.min() - losses)
    fitness /= fitness.sum()
    while len(made) < config.population:
        child, other = (population[i] for i in rng.choice(len(population), 2, p=fitness))
        if rng.random() < config.crossover:
            child = crossed(child, other, rng)
        made.append(mutated(child, config.mutation, scores, rng))
    return made


def crossed(first: Template, second: Template, rng: np.random.Generator) -> Template:
    """A child of two: the sentence with the goal from either of them, and what stands before and behind it place by place from one
    or the other."""
    sides = [_parted(parent) for parent in (first, second)]
    before = _mixed([side[0][::-1] for side in sides], rng)[::-1]  # counted from the goal
    behind = _mixed([side[2] for side in sides], rng)
    return (*before, sides[rng.integers(2)][1], *behind)


def _parted(template: Template) -> tuple[Template, str, Template]:
    """What stands before the sentence with the goal, that sentence, and what stands behind it."""
    at = next(i for i, sentence in enumerate(template) if TEMPLATE_SLOT in sentence)
    return template[:at], template[at], template[at + 1 :]


def _mixed(pair: Sequence[Template], rng: np.random.Generator) -> Template:
    """At each place the sentence of one of the two; where one has ended, the other's or none. No sentence twice."""
    found = []
    for place in range(max(map(len, pair))):
        chosen = pair[rng.integers(2)]
        if place < len(chosen) and chosen[place] not in found:
            found.append(chosen[place])
    return tuple(found)


def mutated(template: Template, probability: float, scores: dict[str, float], rng: np.random.Generator) -> Template:
    """Two neighbouring sentences change places, with `probability`, and so does each word with one of its synonyms.

    `scores`: of words, the higher the better; a synonym is drawn with probability proportional to exp(score), and one without
    a score has their mean.
    """
    sentences = list(template)
    if len(sentences) > 1 and rng.random() < probability:
        at = rng.integers(len(sentences) - 1)
        sentences[at], sentences[at + 1] = sentences[at + 1], sentences[at]
    usual = float(np.mean(list(scores.values()))) if scores else 0.0

    def other(found: re.Match) -> str:
        word = found[0]
        if rng.random() >= probability:
            return word
        others = [w for w in _SYNONYMS[word.lower()] if w != word.lower()]
        weights = np.array([scores.get(w, usual) for w in others])
        weights = np.exp(weights - weights.max())
        new = others[rng.choice(len(others), p=weights / weights.sum())]
        return new[0].upper() + new[1:] if word[0].isupper() else new

    return tuple(
        TEMPLATE_SLOT.join(_WORD.sub(other, part) for part in sentence.split(TEMPLATE_SLOT)) for sentence in sentences
    )


def word_scores(
    population: Sequence[Template], losses: np.ndarray, before: dict[str, float], momentum: float = 0.5
) -> dict[str, float]:
    """Of each word with synonyms, minus the mean loss of the prompts that have it, averaged with what it was `before`."""
    found: dict[str, list[float]] = {}
    for template, loss in zip(population, losses, strict=True):
        if np.isfinite(loss):
            for word in {match[0].lower() for match in _WORD.finditer(" ".join(template))}:
                found.setdefault(word, []).append(-float(loss))
    now = {word: float(np.mean(values)) for word, values in found.items()}
    return before | {
        word: momentum * before[word] + (1 - momentum) * value if word in before else value
        for word, value in now.items()
    }
