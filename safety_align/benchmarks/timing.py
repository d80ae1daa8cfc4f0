"""Paired timings: every round runs all variants, so that a machine that slows down slows them all."""

import statistics
import time
from collections.abc import Callable, Hashable
from typing import Any

import jax


def timed(run: Callable[[], Any]) -> Callable[[], float]:
    """A function that waits for what `run` computes and returns its seconds."""

    def seconds() -> float:
        started = time.perf_counter()
        jax.block_until_ready(run())
        return time.perf_counter() - started

    return seconds


def paired(runs: dict[Hashable, Callable[[], float]], rounds: int, progress: Callable[[int], object] | None = None):
    """Seconds of each run in each round, {name: [rounds]}; odd rounds run backwards."""
    seconds = {name: [] for name in runs}
    for number in range(rounds):
        for name in list(runs)[:: -1 if number % 2 else 1]:
            seconds[name].append(runs[name]())
        if progress:
            progress(1)
    return seconds


def median_ratio(above: list[float], below: list[float]) -> float:
    """The median of the ratios within rounds."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))
