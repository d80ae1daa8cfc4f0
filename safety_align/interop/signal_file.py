"""The safety signal beside an exported model: what `safety_signal.json` says, and what vouches for it.

safety_signal.safetensors    the signal's arrays, float32 (see model/readout.py)
safety_signal.json           format, read-out, gate, calibration, canaries (see decoding/canaries.py), checksums

The checksums are the SHA-256 of the arrays' file, all of it, and a digest of the language model: names, dtypes and
shapes of its tensors, and a few kilobytes of each. So a damaged signal is refused, and a signal beside another model or
another training of the same one, unless that is asked for (`similar`) and `canaries.adopted` agrees. One flipped bit in the
model's own weights is not noticed: that would take reading all of them once more.
"""

import concurrent.futures
import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from safety_align import distributed
from safety_align.decoding.canaries import Canary, check_canaries
from safety_align.decoding.config import GateConfig
from safety_align.errors import InputError
from safety_align.files import read_bytes
from safety_align.interop.tensor_file import DTYPES, SIGNAL_FILE, Entry
from safety_align.model.readout import SignalConfig
from safety_align.strict_json import check_dataclass, read_json

SIGNAL_FACTS = "safety_signal.json"
SAMPLE_BYTES = 1024
"""Of each tensor's beginning, middle and end, that `model_digest` reads."""


class _Checksums(msgspec.Struct, forbid_unknown_fields=True):
    signal: str
    model: str


class _Facts(msgspec.Struct, forbid_unknown_fields=True):
    """Format 1 had neither canaries nor checksums, format 2 no other read-out than the paper's."""

    format: Literal[1, 2, 3]
    gate: dict[str, Any] | None
    calibration: dict[str, Any] | None
    canaries: list[Canary] | None = None
    checksums: _Checksums | None = None
    signal: dict[str, Any] | None = None
    trained_beside: str | None = None


@dataclasses.dataclass(frozen=True)
class SignalFacts:
    """What came with a signal; the first fields are those of `Bundle`. trained_beside: the digest of the model that it was
    trained beside, where that is not the one it stands beside."""

    gate: GateConfig
    calibration: dict | None = None
    canaries: tuple[Canary, ...] | None = None
    trained_beside: str | None = None


def has_signal(directory: pathlib.Path) -> bool:
    """Whether a model directory has a safety signal; InputError if it has half of one."""
    there = [(directory / name).exists() for name in (SIGNAL_FILE, SIGNAL_FACTS)]
    if any(there) and not all(there):
        raise InputError(f"{directory} has only one of {SIGNAL_FILE} and {SIGNAL_FACTS}; copy both or neither")
    return all(there)


def signal_directory(directory: pathlib.Path, signal: pathlib.Path | None) -> pathlib.Path:
    """Where the signal of the model in `directory` is, if it has one."""
    if signal is None:
        return directory
    if has_signal(directory):
        raise InputError(f"{directory} has a safety signal already; give the model without it, or leave {signal} out")
    if not has_signal(signal):
        raise InputError(f"{signal} is no safety signal: it needs {SIGNAL_FILE} and {SIGNAL_FACTS}")
    return signal


def readout_fields(directory: pathlib.Path) -> dict:
    """The fields of a `TransformerConfig` that say whether there is a signal in a directory, and what it reads."""
    there = has_signal(directory)
    return {"safety_signal": there} | ({"signal": read_readout(directory)} if there else {})


def read_readout(directory: pathlib.Path) -> SignalConfig:
    """What the signal beside a model reads, as `safety_signal.json` says."""
    path = directory / SIGNAL_FACTS
    found = read_json(path, _Facts)
    if (found.format == 3) != (found.signal is not None):
        raise InputError(f"{path}: a signal's read-out ('signal') is given in format 3, and in no other; copy it again")
    return check_dataclass(found.signal or {}, SignalConfig, f"{path}: signal")


def check_signal_arrays(entries: Mapping[str, Entry], shapes: Mapping, directory: pathlib.Path) -> None:
    """Raises InputError unless a signal's file has the arrays of `shapes`, floats, and no others."""
    for name in shapes:
        if name not in entries or entries[name].shape != shapes[name].shape or entries[name].dtype not in DTYPES:
            raise InputError(
                f"{directory / SIGNAL_FILE}: {name!r} is missing, or not a float of shape {shapes[name].shape}"
            )
    if extra := sorted(entries.keys() - set(shapes)):
        raise InputError(f"{directory / SIGNAL_FILE}: unexpected tensor {extra[0]!r}")


