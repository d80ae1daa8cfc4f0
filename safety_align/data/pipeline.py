"""Examples → batches of packed rows: deterministic from a seed, resumable, the same for any number of hosts.

grain orders the examples: each source is shuffled and repeated *without replacement* within an epoch, and sources are
mixed by weight, which is also what balances the classes. Encoding is a pure function of (seed, index), so windows are
drawn anew in each epoch and a resumed run draws the same. Packing fills rows from a small pool of waiting segments.
"""

import atexit
import collections
import dataclasses
import queue
import threading
from collections.abc import Iterator, Sequence

import grain.python as grain
import numpy as np

from safety_align.data.examples import Example, TooLong, encode_example
from safety_align.errors import InputError
from safety_align.routing import RoutingConfig, Segment, place
from safety_align.text import ChatTemplate, Tokenizer

POOL = 64
"""Segments that wait for a row with room."""

AHEAD = 4
"""Batches prepared in the background."""


@dataclasses.dataclass(frozen=True)
class PipelineConfig:
    """Shape and order of the batches.

    sequence_length: S, slots of a row; batch_size: rows of a global batch; checks_per_row: M, room for `[CLS]` copies;
    mixture: (source, weight) pairs; seed: of order and windows; max_skipped: fraction of examples that may not fit.
    """

    sequence_length: int
    batch_size: int
    checks_per_row: int
    mixture: tuple[tuple[str, float], ...]
    seed: int = 0
    max_skipped: float = 0.05

    def __post_init__(self):
        for name in ("sequence_length", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"data.{name} must be at least 1, got {getattr(self, name)}")
        if not self.mixture or any(weight <= 0 for _, weight in self.mixture):
            raise InputError(f"data.mixture needs sources with positive weights, got {self.mixture}")


class Pipeline:
    """Iterator over batches, dicts of `routing.place` arrays stacked to [rows of this host, …]."""

    def __init__(
        self,
        config: PipelineConfig,
        sources: dict[str, Sequence[Example]],
        tokenizer: Tokenizer,
        template: ChatTemplate,
        routing: RoutingConfig | None,
        process_index: int = 0,
        process_count: int = 1,
    ):
        if config.batch_size % process_count:
            raise InputError(f"data.batch_size {config.batch_size} is not a multiple of {process_count} processes")
        self.config, self._sources, self._routing = config, sources, routing
        self._tokenizer, self._template = tokenizer, template
        self._rows = slice(process_index, None, process_count)
        self._order = _order(config, sources)
        self.skipped: collections.Counter[str] = collections.Counter()
        self._next, self._held = 0, []
        self._worker: _Worker | None = None
        self._state = self._snapshot()

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        if self._worker is None:
            self._worker = _Worker(self._produce)
            # At the end of the program too: the thread must not outlive the interpreter.
            atexit.register(self.close)
        batch, self._state = self._worker.get()
        return batch

    def get_state(self) -> dict:
        """Where the iterator stands after the last batch handed out; JSON-able."""
        return self._state

    def set_state(self, state: dict) -> None:
        """Continues exactly where `get_state` was called."""
        self.close()
        self._next, held = int(state["next"]), [int(i) for i in state["held"]]
        self.skipped = collections.Counter(state["skipped"])
        self._held = [(index, self._encode(index)) for index in held]
        self._state = self._snapshot()

    def close(self) -> None:
        """Stops the background thread."""
        if self._worker is not None:
            self._worker.stop()
            self._worker = None
            atexit.unregister(self.close)

    def _snapshot(self) -> dict:
        return {"next": self._next, "held": [index for index, _ in self._held], "skipped": dict(self.skipped)}

    def _encode(self, index: int) -> Segment | None:
        source, item = self._order[index]
        rng = np.random.default_rng((self.config.seed, index))
        try:
            return encode_example(
                self._sources[source][item],
                self._tokenizer,
                self._template,
                self.config.sequence_length,
                self._routing,
                rng,
            )
        except TooLong:
            return None

    def _fill_pool(self) -> None:
        while len(self._held) < POOL:
            segment = self._encode(self._next)
            if segment is None:
                self.skipped["over length"] += 1
                if self._next > 1000 and sum(self.skipped.values()) > self.config.max_skipped * self._next:
                    raise InputError(
                        f"{sum(self.skipped.values())} of {self._next} examples do not fit in {self.config.sequence_length} "
                        "slots; raise data.sequence_length or data.max_skipped"
                    )
            else:
                self._held.append((self._next, segment))
            self._next += 1

    def _produce(self):
        """The next batch and the state after it."""
        rows = []
        for _ in range(self.config.batch_size):
            self._fill_pool()
            chosen = pack(
                [segment for _, segment in self._held], self.config.sequence_length, self.config.checks_per_row
            )
            rows.append([self._held[i][1] for i in chosen])
            taken = set(chosen)
            self._held = [item for i, item in enumerate(self._held) if i not in taken]
        placed = [place(row, self.config.sequence_length, self.config.checks_per_row) for row in rows[self._rows]]
        return stack(placed), self._snapshot()


