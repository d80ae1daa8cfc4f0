"""Hugging Face model directories in and out: safetensors ↔ sharded parameters, bit for bit.

Every device shard is read straight from the file, a few megabytes at a time: no host ever holds the whole model. The
safety signal travels beside the model as `safety_signal.safetensors` and `safety_signal.json`; the model itself stays
one that `transformers` loads unchanged.
"""

import concurrent.futures
import dataclasses
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import numpy as np

from safety_align import distributed, sharding
from safety_align.decoding.config import GateConfig
from safety_align.errors import InputError
from safety_align.files import check_new_directory, new_directory
from safety_align.interop.signal_file import (
    SIGNAL_FACTS,
    SignalFacts,
    check_signal_arrays,
    read_signal_facts,
    readout_fields,
    signal_directory,
    write_signal_facts,
)
from safety_align.interop.tensor_file import (
    DTYPES,
    INDEX,
    SIGNAL_FILE,
    Entry,
    has_non_finite,
    open_checkpoint,
    read_block,
    read_header,
    row_blocks,
    write_file,
)
from safety_align.interop.weight_table import DERIVED, Weight, axis_range, matrix_axes, stored_shape, table_of
from safety_align.model import TransformerConfig, abstract_params
from safety_align.model.config import RUNTIME_FIELDS
from safety_align.model.huggingface_config import family_of, read_config, write_config
from safety_align.model.quantized import check_weights, quantize_leaf
from safety_align.model.readout import signal_shapes, split_signal
from safety_align.strict_json import read_json

_NAMES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
ADAPTER_FACTS = "adapter_config.json"
_WEIGHT_FILES = (
    "*.safetensors",
    "*.bin",
    "*.pt",
    "*.pth",
    "*.ckpt",
    "*.gguf",
    "*.h5",
    "*.msgpack",
    INDEX,
    SIGNAL_FACTS,
    ADAPTER_FACTS,
)


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A model read from a directory.

    config: with `safety_signal` where the directory has one; params: unboxed; family: a key of `TABLES`; values: the
    parsed config.json; signal: what came with its safety signal, or None; untested: the signal was trained beside another
    model, and `canaries.adopted` has not looked at it.
    """

    config: TransformerConfig
    params: dict
    family: str
    values: dict
    signal: SignalFacts | None
    untested: bool = False


def load_pretrained(
    directory: str | os.PathLike,
    mesh: jax.sharding.Mesh | None = None,
    dtype: str | None = None,
    *,
    weights: str | None = None,
    signal: pathlib.Path | None = None,
    similar: bool = False,
    allow_non_finite: bool = False,
    progress: Callable[[int], None] | None = None,
    **overrides,
) -> Pretrained:
    """Reads a Llama, Mistral or Qwen directory (method: one table per family; see weight_table.py).

    Args:
      directory: config.json and safetensors files, one or several with an index. Pickles are refused.
      mesh: where parameters go, by the rules table; None: the first device.
      dtype: of parameters and activations, "float32" or "bfloat16"; None: bfloat16 if the files are, else float32.
      weights: "int8": rounded to a byte each (model/quantized.py), one after the other; with `scan_layers=False` alone.
      signal: where its safety signal is, if not beside it; similar: it may have been trained beside another model (then it is
        `untested`).
      allow_non_finite: accept NaN and infinite weights.
      progress: called with the bytes of each parameter read.
      overrides: other fields of the config (`scan_layers`, `remat`).

    Raises InputError that names the tensor which is missing, unexpected, duplicated, truncated, of the wrong shape or
    dtype, or not finite.
    """
    check_weights(weights)
    if similar and signal is None:
        raise InputError("similar is of a signal that stands apart from the model; there is none")
    directory = pathlib.Path(directory)
    values = read_model_config(directory)
    entries = open_checkpoint(directory)
    beside = signal_directory(directory, signal)
    dtype = dtype or ("bfloat16" if {e.dtype for e in entries.values()} == {"BF16"} else "float32")
    config = TransformerConfig.from_huggingface(
        values, dtype=dtype, param_dtype=dtype, **readout_fields(beside), **overrides
    )
    family = values["model_type"]
    boxed = abstract_params(config)
    shapes = _flat(nn.unbox(boxed))
    if mesh is None:
        only = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        where = dict.fromkeys(shapes, only)
    else:
        where = _flat(sharding.param_shardings(mesh, boxed))
    plan = _plan(config, family, shapes)
    _check(entries, plan, shapes, config, directory)
    facts, untested = None, False
    if config.safety_signal:
        model = {name: entries[name] for _, names in plan.values() for name in names}
        facts, untested = read_signal_facts(beside, model, signal is not None, similar)
        arrays = read_header(beside / SIGNAL_FILE)
        check_signal_arrays(arrays, split_signal(shapes)[0], beside)
        entries = entries | arrays
        plan |= {name: (Weight(name, name), [name]) for name in signal_shapes(config)}
    if (directory / ADAPTER_FACTS).exists():
        distributed.say(
            f"{directory}: {ADAPTER_FACTS} describes an adapter; it is not applied, the model alone is read"
        )
    if weights is not None:
        config = dataclasses.replace(config, param_dtype=weights)
    params = {}
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, (weight, names) in plan.items():
            shape = shapes[path].shape
            stacked = weight.layered and config.scan_layers
            dtype = np.dtype(shapes[path].dtype)
            found = [entries[name] for name in names]
            placed = _place(found, names, weight, stacked, shape, dtype, where[path], allow_non_finite, pool)
            params[path] = placed if weights is None else quantize_leaf(path.rsplit("/")[-1], placed, consume=True)
            if progress is not None:
                progress(sum(entries[name].stop - entries[name].start for name in names))
    return Pretrained(config, flax.traverse_util.unflatten_dict(params, sep="/"), family, values, facts, untested)


def read_model_config(directory: pathlib.Path) -> dict:
    """The parsed config.json of a model directory."""
    path = directory / "config.json"
    if not path.exists():
        raise InputError(f"{directory} has no config.json: it is not the directory of a Hugging Face model")
    values = read_json(path, dict[str, Any])
    read_config(values)
    return values


def checkpoint_bytes(directory: str | os.PathLike) -> int:
    """Bytes of all tensors of a model directory: the total of `progress`, the signal's aside."""
    return sum(entry.stop - entry.start for entry in open_checkpoint(pathlib.Path(directory)).values())


