"""Reading and writing safetensors by ranges of rows, so that no more than a few megabytes are ever held.

The safetensors package maps a whole file, and every page it touches then counts as resident; here each range is read
by itself. Format: 8 bytes little-endian header size, JSON header {name: {dtype, shape, data_offsets}}, data.
"""

import json
import math
import os
import pathlib
from collections.abc import Callable, Iterable
from typing import Annotated, Any, NamedTuple

import ml_dtypes
import msgspec
import numpy as np

from safety_align.errors import InputError
from safety_align.files import check_file
from safety_align.strict_json import check_type, parse_json, read_json

DTYPES = {"F32": np.dtype(np.float32), "F16": np.dtype(np.float16), "BF16": np.dtype(ml_dtypes.bfloat16)}
"""Stored dtypes that are weights; integers and 8-bit floats are quantised models, which are refused."""

CHUNK_BYTES = 2 << 20
"""What is read at a time: it stays in a core's cache until it is where it belongs."""
SINGLE, INDEX, SIGNAL_FILE = "model.safetensors", "model.safetensors.index.json", "safety_signal.safetensors"
ADAPTER = "adapter_model.safetensors"
_HEADER_LIMIT = 100_000_000


class _Tensor(msgspec.Struct, forbid_unknown_fields=True):
    """A tensor as a header describes it."""

    dtype: str
    shape: list[Annotated[int, msgspec.Meta(ge=0)]]
    data_offsets: tuple[Annotated[int, msgspec.Meta(ge=0)], Annotated[int, msgspec.Meta(ge=0)]]


class _Index(msgspec.Struct):
    """Which tensor is in which file."""

    weight_map: dict[str, str]


