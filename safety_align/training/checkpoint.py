"""Checkpoints: a run's directory, saved and read so that nothing is lost and nothing else is mistaken for it.

workdir/config.json            the config of the run; another config is refused
workdir/tokenizer.json         or, of a published model, the folder tokenizer/
workdir/checkpoints/<step>/    Orbax: params, optimizer, data (where the data streams stand); checksums
workdir/damaged/<step>/        checkpoints whose checksums were wrong when a run was to resume from them
"""

import contextlib
import json
import logging
import os
import pathlib
import shutil
import sys

import flax.linen as nn
import jax
from orbax.checkpoint import v1 as ocp

from safety_align import distributed, sharding
from safety_align.bundle import Bundle
from safety_align.decoding.config import GateConfig
from safety_align.errors import InputError
from safety_align.model import TransformerConfig, abstract_params
from safety_align.text import load_template, load_tokenizer
from safety_align.training import integrity
from safety_align.training.step import TrainState


def read_json(path: pathlib.Path):
    """The JSON file at `path`; InputError if it is missing or corrupt."""
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: {path.parent} is not the directory of a training run") from None
    except (ValueError, OSError) as error:
        raise InputError(f"{path} is corrupt: {error}") from error


class CheckpointNotWritten(RuntimeError):
    """The disk is full, say; what was saved before is untouched."""


class Checkpoints:
    """The checkpoints of one run; every process of the run makes one, at the same time.

    Damaged ones among the newest (see integrity.py) are moved to `workdir/damaged` and said on stderr, so that the run
    goes on from the last good one.

    Args:
      workdir: the run's directory, the same for all processes.
      keep: how many of the latest to keep.
    """

    def __init__(self, workdir: pathlib.Path, keep: int = 2):
        self.directory = workdir.resolve() / "checkpoints"
        self._processes = jax.process_index(), jax.process_count()
        self._set_damaged_aside()
        self._failed = False
        self._orbax = ocp.training.Checkpointer(
            self.directory,
            save_decision_policy=None,
            preservation_policy=ocp.training.preservation_policies.LatestN(keep),
            cleanup_tmp_directories=True,
        )

    @property
    def latest(self) -> int | None:
        """The newest complete step; None if there is none."""
        newest = self._orbax.latest
        return None if newest is None else newest.step

    def save(self, state: TrainState, data: dict[str, jax.Array], step: int) -> None:
        """Saves after `step` steps; returns when the checkpoint is complete. Raises CheckpointNotWritten."""
        rest = {"step": state.step, "opt_state": state.opt_state}
        try:
            with _quiet():
                self._orbax.save_checkpointables(
                    step, {"params": state.params, "optimizer": rest, "data": data}, force=True
                )
            distributed.sync(f"checkpoint {step}")
            integrity.seal(self.directory / str(step), *self._processes)
            distributed.sync(f"seal {step}")
        except Exception as error:
            self._failed = True
            raise CheckpointNotWritten(
                f"checkpoint {self.directory / str(step)} could not be written ({_reason(error)}); make room, and the "
                "same command goes on from the one before"
            ) from error

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
        for step in reversed(saved_steps(self.directory)):
            folder = self.directory / str(step)
            found = integrity.damage(folder, *self._processes)
            if distributed.all_agree(found is None):
                return
            if found is not None:
                print(f"checkpoint {folder} is damaged ({found}); moved to damaged/{step}", file=sys.stderr)
            distributed.sync(f"damaged {step}")  # everyone has read it
            if distributed.is_main():
                aside = self.directory.parent / "damaged" / str(step)
                aside.parent.mkdir(exist_ok=True)
                shutil.rmtree(aside, ignore_errors=True)
                os.replace(folder, aside)
            distributed.sync(f"aside {step}")


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
    """Steps that have a checkpoint in `directory`, in order."""
    return sorted(int(p.name) for p in directory.glob("*") if p.name.isdigit())


def _reason(error: Exception) -> str:
    """Kind and text of an error on one line; of a long one the beginning and the end, where system errors stand."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text if len(text) <= 240 else text[:100] + ' … ' + text[-130:]}"


def _unreadable(path: pathlib.Path, error: Exception) -> InputError:
    return InputError(f"checkpoint {path} cannot be read ({_reason(error)}); delete it to use an older one")


def load_run(path: str | os.PathLike, mesh: jax.sharding.Mesh | None = None) -> Bundle:
    """Reads a run's newest checkpoint (`path` a workdir), or the one of a step (`path` = workdir/checkpoints/STEP).

    Parameters go to `mesh` by the rules table, or to the first device. Several processes call it together.

    Raises InputError if it is missing, corrupt, or not a training run.
    """
    with distributed.agreed():
        workdir, step, config, tokenizer, model_config, template, gate = _identify(pathlib.Path(path).resolve())
        boxed = abstract_params(model_config)
        shapes = nn.unbox(boxed)
        one = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        where = jax.tree.map(lambda _: one, shapes) if mesh is None else sharding.param_shardings(mesh, boxed)
        abstract = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, where)
        folder = workdir / "checkpoints" / str(step)
        if any(folder.glob(integrity.PATTERN)):  # each process verifies its share
            found = integrity.damage(folder, jax.process_index(), jax.process_count(), below="params/")
            if found:
                raise InputError(f"checkpoint {folder} cannot be read ({found}); delete it to use an older one")
    try:
        params = ocp.load_checkpointables(folder, {"params": abstract})["params"]
    except Exception as error:
        raise _unreadable(folder, error) from error
    return Bundle(model_config, params, tokenizer, template, gate, config=config, step=step)


def _identify(path: pathlib.Path):
    """(workdir, step, the run's config, tokenizer, model's config, template, gate) of the checkpoint `path` means."""
    one_step = path.parent.name == "checkpoints" and path.name.isdigit()
    workdir = path.parent.parent if one_step else path
    if not workdir.is_dir():
        raise InputError(f"checkpoint {path} does not exist; give the --workdir of a training run")
    config = read_json(workdir / "config.json")
    tokenizer = load_tokenizer(workdir)
    try:
        model_config = TransformerConfig(**config["model"])
        template = load_template(config["template"], tokenizer)
        gate = trained_gate(config, str(workdir / "config.json")) if model_config.safety_signal else None
    except (KeyError, TypeError) as error:
        raise InputError(f"{workdir / 'config.json'} is not a training run's config: {error!r}") from error
    if tokenizer.vocab_size > model_config.vocab_size:
        raise InputError(
            f"{workdir}: the tokenizer has {tokenizer.vocab_size} ids, the model {model_config.vocab_size}"
        )
    steps = saved_steps(workdir / "checkpoints")
    step = int(path.name) if one_step else (steps[-1] if steps else None)
    if step not in steps:
        raise InputError(
            f"{workdir} has no checkpoint{f' of step {step}' if step is not None else ''}; there are: {steps}"
        )
    return workdir, step, config, tokenizer, model_config, template, gate


def trained_gate(config: dict, where: str) -> GateConfig:
    """The gate of a run, by its config; of a run older than this field, the default with the widths it trained on."""
    widths = {name: config["routing"][name] for name in ("r1", "r2", "r3")}
    return GateConfig.read(config.get("gate") or widths, where)
