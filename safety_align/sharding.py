"""The mesh, the logical axis names, and the one table that maps them to mesh axes.

Parameters and activations carry *logical* names; only `RULES` says where they live. Mesh axes: `data` (replicated
parameters), `fsdp` (parameters split along the width), `sequence` (activations split along the row: long contexts),
`tensor` (split along heads, MLP and vocabulary).
"""

import contextlib
import functools
import math
from collections.abc import Collection

import flax.linen as nn
import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from safety_align.errors import InputError

MESH_AXES = ("data", "fsdp", "sequence", "tensor")
ROWS = ("data", "fsdp")
"""Mesh axes that share out the rows of a batch."""

# Logical axes of parameters.
LAYERS, VOCAB, WIDTH, HEADS, KV_HEADS, HEAD_DIM, MLP = (
    "layers",
    "vocab",
    "width",
    "heads",
    "kv_heads",
    "head_dim",
    "mlp",
)
# Logical axes of activations.
BATCH, LENGTH, ALL_LENGTH, SLOTS, ACT_WIDTH = "batch", "length", "all_length", "slots", "act_width"
ACT_HEADS, ACT_KV_HEADS, ACT_MLP, ACT_VOCAB = "act_heads", "act_kv_heads", "act_mlp", "act_vocab"
# The loss: fewer bytes move if hidden states come together along `fsdp`, which then shares out the vocabulary, than if
# the head does.
HEAD_VOCAB, LOSS_BATCH = "head_vocab", "loss_batch"

RULES = (
    (LAYERS, None),
    (VOCAB, "tensor"),
    (WIDTH, "fsdp"),
    (HEAD_VOCAB, ("fsdp", "tensor")),
    (HEADS, "tensor"),
    (KV_HEADS, "tensor"),
    (HEAD_DIM, None),
    (MLP, "tensor"),
    (BATCH, ROWS),
    (LOSS_BATCH, "data"),
    (LENGTH, "sequence"),
    (ALL_LENGTH, None),
    (SLOTS, (*ROWS, "sequence")),
    (ACT_WIDTH, None),
    (ACT_HEADS, "tensor"),
    (ACT_KV_HEADS, "tensor"),
    (ACT_MLP, "tensor"),
    (ACT_VOCAB, "tensor"),
)


def make_mesh(data: int = -1, fsdp: int = 1, sequence: int = 1, tensor: int = 1, devices=None) -> Mesh:
    """A mesh of all devices (or `devices`) with axes `MESH_AXES`; one size may be -1, "what is left".

    Devices are laid out by their interconnect. Where they form several slices, `data` goes over the slices first, as
    only gradients then cross the slow network between them. Axis types are Auto: linen's logical constraints need them.
    Raises InputError if the sizes do not multiply to the number of devices, or `data` is no multiple of the slices.
    """
    devices = np.asarray(jax.devices() if devices is None else devices).reshape(-1)
    sizes = dict(data=data, fsdp=fsdp, sequence=sequence, tensor=tensor)
    shown = ", ".join(f"{name}={size}" for name, size in sizes.items())
    values = list(sizes.values())
    if values.count(-1) > 1 or any(s == 0 or s < -1 for s in values):
        raise InputError(f"mesh sizes {shown}: positive, and -1 at most once")
    if -1 in values:
        known = -math.prod(values)  # of Python's integers, which do not wrap
        if devices.size % known:
            raise InputError(f"mesh sizes {shown} do not divide {devices.size} devices")
        values[values.index(-1)] = devices.size // known
    if math.prod(values) != devices.size:
        raise InputError(
            f"mesh {'x'.join(map(str, values))} needs {math.prod(values)} devices; there are {devices.size}"
        )
    return Mesh(_layout(devices, values), MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES))


