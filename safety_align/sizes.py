"""What a model, its training and its cache take at the very least, in bytes, against the memory that is there.

Refuses what cannot be before anything is allocated. Lower bounds, so that nothing is refused which would fit: temporaries
are left out; launch.compile_pod has exact figures.
"""

import math
import os
from typing import TYPE_CHECKING

from safety_align.errors import InputError

if TYPE_CHECKING:  # the numbers alone need no jax
    import jax

    from safety_align.model import TransformerConfig

BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}


def parameter_count(model: "TransformerConfig") -> int:
    """Parameters of a model, the safety signal's included."""
    c = model
    queries, keys = c.heads * c.head_dim, c.kv_heads * c.head_dim
    attention = c.width * (2 * queries + 2 * keys)
    attention += (queries + 2 * keys) * c.qkv_bias + 2 * c.head_dim * c.qk_norm
    block = attention + 3 * c.width * c.mlp_width + 2 * c.width
    embeddings = c.vocab_size * c.width * (1 if c.tied_embeddings else 2)
    return c.layers * block + embeddings + c.width + signal_count(model)


def signal_count(model: "TransformerConfig") -> int:
    """Parameters of the safety signal (see model/readout.py)."""
    from safety_align.model.readout import signal_shapes

    return sum(math.prod(shape) for shape in signal_shapes(model).values()) * model.safety_signal


def state_bytes(model: "TransformerConfig", trainable: str = "all") -> int:
    """Parameters and Adam's two moments of those that are trained."""
    trained = parameter_count(model) if trainable == "all" else signal_count(model)
    return (parameter_count(model) + 2 * trained) * BYTES[model.param_dtype]


def stream_bytes(model: "TransformerConfig", rows: int, slots: int) -> int:
    """The residual stream of a batch: one hidden state a slot."""
    return rows * slots * model.width * BYTES[model.dtype]


def cache_bytes(model: "TransformerConfig", rows: int, slots: int) -> int:
    """Keys and values of all layers, and a probe's scores."""
    scores = 4 * model.signal.scores * (model.safety_signal and model.signal.kind == "probe")
    return rows * slots * (model.layers * 2 * model.kv_heads * model.head_dim * BYTES[model.dtype] + scores)


def device_memory(device: "jax.Device", devices: int = 1) -> int | None:
    """Bytes of one of this process's `devices`; of CPU devices their share of the machine's. None if unknown."""
    if device.platform == "cpu":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // devices
    return (device.memory_stats() or {}).get("bytes_limit")


def check_training(
    model: "TransformerConfig",
    mesh: "jax.sharding.Mesh",
    rows: int,
    slots: int,
    *,
    trainable: str = "all",
    accumulation: int = 1,
    pairs: int = 0,
    trains: bool = True,
) -> None:
    """Raises InputError unless a training fits the devices of `mesh`: its state, a batch, the hidden states of one
    microbatch. `slots`: of a row, those of checks included; `pairs`: of a row; `trains`: False where the parameters are
    only read."""
    ways = mesh.shape["data"] * mesh.shape["fsdp"]
    state = state_bytes(model, trainable) if trains else parameter_count(model) * BYTES[model.param_dtype]
    state //= mesh.shape["fsdp"] * mesh.shape["tensor"]
    stream = stream_bytes(model, rows, slots) // (ways * mesh.shape["sequence"] * accumulation)
    numbers = 4 * 4 * rows * (slots + pairs) // ways  # tokens, positions, segments, targets
    batch = f"a batch of {rows:,} rows x {slots:,} slots"
    held = f"{parameter_count(model):,} parameters" + " and their optimizer" * trains
    parts = {held: state, batch: stream + numbers}
    _check(parts, mesh, "a smaller model, data.batch_size or data.sequence_length, or more devices")


def check_decoding(
    model: "TransformerConfig", rows: int, slots: int, mesh: "jax.sharding.Mesh | None", fix: str
) -> None:
    """Raises InputError, which recommends `fix`, unless model and cache fit the devices of `mesh` (None: the first device)."""
    shape = {"data": 1, "fsdp": 1, "tensor": 1} if mesh is None else mesh.shape
    weights = parameter_count(model) * BYTES[model.param_dtype] // (shape["fsdp"] * shape["tensor"])
    cache = cache_bytes(model, rows, slots) // (shape["data"] * shape["fsdp"] * shape["tensor"])
    _check({"parameters": weights, f"a cache of {rows:,} rows x {slots:,} tokens": cache}, mesh, fix)


def check_rows(model: "TransformerConfig", rows: int, slots: int, fix: str) -> None:
    """Raises InputError, which recommends `fix`, unless the hidden states of `rows` x `slots` fit the first device."""
    _check({f"hidden states of {rows:,} rows x {slots:,} slots": stream_bytes(model, rows, slots)}, None, fix)


def _check(parts: dict[str, int], mesh: "jax.sharding.Mesh | None", fix: str) -> None:
    import jax

    local = jax.local_devices() if mesh is None else list(mesh.local_devices)
    memory = device_memory(local[0], 1 if mesh is None else len(local)) if local else None
    if memory is not None and sum(parts.values()) > memory:
        shown = ", ".join(f"{what} {_gib(size)}" for what, size in parts.items())
        raise InputError(f"this cannot fit: {shown} for each device, which has {_gib(memory)}; choose {fix}")


def _gib(size: int) -> str:
    return f"{size / 2**30:,.1f} GiB" if size < 2**60 else f"{size / 2**30:.1e} GiB"
