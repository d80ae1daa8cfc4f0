"""Checkpoints: a run's directory, saved and read so that nothing is lost and nothing else is mistaken for it.

workdir/config.json            the config of the run; another config is refused
workdir/tokenizer.json         or, of a published model, the folder tokenizer/
workdir/data.json              what the run learns from: a digest of each source; others are refused
workdir/reference.json         of a DPO run, which reference model it began with
workdir/.lock                  while a process trains there
workdir/checkpoints/<step>/    Orbax: params, optimizer, data (where the data streams stand); signal.json: the gate, and
                               what the safety signal measured (see decoding/canaries.py); checksums
workdir/damaged/<step>/        checkpoints whose checksums were wrong when a run was to resume from them
"""

import contextlib
import json
import logging
import os
import pathlib
import shutil
import sys
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import msgspec
from orbax.checkpoint import v1 as ocp

from safety_align import distributed, sharding
from safety_align.bundle import Bundle
from safety_align.decoding.canaries import Canary, check_canaries, check_signal
from safety_align.decoding.config import GateConfig
from safety_align.errors import InputError, RunFailed
from safety_align.files import write_atomically
from safety_align.model import SignalConfig, TransformerConfig, abstract_params
from safety_align.strict_json import check_dataclass, check_type, read_json
from safety_align.text import load_template, load_tokenizer
from safety_align.training import integrity
from safety_align.training.step import TrainState

SIGNAL_RECORD = "signal.json"
"""Beside the arrays of a checkpoint of a model with the safety signal."""


class CheckpointNotWritten(RunFailed):
    """The disk is full, say; what was saved before is untouched."""


class Checkpoints:
    """The checkpoints of one run; every process of the run makes one, at the same time.

    Damaged ones among the newest (see integrity.py) are moved to `workdir/damaged` and said on stderr, so that the run
    goes on from the last good one. If none is good, or one cannot be read, all stay where they are, and InputError is
    raised: a run that has learned something does not begin anew by itself.

    Args:
      workdir: the run's directory, the same for all processes.
      keep: how many of the latest to keep.
    """

    def __init__(self, workdir: pathlib.Path, keep: int = 2):
        self.directory = workdir.resolve() / "checkpoints"
        self._processes, self._keep = (jax.process_index(), jax.process_count()), keep
        self._set_damaged_aside()
        self._failed = False
        self._orbax = ocp.training.Checkpointer(
            self.directory,
            save_decision_policy=None,
            preservation_policy=ocp.training.preservation_policies.PreserveAll(),  # `save` deletes
            cleanup_tmp_directories=True,
        )

    @property
    def latest(self) -> int | None:
        """The newest complete step; None if there is none."""
        newest = self._orbax.latest
        return None if newest is None else newest.step

    def save(self, state: TrainState, data: dict[str, jax.Array], step: int, signal: dict | None = None) -> None:
        """Saves after `step` steps; returns when the checkpoint is complete, and those beyond `keep` are deleted.

        `signal`: the content of `SIGNAL_RECORD`, for a model that has a safety signal. Raises CheckpointNotWritten.
        """
        rest = {"step": state.step, "opt_state": state.opt_state}
        try:
            with _quiet():
                self._orbax.save_checkpointables(
                    step, {"params": state.params, "optimizer": rest, "data": data}, force=True
                )
            if signal is not None and distributed.is_main():
                write_atomically(self.directory / str(step) / SIGNAL_RECORD, json.dumps(signal, indent=2))
            distributed.sync(f"checkpoint {step}")
            integrity.seal(self.directory / str(step), *self._processes)
            distributed.sync(f"seal {step}")
        except Exception as error:
            self._failed = True
            raise CheckpointNotWritten(
                f"checkpoint {self.directory / str(step)} could not be written ({_reason(error)}); make room, and the "
                "same command goes on from the one before"
            ) from error
        for old in self._orbax.checkpoints[: -self._keep]:  # only now: the new one counts
            self._orbax.delete(old.step, missing_ok=True)

    def restore(
        self, shapes: TrainState, shardings: TrainState, data: dict[str, jax.ShapeDtypeStruct], step: int
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """The state (of `shapes`, placed as `shardings`) and the data streams' (`data`, with shardings) at `step`."""
        abstract = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings)
        rest = {"step": abstract.step, "opt_state": abstract.opt_state}
        try:
            loaded = self._orbax.load_checkpointables(
                step, {"params": abstract.params, "optimizer": rest, "data": data}
            )
        except Exception as error:
            raise _unreadable(self.directory / str(step), error) from error
        rest = loaded["optimizer"]
        return TrainState(rest["step"], loaded["params"], rest["opt_state"]), loaded["data"]

    def close(self) -> None:
        """Waits for Orbax and releases it."""
        if not self._failed:
            self._orbax.close()
            return
        with _quiet(), contextlib.suppress(Exception):  # it raises the failure of the save once more
            self._orbax.close()

    def _set_damaged_aside(self) -> None:
        steps = distributed.from_main(saved_steps(self.directory))
        bad: dict[int, str] = {}
        for step in reversed(steps):
            if (wrong := _damage(self.directory / str(step))) is None:
                break
            bad[step] = wrong
        first_cut_off = list(bad.values()) == [integrity.UNSEALED]  # nothing is lost
        if bad and len(bad) == len(steps) and not first_cut_off:
            raise InputError(
                f"no checkpoint in {self.directory} is whole (of the newest, {bad[steps[-1]]}); put a good one back, or "
                "delete that directory to start anew",
                shared=True,
            )
        if distributed.is_main():
            for step, wrong in bad.items():
                folder, aside = self.directory / str(step), self.directory.parent / "damaged" / str(step)
                print(f"checkpoint {folder} is damaged ({wrong}); moved to damaged/{step}", file=sys.stderr)
                aside.parent.mkdir(exist_ok=True)
                shutil.rmtree(aside, ignore_errors=True)
                os.replace(folder, aside)
        distributed.sync("damaged ones aside")


