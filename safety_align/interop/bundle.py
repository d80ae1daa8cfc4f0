"""Any model that this project can read, by its directory: a training run, or a Hugging Face model, also by its name on
the hub (hub.py)."""

import dataclasses
import functools
import os
import pathlib

import jax

from safety_align import distributed
from safety_align.bundle import Bundle
from safety_align.decoding.canaries import check_signal
from safety_align.errors import InputError
from safety_align.interop import hub
from safety_align.interop.huggingface import Pretrained, load_pretrained, read_model_config
from safety_align.interop.tensor_file import open_checkpoint
from safety_align.model import TransformerConfig, for_decoding, unroll
from safety_align.model.layouts import lay_out
from safety_align.model.quantized import check_weights, quantize_params
from safety_align.text import ImportedTokenizer, get_template, load_template
from safety_align.training.checkpoint import load_run

FALLBACK_TEMPLATES = ("llama3", "chatml", "llama2")
"""Typed templates for a model that came without a default one: the first whose control tokens the tokenizer has."""


def load_model(
    path: str | os.PathLike,
    mesh: jax.sharding.Mesh | None = None,
    dtype: str | None = None,
    *,
    test: bool = True,
    **options,
) -> Bundle:
    """Reads `path`: a run's workdir, one of its steps, or a Hugging Face directory (`options`: see `load_pretrained`).

    Args:
      path: where the model is; of the hub, what it is called there.
      mesh: where parameters go, by the rules table; None: the first device.
      dtype: of parameters and activations, "float32" or "bfloat16"; the signal stays float32. None: of a run as it was
        trained, of a directory as it is stored.
      test: test the safety signal (see decoding/canaries.py); off where it is not going to be used.

    Raises InputError where it is neither, where tokenizer and vocabulary do not match, or where the safety signal no
    longer measures. Several processes call it together, each with a `mesh` that it has devices of.
    """
    with distributed.agreed():
        path, name = _found(path)
    if not is_huggingface(path):
        if options.get("weights"):
            raise InputError(f"{path} is a run, whose weights load_unrolled rounds, once its layers are unrolled")
        return load_run(path, mesh, functools.partial(_in_dtype, dtype=dtype), test)
    with distributed.agreed():
        bundle = to_bundle(path, load_pretrained(path, mesh, dtype, **options), name)
    if test and bundle.model_config.safety_signal:
        rounded = options.get("weights")
        check_signal(bundle, f"{path}, its weights rounded to {rounded}" if rounded else str(path), mesh)
    return bundle


def load_unrolled(
    path: str | os.PathLike, mesh: jax.sharding.Mesh | None, dtype: str | None = None, weights: str | None = None
) -> Bundle:
    """`load_model` for decoding and scoring: layers unrolled, one copy of the model.

    Args:
      path, mesh: as of `load_model`.
      dtype: None: of a run the dtype of its activations, in which every product is computed anyway (`for_decoding`); of a
        Hugging Face directory `default_dtype`.
      weights: "int8": rounded to a byte each (model/quantized.py). A calibration is of the weights that were, and is left
        behind, which is said; the threshold stays.
    """
    with distributed.agreed():
        check_weights(weights)
        path, name = _found(path)
        if dtype is None and is_huggingface(path):
            platform = jax.default_backend() if mesh is None else mesh.devices.flat[0].platform
            dtype = default_dtype(str(name or path), stored_dtype(path), platform, "--dtype")
    if is_huggingface(path):
        bundle = load_model(name or path, mesh, dtype, scan_layers=False, weights=weights)
    else:
        bundle = load_run(path, mesh, lambda config: for_decoding(config, dtype, unrolled=False))
    config, params = unroll(bundle.model_config, bundle.params, mesh, consume=True)
    if weights is None:
        return dataclasses.replace(bundle, model_config=config, params=lay_out(params))
    return _rounded(dataclasses.replace(bundle, model_config=config, params=params), weights, str(name or path), mesh)