def pack(segments: Sequence[Segment], length: int, checks: int) -> list[int]:
    """Which of `segments` go into the next row: the oldest, then, as long as one fits, the longest that does."""
    room, copies, chosen = length, checks, []
    by_length = sorted(range(1, len(segments)), key=lambda i: (-segments[i].length, i))
    for i in [0, *by_length]:
        segment = segments[i]
        if segment.length <= room and len(segment.checks) <= copies:
            chosen.append(i)
            room -= segment.length
            copies -= len(segment.checks)
    if not chosen:
        raise InputError(f"a segment has {len(segments[0].checks)} checks; data.checks_per_row is {checks}")
    return chosen


def stack(rows: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Rows of `routing.place` as one batch."""
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}


def fixed_batches(
    examples: Sequence[Example],
    config: PipelineConfig,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    routing: RoutingConfig | None,
) -> list[dict[str, np.ndarray]]:
    """`examples` once, in order, packed into batches for validation; the last is filled up with empty rows."""
    segments = []
    for index, example in enumerate(examples):
        try:
            rng = np.random.default_rng((config.seed, index))
            segments.append(encode_example(example, tokenizer, template, config.sequence_length, routing, rng))
        except TooLong:
            continue
    rows = []
    while segments:
        chosen = pack(segments[:POOL], config.sequence_length, config.checks_per_row)
        rows.append(place([segments[i] for i in chosen], config.sequence_length, config.checks_per_row))
        taken = set(chosen)
        segments = [s for i, s in enumerate(segments) if i not in taken]
    empty = place([], config.sequence_length, config.checks_per_row)
    rows += [empty] * (-len(rows) % config.batch_size)
    return [stack(rows[i : i + config.batch_size]) for i in range(0, len(rows), config.batch_size)]


def _order(config: PipelineConfig, sources: dict[str, Sequence[Example]]) -> grain.MapDataset:
    """The endless global order: element i is (source name, index in the source)."""
    parts = []
    for number, (name, _) in enumerate(config.mixture):
        if name not in sources or not len(sources[name]):
            raise InputError(f"data.mixture names {name!r}, which has no examples")
        items = grain.MapDataset.range(len(sources[name])).seed(config.seed + number)
        parts.append(items.shuffle().repeat().map(lambda i, name=name: (name, int(i))))
    return grain.MapDataset.mix(parts, weights=[weight for _, weight in config.mixture])


class _Worker:
    """Runs `produce` ahead in a thread; an exception there is raised by `get`."""

    def __init__(self, produce):
        self._queue: queue.Queue = queue.Queue(AHEAD)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(produce,), daemon=True)
        self._thread.start()

    def _run(self, produce) -> None:
        while not self._stopped.is_set():
            try:
                item = produce()
            except BaseException as error:  # handed to the consumer
                self._put(error)
                return
            self._put(item)

    def _put(self, item) -> None:
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def get(self):
        item = self._queue.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()