def read_signal_facts(
    directory: pathlib.Path, model: Mapping[str, Entry], apart: bool = False, similar: bool = False
) -> tuple[SignalFacts, bool]:
    """What `safety_signal.json` says, and whether the signal is still to be tested beside the `model` (`canaries.adopted`).

    InputError unless the signal's file is the one it was written for, and so are the `model`'s tensors. `apart`: the directory
    is not the model's. `similar`: the tensors may be others; then a calibration, which is of those, is left behind.
    """
    path = directory / SIGNAL_FACTS
    found = read_json(path, _Facts)
    if found.format == 1 and (found.checksums is not None or found.canaries is not None):
        raise InputError(f"{path} says format 1 but has checksums or canaries, which are of format 2; copy it again")
    untested = False
    if apart and found.checksums is None:
        raise InputError(
            f"{path} has no checksums, so nothing says which model the signal belongs to; copy it beside its own"
        )
    if found.format > 1:
        if found.checksums is None or found.gate is None:
            raise InputError(f"{path} of format {found.format} must have a gate and checksums; copy it again")
        if _sha256(directory / SIGNAL_FILE) != found.checksums.signal:
            raise InputError(
                f"{directory / SIGNAL_FILE} is not the file that {SIGNAL_FACTS} was written for; copy both again"
            )
        if model_digest(model) != found.checksums.model:
            if not apart:
                raise InputError(
                    f"{directory}: the safety signal belongs to another model than the one it stands beside; copy all "
                    "files of the directory that it was exported to"
                )
            if not similar:
                raise InputError(
                    f"{directory}: the safety signal belongs to another model than this one; if it is the same in another "
                    "form, --similar takes it where its test sentences hold"
                )
            if found.trained_beside is not None:  # each step may move its canaries: many steps would anywhere
                raise InputError(
                    f"{directory}: the safety signal has been put beside a similar model before; take the one that was trained"
                )
            untested = True
    canaries = None if found.canaries is None else check_canaries(found.canaries, str(path))
    gate, calibration = GateConfig.read(found.gate or {}, str(path)), None if untested else found.calibration
    if untested and found.calibration is not None:
        distributed.say(
            f"{directory}: its calibration is of the model that it was trained beside, and no longer holds; its threshold stays: "
            "choose one with launch.calibrate"
        )
    beside = found.checksums.model if untested else found.trained_beside
    return SignalFacts(gate, calibration, canaries, beside), untested


def write_signal_facts(
    directory: pathlib.Path, facts: SignalFacts, model: Mapping[str, Entry], readout: SignalConfig
) -> None:
    """Writes `safety_signal.json` for the arrays that are in `directory` already, and the `model`'s tensors."""
    paper = readout == SignalConfig()
    values = {
        "format": 2 if paper else 3,
        **({} if paper else {"signal": dataclasses.asdict(readout)}),
        "gate": dataclasses.asdict(facts.gate),
        "calibration": facts.calibration,
        "canaries": msgspec.to_builtins(facts.canaries),
        "checksums": {"signal": _sha256(directory / SIGNAL_FILE), "model": model_digest(model)},
        **({} if facts.trained_beside is None else {"trained_beside": facts.trained_beside}),
    }
    (directory / SIGNAL_FACTS).write_text(json.dumps(values, indent=2) + "\n", "utf-8")


def model_digest(model: Mapping[str, Entry]) -> str:
    """SHA-256 of names, dtypes, shapes and samples of tensors, whichever files they are in."""
    whole = hashlib.sha256()
    names: Sequence[str] = sorted(model)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for name, sample in zip(names, pool.map(lambda name: _sample(model[name]), names), strict=True):
            entry = model[name]
            whole.update(json.dumps([name, entry.dtype, entry.shape, sample]).encode())
    return whole.hexdigest()


def _sample(entry: Entry) -> str:
    last = max(entry.start, entry.stop - SAMPLE_BYTES)
    found = hashlib.sha256()
    with entry.path.open("rb") as file:
        for place in (entry.start, (entry.start + last) // 2, last):
            file.seek(place)
            found.update(file.read(min(SAMPLE_BYTES, entry.stop - place)))
    return found.hexdigest()


def _sha256(path: pathlib.Path) -> str:
    return hashlib.sha256(read_bytes(path)).hexdigest()