def _rounded(bundle: Bundle, weights: str, name: str, mesh: jax.sharding.Mesh | None) -> Bundle:
    """With weights that are rounded, if they are not yet, and what goes with that: the signal is tested again, and a calibration
    is left behind."""
    if bundle.model_config.param_dtype != weights:
        config = dataclasses.replace(bundle.model_config, param_dtype=weights)
        bundle = dataclasses.replace(bundle, model_config=config, params=quantize_params(bundle.params, consume=True))
        if config.safety_signal:
            check_signal(bundle, f"{name}, its weights rounded to {weights}", mesh)
    if bundle.calibration is not None:
        distributed.say(
            f"{name}: its calibration is of weights that were not rounded to {weights}, and no longer holds; its threshold stays: "
            "choose one with launch.calibrate and the same --weights"
        )
    return dataclasses.replace(bundle, calibration=None)


def _in_dtype(config: TransformerConfig, dtype: str | None) -> TransformerConfig:
    return config if dtype is None else dataclasses.replace(config, dtype=dtype, param_dtype=dtype)


def _found(path: str | os.PathLike) -> tuple[pathlib.Path, str | None]:
    """(where the model is, what it is called on the hub, with its commit, or None)."""
    name = hub.pinned(path)
    return hub.directory(name), None if hub.parse(name) is None else name


def stored_dtype(path: pathlib.Path) -> str:
    """ "bfloat16" or "float32": what a Hugging Face directory is read as by default: bfloat16 if all its weights are.
    Where they are not there (yet), what config.json says."""
    try:
        found = {entry.dtype for entry in open_checkpoint(path).values()} == {"BF16"}
    except InputError:  # not all there: a download that broke off, say; loading will say what is wrong
        values = read_model_config(path)
        found = (values.get("dtype") or values.get("torch_dtype")) == "bfloat16"
    return "bfloat16" if found else "float32"


def default_dtype(name: str, stored: str, platform: str, option: str) -> str:
    """The dtype that a model is computed in unless `option` says otherwise, said on stderr: as it is stored, but for
    bfloat16 on a CPU, which widens every weight at every step: float32."""
    if stored == "bfloat16" and platform == "cpu":
        distributed.say(
            f"{name}: stored in bfloat16, computed in float32, which is faster on a CPU ({option}=bfloat16: as stored)"
        )
        return "float32"
    distributed.say(f"{name}: computed in {stored}, as it is stored")
    return stored


def to_bundle(path: pathlib.Path, found: Pretrained, name: str | None = None) -> Bundle:
    """What was read from `path`, with its tokenizer and template; InputError where they do not match. `name`: of a model of
    the hub, with its commit: then what it is goes by that."""
    tokenizer = read_tokenizer(path, found)
    names = ("gate", "calibration", "canaries")
    kept = {} if found.signal is None else {name: getattr(found.signal, name) for name in names}
    identity: dict = {"checkpoint": name}
    if name is None:
        changed = max(file.stat().st_mtime_ns for file in path.glob("*.safetensors"))
        identity = {"checkpoint": str(path.resolve()), "changed": changed}
    return Bundle(found.config, found.params, tokenizer, template_for(tokenizer), config=identity, **kept)


def read_tokenizer(path: pathlib.Path, found: Pretrained) -> ImportedTokenizer:
    """The tokenizer beside a model; InputError if it has more ids than the model has embeddings."""
    tokenizer = ImportedTokenizer(path)
    if tokenizer.vocab_size > found.config.vocab_size:
        raise InputError(
            f"{path}: the tokenizer has ids up to {tokenizer.vocab_size - 1}, the model {found.config.vocab_size} embeddings"
        )
    return tokenizer


def is_huggingface(path: pathlib.Path) -> bool:
    """Whether a directory is a Hugging Face model rather than a run (which keeps checkpoints/ beside its config.json)."""
    try:
        return (path / "config.json").is_file() and not (path / "checkpoints").is_dir()
    except OSError as error:  # a name that is too long, say
        raise InputError(f"{path} cannot be read: {error.strerror}; give the directory of a model") from error


def template_for(tokenizer: ImportedTokenizer):
    """The model's own chat template, if it has a default one; else the typed one that fits its control tokens."""
    if "default" in tokenizer.files.chat_templates:
        return load_template("huggingface", tokenizer)
    needed = {"llama3": "<|start_header_id|>", "chatml": "<|im_start|>", "llama2": "<s>"}
    for name in FALLBACK_TEMPLATES:
        if needed[name] in tokenizer.controls:
            return get_template(name)
    raise InputError("this model has no default chat template, and none of ours fits its control tokens")
