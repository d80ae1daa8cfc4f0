"""What one rendering of a template from outside may use: steps, processor time, and the weight of what it makes."""

import contextlib
import contextvars
import time
from collections.abc import Iterator
from typing import Any

from safety_align.errors import InputError
from safety_align.visible import visible

SECONDS = 0.5
"""Processor time of one rendering."""
STEPS = 100_000
"""Turns of loops, calls, filters and outputs of one rendering, beside ten for each character of the conversation."""
VALUE = 200_000
"""Weight of one value, beside ten for each character of the conversation."""
MADE = 20_000_000
"""Weight of all that is made, beside a hundred for each character; of a container only its own items."""
DEPTH = 40
"""Calls within calls."""
ITEM = 10
"""Weight of a container's item, beside what it holds."""

_VIEWS = (type({}.keys()), type({}.values()), type({}.items()))
FLAT = (str, bytes, range)


class RunsAway(InputError):
    """A template that leaves its bounds."""


class Budget:
    """What one rendering may still use."""

    def __init__(self, characters: int):
        self.steps = STEPS + 10 * characters
        self.value = VALUE + 10 * characters
        self.made = MADE + 100 * characters
        self.depth = 0
        self.end = time.thread_time() + SECONDS + characters / 1e6

    def step(self) -> None:
        """One turn of a loop, a call, an output."""
        self.steps -= 1
        if self.steps < 0 or time.thread_time() > self.end:
            raise RunsAway("the model's chat template does not come to an end")

    def check(self, weight: int) -> None:
        """Refuses a value of that weight before it is made."""
        if weight > self.value:
            raise RunsAway("the model's chat template computes something too large")

    def weigh(self, value: Any) -> Any:
        """`value`, weighed."""
        weight = 0
        waiting = [value]
        while waiting:
            item = waiting.pop()
            if isinstance(item, FLAT):
                weight += len(item)
            elif isinstance(item, int):
                weight += item.bit_length() // 64 * 1000  # numbers stay small
            elif isinstance(item, dict):
                weight += 2 * ITEM * len(item)
                self.check(weight)
                waiting += [*item.keys(), *item.values()]
            elif isinstance(item, (list, tuple, set, frozenset, *_VIEWS)):
                weight += ITEM * len(item)
                self.check(weight)
                waiting += item
            weight += 1
            if weight > self.value:
                self.check(weight)
        self.made -= weight if isinstance(value, FLAT) else ITEM * len(value) if hasattr(value, "__len__") else 1
        if self.made < 0:
            raise RunsAway("the model's chat template computes too much")
        return value


_CURRENT: contextvars.ContextVar[Budget] = contextvars.ContextVar("budget")


@contextlib.contextmanager
def rendering(characters: int) -> Iterator[None]:
    """The body renders within a budget for a conversation of so many characters."""
    token = _CURRENT.set(Budget(characters))
    try:
        yield
    finally:
        _CURRENT.reset(token)


def current() -> Budget:
    """The budget of the rendering that is going on."""
    return _CURRENT.get()


def said(error: object) -> str:
    """The text of an error, short, on one line, as `visible` shows it."""
    return visible(str(error)[:300])
