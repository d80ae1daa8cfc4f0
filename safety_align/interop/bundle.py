"""Any model that this project can read, by its directory: a training run, or a Hugging Face model."""

import dataclasses
import os
import pathlib

import jax

from safety_align import distributed
from safety_align.bundle import Bundle
from safety_align.decoding.config import GateConfig
from safety_align.errors import InputError
from safety_align.interop.huggingface import SIGNAL_FACTS, load_pretrained
from safety_align.model import unroll
from safety_align.text import ImportedTokenizer, get_template, load_template
from safety_align.training.checkpoint import load_run

FALLBACK_TEMPLATES = ("llama3", "chatml", "llama2")
"""Typed templates for a model that came without one: the first whose control tokens the tokenizer has."""


def load_model(
    path: str | os.PathLike, mesh: jax.sharding.Mesh | None = None, dtype: str | None = None, **options
) -> Bundle:
    """Reads `path`: a run's workdir, one of its steps, or a Hugging Face directory (`options`: see `load_pretrained`).

    Raises InputError where it is neither, or where tokenizer and vocabulary do not match. Several processes call it
    together, each with a `mesh` that it has devices of.
    """
    path = pathlib.Path(path)
    if not is_huggingface(path):
        return load_run(path, mesh)
    with distributed.agreed():
        return _load_huggingface(path, mesh, dtype, **options)


def load_unrolled(path: str | os.PathLike, mesh: jax.sharding.Mesh | None) -> Bundle:
    """`load_model` for decoding and scoring on a `mesh`: layers unrolled, one copy of the model. None: `load_model`."""
    if mesh is None:
        return load_model(path)
    bundle = load_model(path, mesh, scan_layers=False)
    config, params = unroll(bundle.model_config, bundle.params, mesh, consume=True)
    return dataclasses.replace(bundle, model_config=config, params=params)


def _load_huggingface(path: pathlib.Path, mesh: jax.sharding.Mesh | None, dtype: str | None, **options) -> Bundle:
    tokenizer = ImportedTokenizer(path)
    found = load_pretrained(path, mesh, dtype, **options)
    if tokenizer.vocab_size > found.config.vocab_size:
        raise InputError(
            f"{path}: the tokenizer has ids up to {tokenizer.vocab_size - 1}, the model {found.config.vocab_size} embeddings"
        )
    gate, calibration = None, None
    if found.signal:
        gate = GateConfig.read(found.signal["gate"] or {}, str(path / SIGNAL_FACTS))
        calibration = found.signal["calibration"]
    changed = max(file.stat().st_mtime_ns for file in path.glob("*.safetensors"))
    identity = {"checkpoint": str(path.resolve()), "changed": changed}
    return Bundle(found.config, found.params, tokenizer, template_for(tokenizer), gate, calibration, identity)


def is_huggingface(path: pathlib.Path) -> bool:
    """Whether a directory is a Hugging Face model rather than a run (which keeps checkpoints/ beside its config.json)."""
    return (path / "config.json").is_file() and not (path / "checkpoints").is_dir()


def template_for(tokenizer: ImportedTokenizer):
    """The model's own chat template, else the typed one that fits its control tokens."""
    if tokenizer.chat_template is not None:
        return load_template("huggingface", tokenizer)
    needed = {"llama3": "<|start_header_id|>", "chatml": "<|im_start|>", "llama2": "<s>"}
    for name in FALLBACK_TEMPLATES:
        if needed[name] in tokenizer.controls:
            return get_template(name)
    raise InputError("this model has no chat template, and none of ours fits its control tokens")
