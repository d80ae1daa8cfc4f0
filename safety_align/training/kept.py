"""Batches whose hidden states are computed once and kept, for a probe that is trained on them again and again.

A probe changes nothing of the language model, so what it reads of a batch is the same in every epoch: where a forward pass
is dear (a CPU) it is worth a file. The files stand in `data.cache_dir`, named after the language model and the batch, so that
an interrupted run, and another run on the same rows, take what is there:

    states/MODEL/BATCH.npy   [B, S, n, D], bfloat16 as its bits
"""

import dataclasses
import hashlib
import json
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from safety_align import sharding
from safety_align.errors import InputError, RunFailed
from safety_align.files import make_directory, not_writable, written_whole
from safety_align.model.readout import split_signal
from safety_align.placement import Batch
from safety_align.routing import IGNORED, Kind
from safety_align.training.objective import Objective
from safety_align.training.reference import fingerprint


class StateStore:
    """The directory of a frozen language model's states.

    Args:
      root: `states/`; made where it is not there.
      objective: names the model, and what is read of it.
      params: its parameters, the signal's among them or not.
      mesh: where they are.
    """

    def __init__(self, root: pathlib.Path, objective: Objective, params: dict, mesh):
        config = objective.model
        self._shape = (len(config.signal.depths_of(config.layers)), config.width)
        plain = dataclasses.asdict(dataclasses.replace(config, safety_signal=False))
        del plain["signal"]
        identity = [plain, config.signal.depths_of(config.layers), fingerprint(split_signal(params)[1], mesh)]
        self.directory = root / hashlib.sha256(json.dumps(identity, default=str).encode()).hexdigest()[:20]
        make_directory(self.directory, "data.cache_dir")
        self._mesh, on_mesh = mesh, objective.on(mesh)
        self._states = jax.jit(
            lambda params, batch: on_mesh.states(params, batch).astype(jnp.bfloat16),
            out_shardings=sharding.batch_sharding(mesh),
        )

    def bytes_of(self, batch: Batch) -> int:
        """The size of a batch's file, in bytes, without its header."""
        return 2 * int(np.prod((*batch.tokens.shape, *self._shape)))

    def fill(
        self,
        params: dict,
        batches: Sequence[Batch],
        what: str,
        progress: bool,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Computes the states of `batches` that are not there, until `stop()`, asked before each of them. `what` they are
        stands before the bar on stderr. `params` are those that the store was made for: it does not keep them, as a training
        step gives them away."""
        missing = [batch for batch in batches if not self._is_there(batch)]
        if not missing:
            return
        if progress:
            size = sum(map(self.bytes_of, batches)) / 1e9
            print(f"{what}: {size:.1f} GB of hidden states are kept in {self.directory}", file=sys.stderr)
        done = len(batches) - len(missing)
        with tqdm(
            total=len(batches), initial=done, desc=what, unit="batch", disable=not progress, file=sys.stderr
        ) as bar:
            for batch in missing:
                if stop():
                    return
                states = self._states(params, sharding.place_rows(batch, self._mesh, len(batch.tokens)))
                self._write(self._path(batch), np.asarray(states).view(np.uint16))
                bar.update()

    def read(self, batch: Batch) -> Batch:
        """The batch with its states, bfloat16. RunFailed where their file is not there, or broken."""
        if not self._is_there(batch):
            raise RunFailed(f"{self._path(batch)} is gone or broken; the same command computes it again and goes on")
        return batch.replace(states=np.load(self._path(batch)).view(jnp.bfloat16))

    def _path(self, batch: Batch) -> pathlib.Path:
        digest = hashlib.sha256()
        for array in (batch.tokens, batch.positions, batch.segments):
            digest.update(np.ascontiguousarray(array).tobytes())
        return self.directory / f"{digest.hexdigest()[:32]}.npy"

    def _is_there(self, batch: Batch) -> bool:
        """Whether the file is there and whole."""
        try:
            found = np.load(self._path(batch), mmap_mode="r")
        except (OSError, ValueError):  # none, or cut off by something else than us
            return False
        return found.shape == (*batch.tokens.shape, *self._shape) and found.dtype == np.uint16

    def _write(self, path: pathlib.Path, states: np.ndarray) -> None:
        try:
            with written_whole(path) as beside, open(beside, "wb") as file:
                np.save(file, states)
        except OSError as error:
            raise not_writable(path, error) from error


class KeptBatches(Iterator):
    """The batches of a run's steps after step `done`: in order the first time, then in a new order each epoch; of each row's
    checks `checks`, drawn anew each time (`some_checks`), or all, for 0."""

    def __init__(self, store: StateStore, batches: Sequence[Batch], seed: int, done: int, checks: int = 0):
        self._store, self._batches, self._seed, self._next, self._checks = store, batches, seed, done, checks
        self._ahead = ThreadPoolExecutor(1)
        self._coming = self._ahead.submit(self._read, done)

    def __next__(self) -> Batch:
        batch = self._coming.result()
        self._next += 1
        self._coming = self._ahead.submit(self._read, self._next)
        return batch

    def close(self) -> None:
        """Stops reading ahead."""
        self._ahead.shutdown()

    def _read(self, step: int) -> Batch:
        batch = self._batches[index(step, len(self._batches), self._seed)]
        found = self._store.read(batch)
        if self._checks:
            found = some_checks(found, self._checks, np.random.default_rng((self._seed, step, 3)))
        return found


def some_checks(batch: Batch, count: int, rng: np.random.Generator) -> Batch:
    """A batch in numpy with room for `count` checks a row: those of queries, and of the others as many as there is room for,
    drawn by `rng`, in their order."""
    unused, query = batch.cls_index == IGNORED, batch.cls_kinds == Kind.QUERY
    order = np.argsort(rng.random(unused.shape) + ~query + 2 * unused, axis=1)
    chosen = np.sort(order[:, :count], axis=1)

    def taken(array: np.ndarray) -> np.ndarray:
        return np.take_along_axis(array, chosen.reshape(*chosen.shape, *[1] * (array.ndim - 2)), axis=1)

    names = ("cls_index", "cls_range", "cls_labels", "cls_weights", "cls_kinds")
    return batch.replace(**{name: taken(getattr(batch, name)) for name in names})


def index(step: int, count: int, seed: int) -> int:
    """Which of `count` batches a step takes (steps from 0): each once in an epoch."""
    epoch, place = divmod(step, count)
    return place if epoch == 0 else int(np.random.default_rng((seed, epoch, 2)).permutation(count)[place])


def check_room(batches: Sequence[Batch], checks: int) -> None:
    """Raises InputError where a row has so many queries that `checks` leave no room for a window."""
    most = max(int(np.max(np.sum((b.cls_index != IGNORED) & (b.cls_kinds == Kind.QUERY), axis=1))) for b in batches)
    if checks and most >= checks:
        raise InputError(
            f"kept_checks={checks}, but a row holds {most} queries, each with a check of its own: no window would be trained on; "
            "set it higher"
        )


def check_kept(objective: Objective, batches: int) -> None:
    """Raises InputError where no states can be kept for `batches` batches."""
    if batches and not (objective.beside and objective.model.signal.kind == "probe"):
        raise InputError(
            f"kept_batches={batches} is for a probe beside a frozen language model (signal.kind=probe, trainable=signal): "
            "what any other signal reads changes as it is trained"
        )
    if batches and jax.process_count() > 1:
        raise InputError(
            f"kept_batches={batches}: states are kept by one process; set 0, where there are several a pass is cheap"
        )