def _layout(devices: np.ndarray, sizes: list[int]) -> np.ndarray:
    """The devices as an array of `sizes`, neighbours in it being neighbours in the machine."""
    slices = len({getattr(d, "slice_index", 0) or 0 for d in devices})
    if devices[0].platform != "tpu":
        return devices.reshape(sizes)  # as jax lists them: process by process
    if slices == 1:
        return mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    if sizes[0] % slices:
        raise InputError(f"mesh size data={sizes[0]} is not a multiple of the {slices} slices")
    inner, outer = [sizes[0] // slices, *sizes[1:]], [slices, 1, 1, 1]
    return mesh_utils.create_hybrid_device_mesh(inner, outer, devices, allow_split_physical_axes=True)


def axes_here() -> dict[str, int]:
    """{axis: size} of the rules table's axes that the surrounding mesh (`jax.set_mesh`) leaves to the compiler.

    Empty outside a mesh and in a mesh that has none of them. Axes of other names, and those that the caller handles
    (explicit ones, and those of a surrounding `shard_map`), are not ours to speak of.
    """
    mesh = jax.sharding.get_abstract_mesh()
    free = zip(mesh.axis_names, mesh.axis_types, strict=True)
    return {axis: mesh.shape[axis] for axis, kind in free if axis in MESH_AXES and kind == AxisType.Auto}


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
    """Constrains an activation by logical names, as far as the surrounding mesh has their axes (`axes_here`)."""
    here = axes_here()
    return jax.lax.with_sharding_constraint(x, spec(here, *names)) if here else x


def spec(axes: Collection[str], *names: str | None) -> PartitionSpec:
    """Where the rules table puts an array of the logical axes `names`, as far as the mesh axes are among `axes`."""
    rules = dict(RULES)

    def one(name: str | None):
        where = rules[name] if name is not None else None
        found = tuple(a for a in ((where,) if isinstance(where, str) else where or ()) if a in axes)
        return found if len(found) > 1 else found[0] if found else None

    return PartitionSpec(*map(one, names))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Sharding of any batch array: the leading axis over `data` and `fsdp`, the rest replicated."""
    return NamedSharding(mesh, PartitionSpec(ROWS))


def row_ways(mesh: Mesh | None) -> int:
    """Into how many parts the rows of a batch are split; 1 without a mesh."""
    return 1 if mesh is None else mesh.shape["data"] * mesh.shape["fsdp"]


def process_rows(mesh: Mesh, rows: int) -> list[int]:
    """Which of the `rows` of a global batch this process's devices hold, in order.

    Raises InputError if the mesh does not divide them.
    """
    ways = row_ways(mesh)
    if rows % ways:
        raise InputError(f"a batch of {rows} rows is not a multiple of the mesh's data x fsdp = {ways}")
    slices = batch_sharding(mesh).addressable_devices_indices_map((rows,)).values()
    return sorted({row for (part,) in slices for row in range(rows)[part]})


def place_rows(local, mesh: Mesh, rows: int):
    """Global arrays [rows, …] of a tree of arrays [R, …] of this process's rows (`process_rows`)."""
    where = batch_sharding(mesh)
    if jax.process_count() == 1:
        return jax.device_put(local, where)
    mine = {row: i for i, row in enumerate(process_rows(mesh, rows))}

    def place(array: np.ndarray) -> jax.Array:
        def part(index):
            return array[[mine[row] for row in range(rows)[index[0]]]]

        return jax.make_array_from_callback((rows, *array.shape[1:]), where, part)

    return jax.tree.map(place, local)


def own_rows(placed):
    """The inverse of `place_rows`: this process's rows of a tree of global arrays, in order."""

    def fetch(array: jax.Array) -> np.ndarray:
        parts = {shard.index[0].start or 0: shard.data for shard in array.addressable_shards}
        return np.concatenate([np.asarray(parts[start]) for start in sorted(parts)])

    return jax.tree.map(fetch, placed)


# --- inference: every process has the whole host batch, and gets the whole result ------------------------------------


def even_rows(rows: int, mesh: Mesh | None) -> int:
    """The least number of rows from `rows` on that the mesh splits evenly."""
    return -(-rows // row_ways(mesh)) * row_ways(mesh)


def on_mesh(mesh: Mesh | None):
    """The context in which logical constraints mean `mesh`; with None, nothing."""
    return contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh)


def spread_rows(batch, mesh: Mesh | None):
    """Puts a tree of host arrays [B, …], the same in all processes of the mesh, on its devices: each process its rows.

    Without a mesh, as it is.
    """
    if mesh is None:
        return batch
    where = batch_sharding(mesh)
    return jax.tree.map(lambda x: jax.make_array_from_callback(x.shape, where, lambda index: x[index]), batch)


def fetch(tree, mesh: Mesh | None):
    """The host's copy of arrays on `mesh`, whole, in every process. All processes of the mesh call it together."""
    if mesh is not None and mesh.is_multi_process:
        tree = _replicate(mesh)(tree)
    return jax.device_get(tree)


@functools.cache
def _replicate(mesh: Mesh):
    return jax.jit(lambda tree: tree, out_shardings=replicated(mesh))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same value on every device."""
    return NamedSharding(mesh, PartitionSpec())


def param_shardings(mesh: Mesh, boxed):
    """NamedShardings, same tree as the unboxed parameters, for `boxed` (abstract) parameters with logical names.

    Raises InputError for an axis that its mesh axes do not divide.
    """
    specs = nn.logical_to_mesh(nn.get_partition_spec(boxed), RULES)
    shapes = nn.unbox(boxed)

    def one(path, spec, leaf):
        for size, axes in zip(leaf.shape, tuple(spec) + (None,) * leaf.ndim):
            ways = int(np.prod([mesh.shape[a] for a in ([axes] if isinstance(axes, str) else axes or [])]))
            if size % ways:
                raise InputError(
                    f"parameter {jax.tree_util.keystr(path, simple=True, separator='/')} has an axis of {size} "
                    f"which mesh axes {axes} ({ways} ways) do not divide; choose another mesh"
                )
        return NamedSharding(mesh, spec)

    return jax.tree_util.tree_map_with_path(one, specs, shapes, is_leaf=lambda x: isinstance(x, PartitionSpec))
