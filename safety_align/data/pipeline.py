"""Examples → batches of packed rows: deterministic from a seed, resumable, the same for any number of processes.

grain orders the examples: each source is shuffled and repeated *without replacement* within an epoch, and sources are
mixed by weight, which is also what balances the classes. Every row of the global batch is a stream of its own that
takes its share of that order, one example of each block of `batch_size`; so a process reads and encodes the examples of
its rows and no others. Encoding is a pure function of (seed, index): windows are drawn anew in each epoch, and a resumed
run draws the same. A stream packs its rows from a small pool of waiting segments.
"""

import atexit
import dataclasses
import functools
import queue
import threading
from collections.abc import Iterator, Sequence

import grain.python as grain
import numpy as np

from safety_align.data.examples import BadExample, Example, TooLong, encode_example
from safety_align.errors import InputError
from safety_align.fields import check_fields
from safety_align.packing import POOL, pack, pack_all
from safety_align.placement import Batch, Pair, RowShape, Segment
from safety_align.routing import RoutingConfig
from safety_align.text import ChatTemplate, Tokenizer

AHEAD = 4
"""Batches prepared in the background."""


@dataclasses.dataclass(frozen=True)
class PipelineConfig:
    """Shape and order of the batches.

    sequence_length: S, slots of a row; batch_size: rows of a global batch; checks_per_row: M, room for `[CLS]` copies;
    mixture: (source, weight) pairs; seed: of order and windows; max_skipped: fraction of examples that may not fit, or
    not be encoded; pairs_per_row: P, room for preference pairs (DPO); None: no pairs.
    """

    sequence_length: int
    batch_size: int
    checks_per_row: int
    mixture: tuple[tuple[str, float], ...]
    seed: int = 0
    max_skipped: float = 0.05
    pairs_per_row: int | None = None

    def __post_init__(self):
        at_least = dict(sequence_length=1, batch_size=1, pairs_per_row=1, checks_per_row=0, seed=0, max_skipped=0)
        check_fields(self, "data.", **at_least)
        if not self.mixture or any(weight <= 0 for _, weight in self.mixture):
            raise InputError(f"data.mixture needs sources with positive weights, got {self.mixture}")

    @property
    def sources(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(name for name, _ in self.mixture)

    @property
    def row_shape(self) -> RowShape:
        """What a row has room for."""
        return RowShape(self.sequence_length, self.checks_per_row, self.pairs_per_row or 0)


class Pipeline:
    """Iterator over batches of this process's rows, in numpy arrays.

    Args:
      config: shape and order.
      sources: examples by name.
      tokenizer, template, routing: how an example becomes a segment.
      rows: which rows of the global batch this process makes, in order; None for all.
    """

    def __init__(
        self,
        config: PipelineConfig,
        sources: dict[str, Sequence[Example]],
        tokenizer: Tokenizer,
        template: ChatTemplate,
        routing: RoutingConfig | None,
        rows: Sequence[int] | None = None,
    ):
        rows = range(config.batch_size) if rows is None else rows
        if bad := [row for row in rows if not 0 <= row < config.batch_size]:
            raise InputError(f"row {bad[0]} is not one of the data.batch_size ({config.batch_size}) rows of a batch")
        self.config, self._sources, self._routing = config, sources, routing
        self._tokenizer, self._template = tokenizer, template
        self._order = Order(config, sources)
        self._streams = [_Stream(row) for row in rows]
        self._worker: _Worker | None = None
        self._state = self._snapshot()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self._worker is None:
            self._worker = _Worker(self._produce)
            # At the end of the program too: the thread must not outlive the interpreter.
            atexit.register(self.close)
        batch, self._state = self._worker.get()
        return batch

    @property
    def skipped(self) -> int:
        """Examples of this process's rows that were left out, as of the last batch handed out."""
        return int(self._state["skipped"].sum())

    def get_state(self) -> dict[str, np.ndarray]:
        """Where the rows' streams stand after the last batch handed out, int32: next [R] (examples taken), skipped [R],
        held [R, POOL] (the examples that wait, oldest first; -1 for none)."""
        return self._state

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Continues exactly where `get_state` was called, by these rows, in any process."""
        self.close()
        for stream, taken, skipped, held in zip(
            self._streams, state["next"], state["skipped"], state["held"], strict=True
        ):
            stream.next, stream.skipped = int(taken), int(skipped)
            stream.held = [(int(i), self._encode(self._order.index(stream.row, int(i)))) for i in held if i >= 0]
        self._state = self._snapshot()

    def close(self) -> None:
        """Stops the background thread."""
        if self._worker is not None:
            self._worker.stop()
            self._worker = None
            atexit.unregister(self.close)

    def _snapshot(self) -> dict[str, np.ndarray]:
        held = np.full((len(self._streams), POOL), -1, np.int32)
        for row, stream in zip(held, self._streams, strict=True):
            row[: len(stream.held)] = [number for number, _ in stream.held]
        counts = {name: np.array([getattr(s, name) for s in self._streams], np.int32) for name in ("next", "skipped")}
        return counts | {"held": held}

    def _encode(self, index: int) -> Segment | Pair:
        source, item = self._order[index]
        rng = np.random.default_rng((self.config.seed, index))
        example = self._sources[source][item]
        return encode_example(example, self._tokenizer, self._template, self.config.sequence_length, self._routing, rng)

    def _fill(self, stream: "_Stream") -> None:
        while len(stream.held) < POOL:
            try:
                stream.held.append((stream.next, self._encode(self._order.index(stream.row, stream.next))))
            except BadExample as error:
                stream.skipped += 1
                self._check_skipped(error)
            stream.next += 1

    def _check_skipped(self, last: BadExample) -> None:
        taken, skipped = (sum(getattr(s, name) for s in self._streams) for name in ("next", "skipped"))
        if taken > 1000 and skipped > self.config.max_skipped * taken:
            fix = "data.sequence_length or data.max_skipped"
            if not isinstance(last, TooLong):
                fix = "data.max_skipped, or choose another template"
            raise InputError(f"{skipped} of {taken} examples are left out (the last: {last}); raise {fix}")

    def _produce(self) -> tuple[Batch, dict[str, np.ndarray]]:
        """The next batch and the state after it."""
        shape = self.config.row_shape
        rows = []
        for stream in self._streams:
            self._fill(stream)
            chosen = pack([segment for _, segment in stream.held], shape)
            rows.append([stream.held[i][1] for i in chosen])
            taken = set(chosen)
            stream.held = [item for i, item in enumerate(stream.held) if i not in taken]
        return Batch.of(rows, shape), self._snapshot()


@dataclasses.dataclass
class _Stream:
    """One row's share of the order: examples taken so far, those that were left out, those that wait."""

    row: int
    next: int = 0
    skipped: int = 0
    held: list[tuple[int, Segment | Pair]] = dataclasses.field(default_factory=list)


def fixed_batches(
    examples: Sequence[Example],
    config: PipelineConfig,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    routing: RoutingConfig | None,
) -> tuple[list[Batch], int]:
    """`examples` once, in order, packed into batches for validation, the last filled up with empty rows; and how many did
    not fit or could not be encoded, and are left out."""
    segments, skipped = [], 0
    for index, example in enumerate(examples):
        try:
            rng = np.random.default_rng((config.seed, index))
            segments.append(encode_example(example, tokenizer, template, config.sequence_length, routing, rng))
        except BadExample:
            skipped += 1
    shape, size = config.row_shape, config.batch_size
    rows = [[segments[i] for i in chosen] for chosen in pack_all(segments, shape)]
    return [Batch.of(rows[i : i + size], shape, size) for i in range(0, len(rows), size)], skipped


class Order:
    """The endless global order: element i is (source name, index in the source); and each row's share of it."""

    def __init__(self, config: PipelineConfig, sources: dict[str, Sequence[Example]]):
        parts = []
        for number, (name, _) in enumerate(config.mixture):
            if name not in sources or not len(sources[name]):
                raise InputError(f"data.mixture names {name!r}, which has no examples")
            items = grain.MapDataset.range(len(sources[name])).seed(config.seed + number)
            parts.append(items.shuffle().repeat().map(lambda i, name=name: (name, int(i))))
        self._items = grain.MapDataset.mix(parts, weights=[weight for _, weight in config.mixture])
        self._rows, self._seed = config.batch_size, config.seed
        self._shuffled = functools.lru_cache(64)(self._shuffle)

    def __getitem__(self, index: int) -> tuple[str, int]:
        return self._items[index]

    def index(self, row: int, number: int) -> int:
        """Where in the order the example `number` of `row` stands: somewhere in block `number` of `batch_size`."""
        return number * self._rows + int(self._shuffled(number)[row])

    def _shuffle(self, block: int) -> np.ndarray:
        # The mixture is a regular pattern: fixed places in a block would give a row one source only.
        return np.random.default_rng((self._seed, block, 1)).permutation(self._rows)


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
