"""Rows that requests take turns in, whether all of them are there from the beginning or come one by one.

`Generator.generate` is the case in which all have come. What comes later is looked at after every chunk of the loop.
"""

import collections
import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

import jax
import numpy as np

from safety_align import sharding
from safety_align.decoding.decoder import Decoder
from safety_align.decoding.first_pass import prefill
from safety_align.decoding.loop import ALL_STOPPED, FOREVER, decode
from safety_align.decoding.prefix import Prefix
from safety_align.decoding.refill import blank, take_over
from safety_align.decoding.requests import Encoded, Result, read_result, shown_ids
from safety_align.decoding.state import PromptBatch, Stop
from safety_align.errors import InputError
from safety_align.text import Tokenizer

Asked = tuple[Hashable, Encoded]
"""A request, and what its answer is known by."""

Batcher = Callable[[Sequence[Encoded], int], PromptBatch]
"""(requests, rows) → their arrays, those of rows beyond them blank."""


class Source(Protocol):
    """Where requests come from.

    waiting: those that have come and have no row, in order; `serve` takes them from the left. complete: no more will come.
    """

    waiting: collections.deque[Asked]
    complete: bool

    def look(self) -> None:
        """Puts what has come meanwhile into `waiting`; does not wait."""

    def wait(self) -> None:
        """Sleeps until something has come, or nothing more will. Called when every row is free and nothing waits."""


class AllThere:
    """The `Source` of requests that have all come."""

    complete = True

    def __init__(self, asked: Iterable[Asked]):
        self.waiting = collections.deque(asked)

    def look(self) -> None:
        pass

    def wait(self) -> None:
        pass


class Report(NamedTuple):
    """After a turn: how many tokens of each running answer no verdict can take back, and the answers that have ended; by key."""

    released: dict[Hashable, int]
    ended: dict[Hashable, Result]


class Rows:
    """`count` rows of a decoder, of which `share` are refilled at once.

    make: makes the arrays of requests. prefix: what all of them begin with, read before; only for one who knows all that will come,
    as nothing is compared with it. Every answer is what it is in a batch of its own.
    """

    def __init__(
        self,
        decoder: Decoder,
        params,
        tokenizer: Tokenizer,
        make: Batcher,
        count: int,
        share: int,
        mesh: jax.sharding.Mesh | None = None,
    ):
        if not 1 <= share <= count:
            raise InputError(f"rows that are refilled {share} at once must be at least as many, got {count}")
        self.decoder, self.params, self.tokenizer, self.mesh = decoder, params, tokenizer, mesh
        self.count, self.share = count, share
        self.make = make
        self._owners: list[Hashable | None] = [None] * count
        self._batch = make([], count)
        self._turn = 0
        self.prefix: Prefix | None = None
        with sharding.on_mesh(mesh):
            self._state = blank(decoder, self._batch)

    @property
    def idle(self) -> bool:
        """No row has a request."""
        return len(self._free) == self.count

    @property
    def _free(self) -> list[int]:
        return [row for row, owner in enumerate(self._owners) if owner is None]

    def check(self, encoded: Encoded) -> None:
        """Raises InputError for a request that these rows have no room for; to be asked before it waits."""
        layout = self.decoder.layout
        for what, ids, room in (
            ("prompt", encoded.prompt.ids, layout.prompt),
            ("prefill", encoded.prefill, layout.prefill),
        ):
            if len(ids) > room:
                raise InputError(
                    f"{what} of {len(ids)} tokens in rows of {room}; make rows for longer ones (Generator.rows)"
                )

    def fill(self, waiting: collections.deque[Asked]) -> None:
        """Gives free rows to those who have waited longest: to `share` of them at once, or to all if they are fewer. A request that
        does not fit (`check`) raises, still waits then, and nothing else is lost."""
        while waiting and len(free := self._free) >= min(self.share, len(waiting)):
            for _, encoded in itertools.islice(waiting, self.share):
                self.check(encoded)
            taken = [waiting.popleft() for _ in range(min(self.share, len(waiting)))]
            places = free[: len(taken)]
            for row, (key, _) in zip(places, taken, strict=True):
                self._owners[row] = key
            places = np.array([*places, *[self.count] * (self.share - len(taken))], np.int32)
            requests = self.make([encoded for _, encoded in taken], self.share)
            with sharding.on_mesh(self.mesh):
                fresh = prefill(self.decoder, self.params, requests, self.prefix)
                self._state, self._batch = take_over(
                    self._state, self._batch, fresh, requests.replace(soft=None), places
                )

    def run(self, waiting: int, complete: bool) -> Report:
        """Goes on until there is room for those who are `waiting`; for no more than a chunk of the loop unless they are the
        `complete` rest."""
        few = np.int32(self.count - min(self.share, waiting)) if waiting else ALL_STOPPED
        until = FOREVER if complete else np.int32(self._turn + self.decoder.chunk)
        with sharding.on_mesh(self.mesh):
            self._state = decode(self.decoder, self.params, self._batch, self._state, until, few)
        host = sharding.fetch(self._state.replace(cache=()), self.mesh)
        self._turn = int(host.turn)
        released, ended = {}, {}
        for row, key in enumerate(self._owners):
            if key is None:
                continue
            if host.stop[row] == Stop.RUNNING:
                released[key] = shown_ids(host, row, self.decoder)[1]
            else:
                ended[key] = read_result(host, row, self.decoder, self.tokenizer)
                self._owners[row] = None
        return Report(released, ended)


def serve(rows: Rows, source: Source) -> Iterator[Report]:
    """Answers what comes from `source`, first come, first served, until it is complete and nothing is left."""
    while True:
        complete = source.complete  # before looking: what comes in between is not overlooked
        source.look()
        rows.fill(source.waiting)
        if not rows.idle:
            yield rows.run(len(source.waiting), complete)
        elif complete:
            return
        else:
            source.wait()
