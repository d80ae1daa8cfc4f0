"""When `[CLS]` is re-evaluated (docs/method.md section 7): pure functions of the step, so a skipped check is free.

Steps count generated tokens from 1. Step 0, the query itself, is always checked and is not the schedule's business.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp

from safety_align.bounds import integer, number, shown
from safety_align.errors import InputError


@dataclasses.dataclass(frozen=True)
class Every:
    """A check after every token."""

    def due(self, step, seeds: jax.Array) -> jax.Array:
        """[B] bool: is a check due after generated token `step` ([B], or a scalar)? `seeds` [B] uint32: see `PromptBatch.check_seed`."""
        return jnp.ones(seeds.shape, bool)

    @property
    def last(self) -> int | None:
        """The last step that can be due; None if there is none."""
        return None


@dataclasses.dataclass(frozen=True)
class First:
    """The query only."""

    def due(self, step, seeds: jax.Array) -> jax.Array:
        """See `Every.due`."""
        return jnp.zeros(seeds.shape, bool)

    @property
    def last(self) -> int | None:
        """See `Every.last`."""
        return 0


@dataclasses.dataclass(frozen=True)
class Periodic:
    """Every `interval` tokens."""

    interval: int = 10

    def __post_init__(self):
        integer(f"schedule periodic:{shown(self.interval)}: the interval", self.interval, 1)

    def due(self, step, seeds: jax.Array) -> jax.Array:
        """See `Every.due`."""
        return jnp.broadcast_to(step % self.interval == 0, seeds.shape)

    @property
    def last(self) -> int | None:
        """See `Every.last`."""
        return None


@dataclasses.dataclass(frozen=True)
class Annealing:
    """Often at first, then ever more rarely, then never: `stages` are (until step, interval) pairs [ours]."""

    stages: tuple[tuple[int, int], ...] = ((8, 1), (32, 4), (128, 16))

    def __post_init__(self):
        if not self.stages:
            raise InputError("schedule annealing has no stages; give (until step, interval) pairs")
        for value in itertools.chain(*self.stages):
            integer("schedule annealing: each step and interval", value, 1)
        untils = [until for until, _ in self.stages]
        if untils != sorted(set(untils)):
            raise InputError(f"schedule annealing {shown(self.stages)}: steps must rise")

    def due(self, step, seeds: jax.Array) -> jax.Array:
        """See `Every.due`."""
        due, start = False, 0
        for until, interval in self.stages:
            due |= (step > start) & (step <= until) & ((step - start) % interval == 0)
            start = until
        return jnp.broadcast_to(due, seeds.shape)

    @property
    def last(self) -> int | None:
        """See `Every.last`."""
        return self.stages[-1][0]


@dataclasses.dataclass(frozen=True)
class Random:
    """Each step with probability `p`, drawn from seeds that no request can choose: unpredictable to an attacker [ours]."""

    p: float = 0.3

    def __post_init__(self):
        number(f"schedule random:{self.p}: the probability", self.p, 1e-6, 1)

    def due(self, step, seeds: jax.Array) -> jax.Array:
        """See `Every.due`."""

        def one(seed, step):
            return jax.random.bernoulli(jax.random.fold_in(jax.random.key(seed), step), self.p)

        return jax.vmap(one)(seeds, jnp.broadcast_to(step, seeds.shape))

    @property
    def last(self) -> int | None:
        """See `Every.last`."""
        return None


@dataclasses.dataclass(frozen=True)
class Union:
    """Due where any of `parts` is."""

    parts: tuple["Schedule", ...]

    def __post_init__(self):
        if not self.parts:
            raise InputError("schedule union has no parts")

    def due(self, step, seeds: jax.Array) -> jax.Array:
        """See `Every.due`."""
        due = self.parts[0].due(step, seeds)
        for part in self.parts[1:]:
            due |= part.due(step, seeds)
        return due

    @property
    def last(self) -> int | None:
        """See `Every.last`."""
        lasts = [part.last for part in self.parts]
        return None if None in lasts else max(lasts)


Schedule = Every | First | Periodic | Annealing | Random | Union


def parse_schedule(text: str) -> Schedule:
    """The schedule written as `every`, `first`, `periodic[:10]`, `annealing[:8/1,32/4,128/16]`, `random[:0.3]`, or
    several joined by `+` (a check is due where any of them says so). Raises InputError for anything else."""
    if len(text) > 500:
        raise InputError(f"schedule {shown(text)} is longer than 500 characters")
    parts = [_parse_one(part.strip()) for part in text.split("+")]
    return parts[0] if len(parts) == 1 else Union(tuple(parts))


def _parse_one(text: str) -> Schedule:
    name, colon, argument = text.partition(":")
    try:
        if name in ("every", "first") and not colon:
            return Every() if name == "every" else First()
        if name == "periodic":
            return Periodic(int(argument)) if colon else Periodic()
        if name == "random":
            return Random(float(argument)) if colon else Random()
        if name == "annealing":
            if not colon:
                return Annealing()
            stages = (stage.split("/") for stage in argument.split(",") if stage)
            return Annealing(tuple((int(until), int(interval)) for until, interval in stages))
    except ValueError as error:
        if isinstance(error, InputError):
            raise
    raise InputError(
        f"schedule {shown(text)} is not understood; write every, first, periodic:10, annealing:8/1,32/4, random:0.3, "
        "or several joined by +"
    )
