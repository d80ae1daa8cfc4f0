"""Whether the input pipeline keeps ahead: time that devices stood idle for want of a batch."""

import time
from collections.abc import Iterator

import jax


class InputWatch:
    """Takes batches from a pipeline and notes what waiting for them cost.

    A wait costs only what is left of it once the step before has ended. When that was is not known exactly, so a wait at
    whose end the devices had nothing to do counts whole: `input_idle` is an upper bound.
    """

    def __init__(self, slots: int):
        self._slots, self._taken, self._idle = slots, 0, 0.0
        self._since = time.monotonic()

    def take(self, batches: Iterator, running: jax.Array | None):
        """The next batch. `running`: a result of the step that was dispatched last, None if there is none."""
        started = time.monotonic()
        batch = next(batches)
        if running is None or running.is_ready():
            self._idle += time.monotonic() - started
        self._taken += 1
        return batch

    def read(self) -> dict[str, float]:
        """Since the last reading: `slots_per_s`, all rows' slots trained a second, and `input_idle`, the fraction of the
        time that devices waited for input."""
        now = time.monotonic()
        elapsed = max(now - self._since, 1e-9)
        found = {"slots_per_s": self._taken * self._slots / elapsed, "input_idle": self._idle / elapsed}
        self._since, self._taken, self._idle = now, 0, 0.0
        return found