class Entry(NamedTuple):
    """One tensor of a file: dtype as spelled there, shape, and bytes `[start, stop)` of the file."""

    path: pathlib.Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def read_header(path: pathlib.Path) -> dict[str, Entry]:
    """The tensors of a safetensors file; InputError if it is truncated or malformed."""

    def refuse(why: str):
        return InputError(f"{path}: {why}; download or copy it again")

    check_file(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or length > min(size - 8, _HEADER_LIMIT):
            raise refuse("not a safetensors file, or cut off in its header")
        text = file.read(length)

    where = f"the header of {path}"
    header = parse_json(text, where, dict[str, Any])
    header.pop("__metadata__", None)
    base, entries = 8 + length, {}
    for name, tensor in check_type(header, dict[str, _Tensor], where).items():
        start, stop = tensor.data_offsets
        entries[name] = Entry(path, tensor.dtype, tuple(tensor.shape), base + start, base + stop)
    place = base
    for name, entry in sorted(entries.items(), key=lambda item: item[1].start):
        if entry.start != place or entry.stop < entry.start:
            raise refuse(f"the bytes of {name!r} do not follow those of the tensor before it")
        place = entry.stop
        known = DTYPES.get(entry.dtype)
        if known is not None and entry.stop - entry.start != math.prod(entry.shape) * known.itemsize:
            raise refuse(f"{name!r} has {entry.stop - entry.start} bytes, not those of shape {entry.shape}")
    if place != size:
        raise refuse(f"{'cut off' if place > size else 'too long'}: {size} bytes, its header speaks of {place}")
    return entries


def open_checkpoint(directory: pathlib.Path) -> dict[str, Entry]:
    """All tensors of a model directory: those of the index, or of `model.safetensors`, or of the only file of weights.

    Other weights beside them (`consolidated`, an adapter's) are not the model. InputError if it is unclear which files
    are, or if they do not agree.
    """
    if not directory.is_dir():
        raise InputError(f"{directory} is not a directory")
    index = directory / INDEX
    if index.exists():
        return _open_indexed(directory, index)
    files = sorted(p for p in directory.glob("*.safetensors") if p.name not in (SIGNAL_FILE, ADAPTER))
    if (directory / SINGLE).exists():
        files = [directory / SINGLE]
    if not files and (directory / ADAPTER).exists():
        raise InputError(f"{directory} has only an adapter's weights ({ADAPTER}); merge it into its model first")
    if not files:
        pickles = sorted(p.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for p in directory.glob(pattern))
        if pickles:
            raise InputError(
                f"{directory} has only pickled weights ({pickles[0]}): reading a pickle runs any code that is in it; "
                "save the model as safetensors"
            )
        raise InputError(f"{directory} has no *.safetensors file: it is not the directory of a model")
    if len(files) > 1:
        raise InputError(f"{directory} has {len(files)} safetensors files but no {INDEX}; which belong together?")
    return read_header(files[0])


def _open_indexed(directory: pathlib.Path, index: pathlib.Path) -> dict[str, Entry]:
    wanted = read_json(index, _Index).weight_map
    if (directory / SINGLE).exists() and SINGLE not in wanted.values():
        raise InputError(f"{directory} has both {SINGLE} and an index of other files: two models; remove one of them")
    entries: dict[str, Entry] = {}
    for file in sorted(set(wanted.values())):
        if pathlib.PurePath(file).name != file:
            raise InputError(f"{index} names {file!r}, which is not a file name")
        if not (directory / file).is_file():
            raise InputError(f"{index} names {file}, which is not there; download it")
        for name, entry in read_header(directory / file).items():
            if wanted.get(name) != file:
                raise InputError(f"{file}: tensor {name!r} is not in {INDEX}, or is there for another file")
            entries[name] = entry
    if absent := sorted(wanted.keys() - entries.keys()):
        raise InputError(f"tensor {absent[0]!r} is in {INDEX} but not in {wanted[absent[0]]}")
    return entries


def row_blocks(entry: Entry, rows: tuple[int, int]) -> list[tuple[int, int]]:
    """Rows `[lo, hi)` of a tensor taken as a matrix (one row if it is a vector), in blocks of about `CHUNK_BYTES`."""
    step = max(1, CHUNK_BYTES // (_width(entry) * DTYPES[entry.dtype].itemsize))
    return [(row, min(row + step, rows[1])) for row in range(*rows, step)]


def read_block(
    entry: Entry, rows: tuple[int, int], columns: tuple[int, int], into: np.ndarray | None = None
) -> np.ndarray:
    """Rows and columns `[lo, hi)` of a tensor taken as a matrix, [rows, columns] in the stored dtype; read straight into
    the memory of `into`, an array of that shape and dtype, where that can be done."""
    dtype, width, count = DTYPES[entry.dtype], _width(entry), rows[1] - rows[0]
    lo, hi = columns if count == 1 else (0, width)
    if into is not None and into.flags.c_contiguous and into.dtype == dtype and into.shape == (count, hi - lo):
        block = into
    else:
        block = np.empty((count, hi - lo), dtype)
    with entry.path.open("rb", buffering=0) as file:
        file.seek(entry.start + (rows[0] * width + lo) * dtype.itemsize)
        _read_into(file, memoryview(block.reshape(-1).view(np.uint8)), entry)
    return block if count == 1 else block[:, columns[0] : columns[1]]


def _width(entry: Entry) -> int:
    return max(1, entry.shape[-1]) if entry.shape else 1


def _read_into(file, view: memoryview, entry: Entry) -> None:
    while view:
        count = file.readinto(view)
        if not count:
            raise InputError(f"{entry.path} became shorter while it was read")
        view = view[count:]


def has_non_finite(values: np.ndarray) -> bool:
    """Whether a float array has NaN or infinity: an exponent of ones."""
    bits, ones = {
        "float32": (np.uint32, 0x7F800000),
        "float16": (np.uint16, 0x7C00),
        "bfloat16": (np.uint16, 0x7F80),
    }[values.dtype.name]
    exponents = np.ascontiguousarray(values).view(bits) & bits(ones)
    return bool(exponents.size and exponents.max() == ones)


def write_file(
    path: pathlib.Path,
    tensors: Iterable[tuple[str, tuple[int, ...], np.dtype, Callable[[], np.ndarray]]],
    progress: Callable[[int], None] | None = None,
) -> None:
    """Writes (name, shape, dtype, function that makes the array) in turn; one array is held at a time."""
    tensors = list(tensors)
    spelled = {dtype: name for name, dtype in DTYPES.items()}
    header, place = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, dtype, _ in tensors:
        size = int(np.prod(shape)) * dtype.itemsize
        header[name] = {"dtype": spelled[dtype], "shape": list(shape), "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape, dtype, make in tensors:
            array = np.asarray(make(), order="C")
            if array.shape != shape or array.dtype != dtype:
                raise ValueError(f"{name}: {array.dtype}{array.shape} instead of {dtype}{shape}")
            file.write(array.reshape(-1).view(np.uint8).data)
            if progress is not None:
                progress(array.nbytes)
        file.flush()
        os.fsync(file.fileno())
