"""The input watch: it counts waits that devices had to sit through, and no others."""

import time

import pytest

from safety_align.training.throughput import InputWatch


class Running:
    """A step's result that is there, or not yet."""

    def __init__(self, ready: bool):
        self.ready = ready

    def is_ready(self) -> bool:
        return self.ready


def slow(seconds: float):
    while True:
        time.sleep(seconds)
        yield {}


@pytest.mark.parametrize("running, idle", [(None, True), (Running(True), True), (Running(False), False)])
def test_only_waits_of_idle_devices_count(running, idle):
    watch, batches = InputWatch(100), slow(0.02)
    for _ in range(5):
        watch.take(batches, running)
    found = watch.read()
    assert (found["input_idle"] > 0.5) == idle and (found["input_idle"] == 0) == (not idle)
    assert 0 < found["slots_per_s"] <= 5 * 100 / 0.1
    assert watch.read()["slots_per_s"] == 0  # each reading starts anew
