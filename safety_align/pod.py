"""Compiling a step for a TPU pod that is not there: memory, arithmetic and communication per chip, by the real compiler.

Needs libtpu (`pip install -e '.[tpu]'`), not a TPU. `topology` must be called before jax is used for anything else.
"""

import collections
import dataclasses
import os
import re

import jax
import numpy as np

from safety_align import sharding
from safety_align.errors import InputError
from safety_align.routing import place
from safety_align.training.config import TrainConfig
from safety_align.training.optimizer import make_optimizer
from safety_align.training.step import init_state, make_train_step, state_shardings


@dataclasses.dataclass(frozen=True)
class Chip:
    """Published figures of one chip: how its slices are named, HBM bytes, dense bfloat16 FLOP/s."""

    slice_name: str
    memory: float
    flops: float


CHIPS = {
    "v5e": Chip("v5litepod", 16 * 2**30, 197e12),
    "v5p": Chip("v5p", 95 * 2**30, 459e12),
    "v6e": Chip("v6e", 32 * 2**30, 918e12),
}

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")


def topology(name: str):
    """(chip, devices) of a topology such as "v5e:4x4" or "v5p:2x2x1"; InputError for one that libtpu does not know."""
    kind, _, shape = name.partition(":")
    if kind not in CHIPS or not re.fullmatch(r"\d+(x\d+){1,2}", shape):
        raise InputError(f"topology {name!r} is not of the form KIND:AxB or KIND:AxBxC with KIND in {', '.join(CHIPS)}")
    chips = int(np.prod([int(n) for n in shape.split("x")]))
    cores = 2 * chips if kind == "v5p" else chips  # v5p slices are named by their cores
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", f"{CHIPS[kind].slice_name}-{cores}")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # no chip is taken, so no lock is needed
    try:
        from jax.experimental import topologies

        return CHIPS[kind], topologies.get_topology_desc(platform="tpu", topology_name=name).devices
    except Exception as error:  # libtpu raises what it likes
        reason = str(error).strip().split("\n")[0][:200]
        raise InputError(f"topology {name!r} cannot be compiled for ({reason}); is libtpu installed?") from error


def lower_train(config: TrainConfig, mesh):
    """The training step of `config`, lowered for `mesh` (nothing is allocated); `.compile()` is the pod's program."""
    optimizer = make_optimizer(config.optimizer, config.steps)
    # Outside the mesh: optax makes small arrays to learn its own structure.
    shardings = state_shardings(config.model, optimizer, mesh, config.trainable)
    step = make_train_step(config.model, optimizer, config.lambda_cls, config.accumulation, mesh, config.trainable)
    state = jax.eval_shape(lambda: init_state(config.model, optimizer, jax.random.key(0), trainable=config.trainable))
    state = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, shardings)
    rows = config.pipeline.batch_size
    row = place([], config.pipeline.sequence_length, config.pipeline.checks_per_row)
    where = sharding.batch_sharding(mesh)
    batch = {k: jax.ShapeDtypeStruct((rows, *v.shape), v.dtype, sharding=where) for k, v in row.items()}
    with jax.set_mesh(mesh):
        return step.lower(state, batch)


def memory(compiled) -> dict[str, int]:
    """Bytes per chip: arguments (parameters, optimizer, batch), temporaries, aliased (updated in place), peak."""
    found = compiled.memory_analysis()
    held = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return {
        "arguments": found.argument_size_in_bytes,
        "aliased": found.alias_size_in_bytes,
        "temporaries": found.temp_size_in_bytes,
        "program": found.generated_code_size_in_bytes,
        "peak": held + found.temp_size_in_bytes + found.generated_code_size_in_bytes,
    }


def collectives(text: str) -> dict[str, dict[str, int]]:
    """Collectives of a compiled module's text by kind: how many instructions, and the bytes of their results.

    An instruction within the loop over layers is counted once, as it stands in the text.
    """
    found: dict[str, dict[str, int]] = collections.defaultdict(lambda: {"count": 0, "bytes": 0})
    pattern = re.compile(rf"= (\S.*?) ({'|'.join(COLLECTIVES)})(?:-start)?\(")
    for line in text.splitlines():
        if match := pattern.search(line):
            found[match[2]]["count"] += 1
            found[match[2]]["bytes"] += max((_bytes(*shape) for shape in _SHAPE.findall(match[1])), default=0)
    return dict(found)


_SHAPE = re.compile(r"\b(pred|[a-z]+\d+)\[([\d,]*)\]")


def _bytes(dtype: str, dims: str) -> int:
    bits = 8 if dtype == "pred" else int(re.search(r"\d+", dtype)[0])
    return int(np.prod([int(n) for n in dims.split(",") if n], dtype=np.int64)) * bits // 8


def analytic_flops(config: TrainConfig) -> float:
    """FLOPs of one training step without recomputation: forward, and twice that backward.

    Causal attention counted once (half the square); `[CLS]` rows as their own row of keys.
    """
    m, data = config.model, config.pipeline
    tokens = data.batch_size * data.sequence_length
    projections = m.width * m.head_dim * (2 * m.heads + 2 * m.kv_heads)
    matrices = m.layers * (projections + 3 * m.width * m.mlp_width) + m.width * m.vocab_size
    attention = m.layers * 2 * m.heads * m.head_dim * data.sequence_length
    causal = tokens * attention / 2
    checks = data.batch_size * data.checks_per_row * attention
    return 3 * 2 * (tokens * matrices + causal + checks)


def counted_flops(config: TrainConfig) -> float:
    """FLOPs of one training step without recomputation as XLA counts them, for comparison with `analytic_flops`.

    XLA counts the body of a loop once, and compiling for a pod makes loops of its own; so one and two unrolled layers
    are lowered for a single device, and the second layer's count is taken for each of the others.
    """
    mesh = sharding.make_mesh(devices=jax.devices()[:1])

    def count(layers: int) -> float:
        model = dataclasses.replace(config.model, layers=layers, scan_layers=False, remat="none")
        return lower_train(dataclasses.replace(config, model=model), mesh).cost_analysis()["flops"]

    one, two = count(1), count(2)
    return one + (config.model.layers - 1) * (two - one)


def report(config: TrainConfig, name: str) -> dict:
    """Everything about the training step of `config` on topology `name`; see `launch.compile_pod`.

    Raises InputError, with the shortfall, where a chip's memory does not hold it.
    """
    chip, devices = topology(name)
    mesh = sharding.make_mesh(**dataclasses.asdict(config.mesh), devices=devices)
    try:
        compiled = lower_train(config, mesh).compile()
    except jax.errors.JaxRuntimeError as error:  # the compiler gives up before there is an analysis
        if "memory" not in str(error):
            raise
        reason = next((line.strip() for line in str(error).splitlines() if "memory" in line), str(error))
        raise InputError(f"{name} does not hold this step: {reason[:300]}") from error
    used = memory(compiled)
    if used["peak"] > chip.memory:
        raise InputError(
            f"{name} does not hold this step: {used['peak']:,} bytes per chip of {int(chip.memory):,}, short by "
            f"{used['peak'] - int(chip.memory):,}; use more chips, a smaller batch, or model.remat"
        )
    flops = analytic_flops(config)
    return {
        "topology": name,
        "chips": len(devices),
        "chip_memory": int(chip.memory),
        "memory": used,
        "model_flops": flops,
        "counted_flops": counted_flops(config),
        "collectives": collectives(compiled.as_text()),
        "seconds_at_peak_flops": flops / (len(devices) * chip.flops),
        "tokens_per_step": config.pipeline.batch_size * config.pipeline.sequence_length,
    }
