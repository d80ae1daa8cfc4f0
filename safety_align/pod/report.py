"""Everything about a step on a topology, as one dictionary."""

import dataclasses

import jax

from safety_align import sharding
from safety_align.errors import InputError
from safety_align.model import TransformerConfig
from safety_align.pod.analysis import (
    activation_bytes,
    collectives,
    copied_parameters,
    memory,
    parameter_bytes,
)
from safety_align.pod.programs import Serving, lower_decode, lower_prefill, lower_train
from safety_align.pod.topology import topology
from safety_align.pod.traffic import step_traffic
from safety_align.training.config import TrainConfig
from safety_align.training.flops import forward_flops, peak_flops, signal_flops, train_flops

STEPS = ("train", "prefill", "decode")

# Products of sharded matrices as plain collectives and whole products, not as loops, whose bodies XLA counts once.
NO_LOOPS = {"xla_jf_spmd_threshold_for_windowed_einsum_mib": "1000000"}


def layers_read(config: TrainConfig) -> int:
    """The layers that a training step runs through."""
    model = config.model
    return model.signal.depths_of(model.layers)[-1] if config.beside else model.layers


def shallow(model: TransformerConfig, layers: int, **changes) -> TransformerConfig:
    """The model with so many layers, unrolled; a signal that reads at several depths reads after the last one."""
    signal = model.signal if model.signal.kind == "row" else dataclasses.replace(model.signal, depths=(layers,))
    return dataclasses.replace(model, layers=layers, scan_layers=False, signal=signal, **changes)


def counted_flops(config: TrainConfig) -> float:
    """FLOPs of one training step without recomputation as XLA counts them, for comparison with `train_flops`.

    XLA counts the body of a loop once, so one and two unrolled layers are lowered for a single device, with plain
    attention and whole logits, and the second layer's count is taken for each of the others.
    """
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    # All logits at once: no loop over parts, and nothing computed again.
    whole = dataclasses.replace(config.objective, logits_length=config.pipeline.sequence_length)

    def count(layers: int) -> float:
        model = shallow(config.model, layers, remat="none", attention="dense")
        return lower_train(config, mesh, dataclasses.replace(whole, model=model)).cost_analysis()["flops"]

    one, two = count(1), count(2)
    return one + (layers_read(config) - 1) * (two - one)


def link_bytes(config: TrainConfig, mesh) -> float:
    """Bytes of the collectives' results per chip and training step.

    From programs of one and two unrolled layers; each further layer is taken to be like the second.
    """

    def count(layers: int) -> float:
        model = shallow(config.model, layers)
        objective = dataclasses.replace(config.objective, model=model)
        compiled = lower_train(config, mesh, objective).compile(compiler_options=NO_LOOPS)
        return sum(kind["bytes"] for kind in collectives(compiled.as_text()).values())

    one, two = count(1), count(2)
    return one + (layers_read(config) - 1) * (two - one)


def report(config: TrainConfig, name: str, step: str = "train", serving: Serving | None = None) -> dict:
    """What `launch.compile_pod` prints. Raises InputError, with the shortfall, where a chip's memory does not hold it.

    Args:
      config: the run; of "prefill" and "decode" only its model and mesh count.
      name: the topology.
      step: one of `STEPS`.
      serving: the decoder's shape.
    """
    chip, devices = topology(name)
    mesh = sharding.make_mesh(**dataclasses.asdict(config.mesh), devices=devices)
    chip_flops = peak_flops(devices[0].device_kind)
    serving = serving or Serving()
    lower = {
        "train": lambda: lower_train(config, mesh),
        "prefill": lambda: lower_prefill(config.model, serving, mesh),
        "decode": lambda: lower_decode(config.model, serving, mesh),
    }[step]
    try:
        compiled = lower().compile()
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
    text = compiled.as_text()
    stored = config.model if step == "train" else serving.decoded(config.model)
    held = {"parameters": parameter_bytes(stored, mesh)}
    if step == "train" and config.trainable == "all":
        held["optimizer"] = 2 * held["parameters"]
    if step == "train":
        held["activations"] = activation_bytes(config, mesh)
    found = {
        "topology": name,
        "step": step,
        "chips": len(devices),
        "mesh": dict(mesh.shape),
        "chip_memory": int(chip.memory),
        "memory": used | held,
        "collectives": collectives(text),
        # By XLA, which counts a loop's body once, and on-chip memory too.
        "bytes_accessed": compiled.cost_analysis()["bytes accessed"],
    }
    if step == "train":
        data = config.pipeline
        shape = data.batch_size, data.sequence_length, data.checks_per_row
        beside = config.beside
        formula = signal_flops if beside else train_flops
        flops = formula(config.model, *shape)
        found["counted_flops"] = counted_flops(config)
        found["counted_over_formula"] = found["counted_flops"] / formula(config.model, *shape, square=True)
        # What the step reads and writes at the least: parameters and optimizer, once each; frozen ones are only read.
        moved = {"hbm": (1 if beside else 2) * used["arguments"], "links": link_bytes(config, mesh)}
        # Whole blocks are computed once more in the backward pass.
        done = flops * (4 / 3 if config.model.remat == "full" and not beside else 1)
        found["tokens"] = config.pipeline.batch_size * config.pipeline.sequence_length
    else:
        found["serving"] = dataclasses.asdict(serving)
        m, slots = config.model, serving.prompt + serving.tokens
        if step == "prefill":
            flops = forward_flops(m, serving.rows * serving.prompt, serving.prompt / 2, serving.rows)
        else:  # the newest token, and [CLS] beside it
            flops = forward_flops(m, (1 + (serving.schedule is not None)) * serving.rows, slots, serving.rows)
        moved = {
            "hbm": used["arguments"],
            "links": sum(kind["bytes"] for kind in found["collectives"].values()),
        }
        if step == "decode":
            found["memory"]["copied"] = copied_parameters(text)  # before its loop
            moved["hbm"] = step_traffic(text).total
        done, found["tokens"] = flops, serving.rows * (serving.prompt if step == "prefill" else 1)
    seconds = {
        "compute": done / (len(devices) * chip_flops),
        "hbm": moved["hbm"] / chip.bandwidth,
        "links": moved["links"] / chip.links,
    }
    bound = max(seconds.values())
    return found | {
        "model_flops": flops,
        "bytes": moved,
        "roofline_seconds": seconds,
        "roofline_mfu": flops / (len(devices) * chip_flops * bound),
    }