def _damage(folder: pathlib.Path, below: tuple[str, ...] = ("",)) -> str | None:
    """`integrity.damage`, in all processes the same; each reads its share. InputError where a file cannot be read."""
    found = None
    with distributed.agreed():
        try:
            found = integrity.damage(folder, jax.process_index(), jax.process_count(), below)
        except OSError as error:
            raise InputError(
                f"checkpoint {folder} cannot be read ({error.strerror}: {error.filename}); it may be whole: try again, or "
                "move it away to use an older one"
            ) from error
    return next((text for text in distributed.gather(found) if text), None)


@contextlib.contextmanager
def _quiet():
    """Orbax logs a failure's tracebacks, several pages; what it raises is enough."""
    log = logging.getLogger("absl")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def saved_steps(directory: pathlib.Path) -> list[int]:
    """Steps that have a checkpoint in `directory`, in order; none where it is not there."""
    try:
        return sorted(int(name) for name in os.listdir(directory) if _is_step(name))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:  # a name that is too long, say
        raise InputError(f"{directory} cannot be read: {error.strerror}; choose another") from error


def _is_step(name: str) -> bool:
    return name.isascii() and name.isdecimal()


def _reason(error: Exception) -> str:
    """Kind and text of an error on one line; of a long one the beginning and the end, where system errors stand."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text if len(text) <= 240 else text[:100] + ' … ' + text[-130:]}"


def _unreadable(path: pathlib.Path, error: Exception) -> InputError:
    return InputError(f"checkpoint {path} cannot be read ({_reason(error)}); delete it to use an older one")


class _Config(msgspec.Struct):
    """What reading a run needs of its config."""

    model: dict[str, Any]
    template: str
    routing: dict[str, Any] | None = None
    gate: dict[str, Any] | None = None


class _Signal(msgspec.Struct, forbid_unknown_fields=True):
    """`signal.json`: how the safety signal of a checkpoint is to be read, and what it measured there."""

    format: Literal[1]
    gate: dict[str, Any]
    canaries: list[Canary]


def load_run(
    path: str | os.PathLike,
    mesh: jax.sharding.Mesh | None = None,
    recast: Callable[[TransformerConfig], TransformerConfig] | None = None,
    test: bool = True,
) -> Bundle:
    """Reads a run's newest checkpoint (`path` a workdir), or the one of a step (`path` = workdir/checkpoints/STEP).

    Only sealed and undamaged checkpoints count, as where a run resumes: a newest one that is not is said on stderr, and
    the one before serves; a named one must be. Several processes call it together.

    Args:
      path: where the run is.
      mesh: where parameters go, by the rules table; None: the first device.
      recast: the model's config → the one to read it as, with other dtypes; parameters are cast while they are read.
        None: as they were trained.
      test: test the safety signal (see canaries.py); off where it is not going to be used.

    Raises InputError if it is missing, corrupt, or not a training run.
    """
    path = pathlib.Path(path).resolve()
    with distributed.agreed():
        workdir, steps, config, tokenizer, model_config, template = _identify(path)
        if recast is not None:
            model_config = recast(model_config)
        boxed = abstract_params(model_config)
        shapes = nn.unbox(boxed)
        one = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        where = jax.tree.map(lambda _: one, shapes) if mesh is None else sharding.param_shardings(mesh, boxed)
        abstract = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, where)
    step = _newest_whole(workdir / "checkpoints", distributed.from_main(steps), named=path != workdir)
    folder = workdir / "checkpoints" / str(step)
    with distributed.agreed():
        gate, canaries = _read_signal(folder, config, workdir) if model_config.safety_signal else (None, None)
    try:
        params = ocp.load_checkpointables(folder, {"params": abstract})["params"]
    except Exception as error:
        raise _unreadable(folder, error) from error
    bundle = Bundle(
        model_config, params, tokenizer, template, gate=gate, canaries=canaries, config=config, step=step
    )  # fmt: skip
    if test and model_config.safety_signal:
        check_signal(bundle, str(folder), mesh)
    return bundle


def stored_config(path: pathlib.Path) -> dict[str, Any]:
    """The config of the run that `path`, a workdir or one of its steps, is of, as it is stored; InputError if it is none."""
    workdir = _workdir(path)
    if not workdir.is_dir():
        raise InputError(f"checkpoint {path} does not exist; give the --workdir of a training run")
    config = read_json(workdir / "config.json", dict[str, Any])
    check_type(config, _Config, f"{workdir / 'config.json'} is not a training run's")
    return config


def stored_sources(path: pathlib.Path) -> set[str]:
    """The names of the data sources that the run learned from, as `stored_config`."""
    mixture = stored_config(path).get("pipeline", {}).get("mixture", [])
    return {entry[0] for entry in mixture if entry}


def _workdir(path: pathlib.Path) -> pathlib.Path:
    return path.parent.parent if path.parent.name == "checkpoints" and _is_step(path.name) else path


def _identify(path: pathlib.Path):
    """(workdir, steps that `path` means, newest first, the run's config, tokenizer, model's config, template)."""
    workdir = _workdir(path)
    one_step = workdir != path
    config = stored_config(path)
    where = str(workdir / "config.json")
    known = check_type(config, _Config, where)
    tokenizer = load_tokenizer(workdir)
    if isinstance(signal := known.model.get("signal"), dict):
        check_dataclass(signal, SignalConfig, f"{where}: model.signal")
    model_config = check_dataclass(known.model, TransformerConfig, f"{where}: model")
    template = load_template(known.template, tokenizer)
    if tokenizer.vocab_size > model_config.vocab_size:
        raise InputError(
            f"{workdir}: the tokenizer has {tokenizer.vocab_size} ids, the model {model_config.vocab_size}"
        )
    steps = saved_steps(workdir / "checkpoints")
    chosen = [int(path.name)] if one_step else steps[::-1]
    if not chosen or chosen[0] not in steps:
        raise InputError(
            f"{workdir} has no checkpoint{f' of step {path.name}' if one_step else ''}; there are: {steps}"
        )
    return workdir, chosen, config, tokenizer, model_config, template


def _newest_whole(directory: pathlib.Path, steps: list[int], named: bool) -> int:
    """The first of `steps` whose checkpoint is sealed and undamaged, the same in every process; each reads its share."""
    for step in steps:
        folder = directory / str(step)
        below = ("params/", SIGNAL_RECORD) if (folder / SIGNAL_RECORD).exists() else ("params/",)
        if (wrong := _damage(folder, below)) is None:
            return step
        with distributed.agreed():
            if named or step == steps[-1]:
                hint = "name another step" if named else "there is none before it"
                raise InputError(f"checkpoint {folder} cannot be read ({wrong}); {hint}")
        distributed.say(f"checkpoint {folder} cannot be read ({wrong}); the one before it is taken")


def _read_signal(folder: pathlib.Path, config: dict, workdir: pathlib.Path) -> tuple[GateConfig, tuple | None]:
    """(gate, canaries) of a checkpoint; of one older than `SIGNAL_RECORD` the gate is the config's, canaries are None."""
    path = folder / SIGNAL_RECORD
    if not path.exists():
        return trained_gate(config, str(workdir / "config.json")), None
    found = read_json(path, _Signal)
    return GateConfig.read(found.gate, str(path)), check_canaries(found.canaries, str(path))


def trained_gate(config: dict, where: str) -> GateConfig:
    """The gate of a run, by its config; of a run older than this field, the default with the widths it trained on."""
    known = check_type(config, _Config, where)
    widths = {name: (known.routing or {}).get(name) for name in ("r1", "r2", "r3")}
    return GateConfig.read(known.gate or widths, where)
