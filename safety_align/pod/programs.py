"""The programs of a run, lowered for a mesh whose devices need not exist; nothing is allocated.

`.compile()` of what they return is the pod's program.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from safety_align import placement, sharding
from safety_align.decoding import Decoder, GateConfig, decode, prefill
from safety_align.decoding.state import Layout, PromptBatch
from safety_align.model import TransformerConfig, abstract_params, for_decoding
from safety_align.model.layouts import decoding_format
from safety_align.training.config import TrainConfig
from safety_align.training.objective import Objective, for_mesh
from safety_align.training.optimizer import make_optimizer
from safety_align.training.step import check_microbatches, init_state, make_train_step, state_shardings


@dataclasses.dataclass(frozen=True)
class Serving:
    """Shape of a decoder: rows, tokens of a prompt, generated tokens; its schedule of checks, None without a gate, whose
    other fields have their defaults, not what a run that is served was trained for; weights: "int8", see model/quantized.py."""

    rows: int = 8
    prompt: int = 1024
    tokens: int = 256
    schedule: str | None = "every"
    weights: str | None = None

    def decoded(self, model: TransformerConfig) -> TransformerConfig:
        """The config that a run of `model` is decoded with (`interop.load_unrolled`)."""
        model = for_decoding(model)
        return model if self.weights is None else dataclasses.replace(model, param_dtype=self.weights)


def lower_train(config: TrainConfig, mesh, objective: Objective | None = None):
    """The training step; `objective`: of another model in the run's place, say."""
    objective = objective or config.objective
    optimizer = make_optimizer(config.optimizer, config.steps)
    # Outside the mesh: optax makes small arrays to learn its own structure.
    shardings = state_shardings(objective, optimizer, mesh)
    step = make_train_step(objective, optimizer, config.accumulation, mesh)
    state = _placed(jax.eval_shape(lambda: init_state(objective, optimizer, jax.random.key(0))), shardings)
    rows = config.pipeline.batch_size
    check_microbatches(mesh, rows, config.accumulation)
    batch = placement.Batch.abstract(config.pipeline.row_shape, rows, sharding.batch_sharding(mesh))
    with jax.set_mesh(mesh):
        return step.lower(state, batch)


def lower_prefill(model: TransformerConfig, serving: Serving, mesh):
    """Reading the prompts and the first check."""
    decoder, params, batch = _decoder(model, serving, mesh)
    with jax.set_mesh(mesh):
        return prefill.lower(decoder, params, batch)


def lower_decode(model: TransformerConfig, serving: Serving, mesh):
    """The decoding loop; its state comes as the prefill leaves it. The analysis of its program is that of one step."""
    decoder, params, batch = _decoder(model, serving, mesh)
    with jax.set_mesh(mesh):
        first = prefill.lower(decoder, params, batch)
        state = _placed(
            jax.eval_shape(lambda p, b: prefill(decoder, p, b), params, batch), first.compile().output_shardings
        )
        until = jax.ShapeDtypeStruct((), np.int32, sharding=sharding.replicated(mesh))
        return decode.lower(decoder, params, batch, state, until, until)


def _decoder(model: TransformerConfig, serving: Serving, mesh):
    model = for_mesh(serving.decoded(model), mesh)
    layout = Layout(prompt=serving.prompt, prefill=0, steps=-(-(serving.tokens + 48) // 8) * 8)
    gate = None if serving.schedule is None else GateConfig(schedule=serving.schedule)
    decoder = Decoder(model, gate, tuple(range(16)), tuple(range(17)), (2,), layout)
    boxed = abstract_params(model)
    shardings = jax.tree_util.tree_map_with_path(
        lambda path, where: decoding_format(path, where, mesh.devices.flat[0].platform),
        sharding.param_shardings(mesh, boxed),
    )
    params = _placed(nn.unbox(boxed), shardings)
    fields = {
        "prompt": jnp.int32, "prompt_content": bool, "prompt_length": jnp.int32, "prefill": jnp.int32,
        "prefill_length": jnp.int32, "limit": jnp.int32, "threshold": jnp.float32, "temperature": jnp.float32, "top_k": jnp.int32,
        "top_p": jnp.float32, "seed": jnp.uint32, "check_seed": jnp.uint32,
    }  # fmt: skip
    tails = {"prompt": (serving.prompt,), "prompt_content": (serving.prompt,), "prefill": (0,)}
    where = sharding.batch_sharding(mesh)
    arrays = {
        name: jax.ShapeDtypeStruct((serving.rows, *tails.get(name, ())), dtype, sharding=where)
        for name, dtype in fields.items()
    }
    return decoder, params, PromptBatch(**arrays)


def _placed(shapes, shardings):
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings)