def save_pretrained(
    directory: str | os.PathLike,
    config: TransformerConfig,
    params: dict,
    *,
    values: dict | None = None,
    dtype: str | None = None,
    assets: str | os.PathLike | None = None,
    signal: SignalFacts | None = None,
    file_bytes: int = 5_000_000_000,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Writes a model as a Hugging Face directory, and its safety signal beside it.

    Args:
      directory: must not exist; it appears whole, or not at all.
      config, params: the model, scanned or unrolled, on any mesh of this process.
      values: the config.json to keep (a `Pretrained.values`); None writes one for the config's family.
      dtype: stored dtype; None keeps the parameters'. "float16" is allowed.
      assets: a model directory whose other files (tokenizer, templates, generation config) are copied.
      signal: kept in safety_signal.json, with checksums; None: the default gate, and nothing to test it by.
      file_bytes: a file is at most that large, unless one tensor is.
    """
    directory = pathlib.Path(directory)
    check_new_directory(directory)
    dtype = dtype or config.param_dtype
    if dtype not in _NAMES:
        raise InputError(f"dtype {dtype!r} is not one of {', '.join(_NAMES)}")
    values = _config_to_write(config, values, dtype)
    family = values["model_type"]
    flat = _flat(params)
    if any(not leaf.is_fully_addressable for leaf in flat.values() if isinstance(leaf, jax.Array)):
        raise InputError("saving needs all parameters in this process; run it on one host")
    stored = DTYPES[_NAMES[dtype]]
    plan = _plan(config, family, split_signal(flat)[1])
    tensors = _tensors(plan, flat, stored, config)
    with new_directory(directory) as beside:
        (beside / "config.json").write_text(json.dumps(values, indent=2) + "\n", "utf-8")
        _write_files(beside, tensors, file_bytes, progress)
        if config.safety_signal:
            whole = DTYPES["F32"]
            arrays = [
                (n, flat[n].shape, whole, lambda n=n: np.asarray(flat[n]).astype(whole)) for n in signal_shapes(config)
            ]
            write_file(beside / SIGNAL_FILE, arrays)
            write_signal_facts(beside, signal or SignalFacts(GateConfig()), open_checkpoint(beside), config.signal)
        if assets is not None:
            _copy_assets(pathlib.Path(assets), beside)


def planned_tensors(config: TransformerConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors that a model of `config` is stored as."""
    shapes = split_signal(_flat(nn.unbox(abstract_params(config))))[1]
    plan = _plan(config, family_of(config), shapes)
    return {
        name: stored_shape(w, shapes[path].shape[1:] if w.layered and config.scan_layers else shapes[path].shape)
        for path, (w, names) in plan.items()
        for name in names
    }


def _config_to_write(config: TransformerConfig, values: dict | None, dtype: str) -> dict:
    if values is None:
        return write_config(config, family_of(config), {"torch_dtype": dtype})
    described = TransformerConfig.from_huggingface(values)
    for field in dataclasses.fields(config):
        ours, theirs = getattr(config, field.name), getattr(described, field.name)
        if field.name not in RUNTIME_FIELDS and ours != theirs:
            raise InputError(f"config.json says {field.name} = {theirs!r}, the model has {ours!r}")
    spelled = "dtype" if "dtype" in values and "torch_dtype" not in values else "torch_dtype"
    return values if values.get(spelled) == dtype else values | {spelled: dtype}


def _tensors(plan, flat, stored: np.dtype, config: TransformerConfig):
    """(name, shape, dtype, maker) of every tensor, layer by layer."""
    tensors = []
    for path, (weight, names) in plan.items():
        stacked = weight.layered and config.scan_layers
        for layer, name in enumerate(names):
            shape = flat[path].shape[1:] if stacked else flat[path].shape

            def make(path=path, weight=weight, layer=layer, stacked=stacked, shape=shape):
                value = np.asarray(flat[path][layer] if stacked else flat[path])
                rows, _ = matrix_axes(weight.path, len(shape))
                if rows:
                    value = value.reshape(int(np.prod([shape[a] for a in rows])), -1)
                value = (value.T if weight.transpose else value).astype(stored)
                return value.reshape(stored_shape(weight, shape))

            order = int(name.split(".")[2]) if weight.layered else -1
            tensors.append((order, name, stored_shape(weight, shape), stored, make))
    return [tensor[1:] for tensor in sorted(tensors, key=lambda t: t[0])]


def _write_files(directory: pathlib.Path, tensors: Sequence, file_bytes: int, progress) -> None:
    groups, room = [[]], file_bytes
    for tensor in tensors:
        size = int(np.prod(tensor[1])) * tensor[2].itemsize
        if groups[-1] and size > room:
            groups.append([])
            room = file_bytes
        groups[-1].append(tensor)
        room -= size
    if len(groups) == 1:
        write_file(directory / "model.safetensors", groups[0], progress)
        return
    where, total = {}, 0
    for number, group in enumerate(groups, 1):
        name = f"model-{number:05}-of-{len(groups):05}.safetensors"
        write_file(directory / name, group, progress)
        where |= {tensor[0]: name for tensor in group}
        total += sum(int(np.prod(t[1])) * t[2].itemsize for t in group)
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (directory / INDEX).write_text(json.dumps(index, indent=2) + "\n", "utf-8")


def _copy_assets(source: pathlib.Path, target: pathlib.Path) -> None:
    for file in sorted(source.iterdir()):
        if not file.is_file() or file.name.startswith(".") or (target / file.name).exists():
            continue
        if not any(file.match(pattern) for pattern in _WEIGHT_FILES):
            shutil.copyfile(file, target / file.name)


def _flat(tree) -> dict:
    return flax.traverse_util.flatten_dict(tree, sep="/")


def _plan(config: TransformerConfig, family: str, leaves: dict) -> dict[str, tuple[Weight, list[str]]]:
    """Parameter path → its row of the table and its tensors: one, or one per layer where layers are stacked."""
    plan = {}
    for weight in table_of(family, config):
        if not weight.layered:
            plan[weight.path] = weight, [weight.name]
        elif config.scan_layers:
            plan[f"layers/block/{weight.path}"] = weight, [weight.name.format(i) for i in range(config.layers)]
        else:
            plan |= {f"layer_{i}/{weight.path}": (weight, [weight.name.format(i)]) for i in range(config.layers)}
    odd = sorted(split_signal(leaves)[1].keys() ^ plan.keys())
    if odd:
        raise InputError(f"parameter {odd[0]!r} and the table of {family} do not agree")
    return plan


def _check(entries: dict[str, Entry], plan, shapes, config: TransformerConfig, directory: pathlib.Path) -> None:
    """Every tensor is expected, and every expected one is there with its shape and a dtype that is a weight's."""
    wanted = {}
    for path, (weight, names) in plan.items():
        shape = shapes[path].shape[1:] if weight.layered and config.scan_layers else shapes[path].shape
        wanted |= dict.fromkeys(names, stored_shape(weight, shape))
    for name, shape in wanted.items():
        if name not in entries:
            raise InputError(f"{directory}: tensor {name!r} is missing")
        if entries[name].shape != shape:
            raise InputError(
                f"{directory}: tensor {name!r} has shape {entries[name].shape}, config.json implies {shape}"
            )
    for name in sorted(entries.keys() - wanted.keys()):
        if DERIVED.fullmatch(name):
            continue
        if (
            name == "lm_head.weight"
            and config.tied_embeddings
            and _equal(entries[name], entries["model.embed_tokens.weight"])
        ):
            continue  # a tied head, stored twice
        raise InputError(f"{directory}: unexpected tensor {name!r}; config.json describes no such weight")
    for name in wanted:
        if entries[name].dtype not in DTYPES:
            raise InputError(
                f"{directory}: tensor {name!r} has dtype {entries[name].dtype}; only {', '.join(DTYPES)} are weights "
                "(quantised models are not supported)"
            )


def _equal(a: Entry, b: Entry) -> bool:
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    rows, columns = (0, a.shape[0]), (0, a.shape[1])
    return all(
        read_block(a, block, columns).tobytes() == read_block(b, block, columns).tobytes()
        for block in row_blocks(a, rows)
    )


def _place(
    entries, names, weight: Weight, stacked: bool, shape, dtype, where, allow_non_finite: bool, pool
) -> jax.Array:
    """One parameter on its devices: each distinct shard is read once, put on the devices that hold it, and let go."""
    holders: dict[tuple, list] = {}
    for device, index in where.addressable_devices_indices_map(shape).items():
        key = tuple(s.indices(n)[:2] for s, n in zip(index, shape, strict=True))
        holders.setdefault(key, []).append(device)
    arrays = {}
    for key, devices in holders.items():
        out = _aligned([hi - lo for lo, hi in key], dtype)
        layers = range(*key[0]) if stacked else [0]
        inner = slice(1, None) if stacked else slice(None)
        blocks = [
            (entries[layer], names[layer], *block)
            for layer, matrix in zip(layers, out if stacked else [out], strict=True)
            for block in _blocks(entries[layer], weight, shape[inner], key[inner], matrix)
        ]
        list(pool.map(lambda block: _read_block(*block, weight.transpose, allow_non_finite), blocks))
        arrays |= {device: jax.device_put(out, device) for device in devices}
        jax.block_until_ready(list(arrays.values()))
    ordered = [arrays[device] for device in where.addressable_devices_indices_map(shape)]
    return jax.make_array_from_single_device_arrays(shape, where, ordered)


def _aligned(shape: Sequence[int], dtype: np.dtype, to: int = 64) -> np.ndarray:
    """An uninitialised array that starts at a multiple of `to` bytes: on a CPU jax takes such a one as it is, and copies
    any other."""
    count = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    room = np.empty(count + to, np.uint8)
    start = -room.ctypes.data % to
    return room[start : start + count].view(dtype).reshape(shape)


def _blocks(entry: Entry, weight: Weight, shape, key, out: np.ndarray):
    """(rows, columns, where they go) of each block of the tensor whose parameter of `shape` has the part `key` ((lo, hi)
    per axis), `out`; a target is [rows, columns], of a transposed matrix a transposed view."""
    rows, columns = (axis_range(shape, key, axes) for axes in matrix_axes(weight.path, len(shape)))
    matrix = out.reshape(rows[1] - rows[0], columns[1] - columns[0])
    if weight.transpose:
        matrix, rows, columns = matrix.T, columns, rows
    for lo, hi in row_blocks(entry, rows):
        yield (lo, hi), columns, matrix[lo - rows[0] : hi - rows[0]]


def _read_block(entry: Entry, name: str, rows, columns, target: np.ndarray, transposed: bool, allow_non_finite: bool):
    """Fills `target` from a block of its tensor."""
    block = read_block(entry, rows, columns, into=target)
    if not allow_non_finite and has_non_finite(block):
        raise InputError(f"tensor {name!r} in {entry.path} is not finite (NaN or infinity)")
    if np.may_share_memory(block, target):
        return
    if block.dtype != target.dtype:
        block = block.astype(target.dtype)
    # As plain bytes: numpy copies bfloat16, which it does not know, one element at a time.
    bits = np.dtype(f"u{target.dtype.itemsize}")
    _copy(target.view(bits), block.view(bits), in_tiles=transposed)


def _copy(target: np.ndarray, source: np.ndarray, in_tiles: bool, rows: int = 1024, columns: int = 32) -> None:
    """`target[...] = source`; a transposed target in tiles that stay in the cache, five times as fast."""
    if not in_tiles:
        target[...] = source
        return
    for i in range(0, source.shape[0], rows):
        for j in range(0, source.shape[1], columns):
            target[i : i + rows, j : j + columns] = source[i : i + rows, j : j + columns]
