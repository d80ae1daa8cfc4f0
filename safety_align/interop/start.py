"""What a training takes from the model that it starts from: shape, dtype and chat template, in place of a preset.

    model=dict(preset="init_from", safety_signal=True)     and      template="init_from"

are filled in by `with_start` from `init_from`: a Hugging Face directory, a model of the hub, or a run. What is stored with
the run is spelled out, so that it goes on without that directory.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from safety_align.errors import InputError
from safety_align.interop import hub
from safety_align.interop.bundle import default_dtype, is_huggingface, stored_dtype, template_for
from safety_align.interop.huggingface import read_model_config
from safety_align.model import TransformerConfig
from safety_align.strict_json import read_json
from safety_align.text import ImportedTokenizer, JinjaTemplate
from safety_align.text.model_files import ModelFiles
from safety_align.training.checkpoint import stored_config

START = "init_from"
"""In place of a preset's or a template's name: as the model that the run starts from has it."""


class NotHere(InputError):
    """The directory that a config names is not on this machine."""


def takes_shape(values: Mapping[str, Any]) -> bool:
    """Whether a config leaves the model's shape to `init_from`, and so its dtype to the devices."""
    model = values.get("model")
    return isinstance(model, Mapping) and model.get("preset") == START


def with_start(
    values: Mapping[str, Any], workdir: str | pathlib.Path | None = None, platform: Callable[[], str] | None = None
) -> dict[str, Any]:
    """A training config's values for `to_train_config`, nothing left to `init_from`; a model of the hub has its commit.

    Args:
      values: as a config file gives them.
      workdir: the run's. One that has begun keeps what it took from its start: the directory need not be there any more,
        nor the hub be asked.
      platform: of the devices, asked where it decides on the dtype (`default_dtype`); None: the dtype is as stored.

    Raises InputError, which names `init_from`: nothing given, not there (`NotHere`), no model, or one that is not
    implemented.
    """
    values = dict(values)
    begun = _begun(workdir)
    name = values["init_from"] = _pinned(values.get("init_from"), begun)
    wants_template = values.get("template") == START
    if not (takes_shape(values) or wants_template):
        return values
    if not name:
        raise InputError(
            "the config takes its model or template from init_from, which is empty: --config.init_from=DIR, a run, a "
            "Hugging Face directory or a model's name on the hub"
        )
    if takes_shape(values):
        changes = {key: value for key, value in values["model"].items() if key != "preset"}
        changes.setdefault("safety_signal", True)
        frozen = values.get("trainable") == "signal"
        values["model"] = (begun["model"] if begun else _shape(name, changes, frozen, platform)) | changes
    if wants_template:
        values["template"] = begun["template"] if begun else _template(name)
    return values


def _begun(workdir: str | pathlib.Path | None) -> dict[str, Any] | None:
    """The config of the run in `workdir`; None where there is none. (What else may stand there is its owner's business.)"""
    path = pathlib.Path(workdir or "") / "config.json"
    if workdir is None or not path.is_file():
        return None
    try:
        there = read_json(path, dict[str, Any])
    except InputError:
        return None
    known = {"model": dict, "template": str, "init_from": str}
    return there if all(isinstance(there.get(key), kind) for key, kind in known.items()) else None


def _pinned(name: Any, begun: dict[str, Any] | None) -> Any:
    if not name or not isinstance(name, str):
        return name or ""
    if begun is not None and begun["init_from"].startswith(f"{name}@"):  # the commit that the run began with
        return begun["init_from"]
    return hub.pinned(name)


def _shape(name: str, changes: Mapping[str, Any], frozen: bool, platform: Callable[[], str] | None) -> dict[str, Any]:
    """The fields of the model that `name` is, but for `changes`."""
    path = _directory(name)
    if not is_huggingface(path):
        return _named(name, lambda: stored_config(path)["model"])
    stored = _named(name, lambda: stored_dtype(path))
    dtype = changes.get("dtype") or stored
    if platform is not None and not changes.get("dtype"):
        dtype = default_dtype(name, stored, platform(), "--config.model.dtype")
    config = _named(name, lambda: TransformerConfig.from_huggingface(read_model_config(path), dtype=dtype))
    # The optimizer's small steps are lost in bfloat16; a frozen model takes none.
    return dataclasses.asdict(config) | {"param_dtype": dtype if frozen else "float32"}


def _template(name: str) -> str:
    """The name of the template that `name` is used with."""
    path = _directory(name)
    if not is_huggingface(path):
        return _named(name, lambda: stored_config(path)["template"])
    if "default" in ModelFiles(path).chat_templates:  # then the tokenizer, which takes seconds, need not be read
        return JinjaTemplate.name
    return _named(name, lambda: template_for(ImportedTokenizer(path)).name)


def _directory(name: str) -> pathlib.Path:
    path = hub.directory(name, weights=False)
    if not path.is_dir():
        raise NotHere(
            f"init_from {name} is not there; give a run, a Hugging Face directory or a model's name on the hub"
        )
    steps = path.parent if path.parent.name == "checkpoints" else path / "checkpoints"
    if not is_huggingface(path) and not steps.is_dir():
        raise InputError(f"init_from {name} is no model: neither a Hugging Face directory (config.json) nor a run")
    return path


def _named(name: str, read: Callable[[], Any]) -> Any:
    """What `read` returns; its InputError names the model."""
    try:
        return read()
    except InputError as error:
        raise InputError(f"init_from {name}: {error}") from error
