"""What tests/test_pod.py asks of real TPU programs; a process of its own, as libtpu is set up once: python pod_checks.py

Prints one JSON object. The models have the 7B model's vocabulary and few, narrow layers, so that a gather of a whole
embedding or of whole logits would stand out.
"""

import dataclasses
import json
import os
import sys

os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp

from configs import align_llama2_7b
from safety_align import sharding
from safety_align.model import for_decoding
from safety_align.model.kernels import causal_attention
from safety_align.pod.analysis import collectives, copied_parameters, largest_collectives, memory, parameter_bytes
from safety_align.pod.programs import Serving, lower_decode, lower_prefill, lower_train
from safety_align.pod.topology import topology
from safety_align.pod.traffic import step_traffic
from safety_align.training.from_dict import to_train_config

ROWS, LENGTH, VOCAB, WIDTH = 8, 1024, 32000, 512


def train(devices, **mesh):
    """The training step of the small model on a mesh."""
    config = to_train_config(align_llama2_7b.get_config().to_dict())
    model = dataclasses.replace(config.model, layers=2, width=WIDTH, heads=4, kv_heads=4, mlp_width=1024)
    data = dataclasses.replace(config.pipeline, batch_size=ROWS, sequence_length=LENGTH)
    config = dataclasses.replace(config, model=model, pipeline=data)
    compiled = lower_train(config, sharding.make_mesh(**mesh, devices=devices)).compile()
    text = compiled.as_text()
    return {
        "collectives": sorted(collectives(text)),
        "largest_gather": max(largest_collectives(text, "all-gather"), default=0),
        "whole_logits": f"f32[{ROWS},{LENGTH},{VOCAB}]" in text or f"f32[{ROWS // 4},{LENGTH},{VOCAB}]" in text,
        "memory": memory(compiled),
    }


def serve(devices):
    """Prefill and decode on a tensor mesh, and the cache's bytes on a chip."""
    config = to_train_config(align_llama2_7b.get_config().to_dict())
    model = dataclasses.replace(config.model, layers=2, width=WIDTH, heads=4, kv_heads=4, mlp_width=1024)
    serving = Serving(rows=8, prompt=4096, tokens=208)
    mesh = sharding.make_mesh(data=1, tensor=4, devices=devices)
    lowered = lower_prefill(model, serving, mesh)
    state = jax.tree.leaves(lowered.out_info.cache)
    decode = lower_decode(model, serving, mesh).compile()
    short = dataclasses.replace(serving, prompt=1024)
    apart = lower_decode(model, short, sharding.make_mesh(data=2, tensor=2, devices=devices)).compile()
    return {
        "gather_of_rows_apart": max(largest_collectives(apart.as_text(), "all-gather"), default=0),
        "cache_bytes": sum(x.size * x.dtype.itemsize for x in state) // 4,
        "decode": memory(decode),
        "collectives": sorted(collectives(decode.as_text())),
        "largest_gather": max(largest_collectives(decode.as_text(), "all-gather"), default=0),
    }


def steps(devices):
    """Bytes that a step of decoding needs, and what it moves, by schedule, of a model whose weights do not fit on a chip."""
    config = to_train_config(align_llama2_7b.get_config().to_dict())
    model = dataclasses.replace(config.model, layers=2, width=2048, heads=16, kv_heads=16, mlp_width=5632)
    serving, mesh = Serving(rows=8, prompt=1024, tokens=208), sharding.make_mesh(data=1, devices=devices)
    held = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(lower_prefill(model, serving, mesh).out_info.cache))
    found = {}
    for schedule in ("every", "annealing", None):
        decode = lower_decode(model, dataclasses.replace(serving, schedule=schedule), mesh).compile()
        found[schedule or "off"] = {
            "moved": step_traffic(decode.as_text()).total,
            "copied": copied_parameters(decode.as_text()),
            "temporaries": memory(decode)["temporaries"],
        }
    embedding = 2 * model.vocab_size * model.width  # a step reads some rows of it
    return {"needed": parameter_bytes(for_decoding(model), mesh) - embedding + held, "steps": found}


def attention(devices):
    """Bytes of temporaries of the TPU kernel's gradient at length 8192, without and with a sliding window."""
    length, heads, size = 8192, 4, 128
    one = jax.sharding.SingleDeviceSharding(devices[0])

    def shape(*dims, dtype=jnp.bfloat16):
        return jax.ShapeDtypeStruct(dims, dtype, sharding=one)

    arrays = [shape(1, length, heads, size), *[shape(1, heads, length, size)] * 2]
    slots = [shape(1, length, dtype=jnp.int32)] * 2

    def temporaries(window):
        def total(q, k, v, segments, positions):
            out = causal_attention(q, k, v, segments, positions, window, "splash")
            return jnp.sum(out.astype(jnp.float32) ** 2)

        compiled = jax.jit(jax.grad(total, (0, 1, 2))).lower(*arrays, *slots).compile()
        return memory(compiled)["temporaries"], "tpu_custom_call" in compiled.as_text()

    return {"causal": temporaries(None), "window": temporaries(4096), "square_of_scores": 4 * heads * length**2}


if __name__ == "__main__":
    _, chips = topology("v5e:2x2")
    found = {
        "data": train(chips, data=4),
        "fsdp": train(chips, data=1, fsdp=4),
        "fsdp_tensor": train(chips, data=1, fsdp=2, tensor=2),
        "sequence": train(chips, data=1, fsdp=2, sequence=2),
        "serve": serve(chips),
        "steps": steps(topology("v5e:1x1")[1]),
        "attention": attention(chips),
    }
    json.dump(found, sys.stdout)
