"""One model directory or file → a Hugging Face directory."""

import dataclasses
import pathlib
import tempfile
from collections.abc import Callable

import jax

from safety_align.decoding.canaries import adopted, check_signal
from safety_align.errors import InputError
from safety_align.files import check_new_directory
from safety_align.interop import hub
from safety_align.interop.bundle import is_huggingface, read_tokenizer, to_bundle
from safety_align.interop.export import save_tokenizer_files
from safety_align.interop.huggingface import checkpoint_bytes, load_pretrained, save_pretrained
from safety_align.interop.llama2c import load_llama2c, read_llama2c_tokenizer
from safety_align.interop.signal_file import SignalFacts
from safety_align.model.huggingface_config import family_of, write_config
from safety_align.model.readout import split_signal
from safety_align.training.checkpoint import load_run

FORMATS = ("huggingface", "run", "llama2c")
"""What can be read: a Hugging Face directory, a training run of ours, a llama2.c file."""


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a conversion did. bytes: of the language model as stored; signal: the safety signal came along."""

    source: str
    family: str
    parameters: int
    bytes: int
    dtype: str
    tensors: int
    signal: bool


def detect(source: pathlib.Path) -> str:
    """The format of `source`; InputError if it is none that is known."""
    if is_huggingface(source):
        return "huggingface"
    if source.is_file():
        return "llama2c"
    if (source / "checkpoints").is_dir() or source.parent.name == "checkpoints":
        return "run"
    raise InputError(f"{source} is not a model: no run, no Hugging Face directory, no llama2.c file")


def convert(
    source: pathlib.Path,
    target: pathlib.Path,
    source_format: str | None = None,
    dtype: str | None = None,
    tokenizer: pathlib.Path | None = None,
    allow_non_finite: bool = False,
    progress: Callable[[int], None] | None = None,
    calibration: dict | None = None,
    signal: pathlib.Path | None = None,
    similar: bool = False,
) -> Summary:
    """Reads `source` (see `FORMATS`) and writes the Hugging Face directory `target`, which must not exist.

    `tokenizer`: the tokenizer file of a llama2.c model. `progress` is called with bytes read, then written. `calibration`:
    goes into the gate, with its threshold (`evaluation.calibration.read_calibration`). `signal`: the directory of a safety
    signal, for a Hugging Face directory without one; `similar`: the signal may be of another model, if it works beside this one
    (`canaries.adopted`).
    """
    check_new_directory(target)
    source = hub.directory(source)
    source_format = source_format or detect(source)
    if signal is not None and source_format != "huggingface":
        raise InputError(f"{source} is no Hugging Face directory: --signal goes beside one")
    values, facts = None, None
    with tempfile.TemporaryDirectory() as folder:
        assets = pathlib.Path(folder)
        if source_format == "huggingface":
            found = load_pretrained(
                source, allow_non_finite=allow_non_finite, progress=progress, signal=signal, similar=similar
            )
            config, params, values, assets = found.config, found.params, found.values, source
            facts = found.signal
            if (source / "tokenizer.json").is_file() or (source / "tokenizer.model").is_file():
                read_tokenizer(source, found)
            if facts is not None and found.untested:
                facts = dataclasses.replace(facts, canaries=adopted(to_bundle(source, found), str(signal)))
            elif facts is not None:
                check_signal(to_bundle(source, found), str(signal or source))
        elif source_format == "run":
            bundle = load_run(source)
            config, params = bundle.model_config, bundle.params
            if bundle.gate is not None:
                facts = SignalFacts(bundle.gate, bundle.calibration, bundle.canaries)
            save_tokenizer_files(bundle.tokenizer, bundle.template, assets)
            ids = {"bos_token_id": bundle.tokenizer.bos_id, "eos_token_id": bundle.tokenizer.eos_id}
            values = write_config(config, family_of(config), ids)
        elif source_format == "llama2c":
            config, params = load_llama2c(source)
            values = write_config(config, family_of(config), {"bos_token_id": 1, "eos_token_id": 2})
            if tokenizer is not None:
                (assets / "tokenizer.model").write_bytes(read_llama2c_tokenizer(tokenizer))
        else:
            raise InputError(f"format {source_format!r} is not one of {', '.join(FORMATS)}")
        if calibration is not None:
            if facts is None:
                raise InputError(f"{source} has no safety signal that a calibration could belong to")
            if rounded := calibration["about"].get("weights"):
                raise InputError(
                    f"this calibration was made with weights that were rounded to {rounded}, and what is written is not: run "
                    "launch.calibrate without --weights"
                )
            # A threshold is one of what was measured: with the second reading, or without.
            measured = calibration["about"].get("config", {}).get("gate") or {}
            reread = measured.get("reread", facts.gate.reread)
            gate = dataclasses.replace(facts.gate, threshold=calibration["threshold"], reread=reread)
            facts = dataclasses.replace(facts, gate=gate, calibration=calibration)
        save_pretrained(
            target, config, params, values=values, dtype=dtype, assets=assets, signal=facts, progress=progress,
        )  # fmt: skip
    plain = split_signal(params)[1]
    layers = config.layers if config.scan_layers else 1
    return Summary(
        source=source_format,
        family=values["model_type"],
        parameters=sum(leaf.size for leaf in jax.tree.leaves(plain)),
        bytes=checkpoint_bytes(target),
        dtype=dtype or config.param_dtype,
        tensors=sum(layers if path[0].key == "layers" else 1 for path, _ in jax.tree_util.tree_leaves_with_path(plain)),
        signal=config.safety_signal,
    )
