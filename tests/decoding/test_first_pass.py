"""The first pass over decoding rows: left padding, a prefilled answer, copies of `[CLS]` behind it; on every backend."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from make import random_params
from test_decoder_oracle import CONTINUED, EOS, REFUSAL, make_rows, to_batch
from test_kernels import stand_in

from safety_align.decoding import Decoder, GateConfig, Layout
from safety_align.decoding.first_pass import _read_prompt
from safety_align.model import kernels, preset
from safety_align.model.kernels import cudnn

LAYOUT = Layout(prompt=19, prefill=13, steps=8)
GATES = {
    "visible": GateConfig(r2=4, tau=1, max_refusal_tokens=8),
    "invisible": GateConfig(r2=4, tau=1, visible=False, max_refusal_tokens=8),
    "query too": GateConfig(r2=6, tau=1, windows_include_query=True, max_refusal_tokens=8),
    "off": None,
}


def first_pass(backend: str, dtype: str, gate: GateConfig | None, seed: int):
    """(last hidden states, safety logits, keys and values of the slots in use) of six rows."""
    config = preset("tiny", scan_layers=False, dtype=dtype, param_dtype=dtype, attention=backend, head_dim=16)
    params = random_params(dataclasses.replace(config, dtype="float32", param_dtype="float32", attention="dense"), seed)
    low = functools.partial(jnp.asarray, dtype=dtype)
    params = {k: v if k.startswith(("cls", "safety")) else jax.tree.map(low, v) for k, v in params.items()}
    rows = make_rows(seed, 6, LAYOUT.prompt, LAYOUT.prefill)
    batch = jax.tree.map(jnp.asarray, to_batch(rows, LAYOUT, 8, gate))
    decoder = Decoder(config, gate, REFUSAL, CONTINUED, EOS, LAYOUT)
    read = _read_prompt if backend == "cudnn" else jax.jit(_read_prompt, static_argnums=0)
    last, logits, cache = read(decoder, params, batch)
    parts = [last, logits]
    for row, (prompt, _, fill) in enumerate(rows):
        start, stop = LAYOUT.prompt - len(prompt), LAYOUT.response + len(fill)
        used = [slot for slot in range(start, stop) if slot != LAYOUT.aside]
        parts += [x[row][:, used] for x in jax.tree.leaves(cache)]
    return [np.asarray(x, np.float32) for x in parts]


def check_backend(backend: str, dtype: str, gate: str, tolerance: float):
    seed = int(np.random.default_rng().integers(1 << 30))
    ours, plain = (first_pass(b, dtype, GATES[gate], seed) for b in (backend, "dense"))
    for a, b in zip(ours, plain, strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance, rtol=tolerance, err_msg=f"seed {seed}")


@pytest.mark.slow
def test_blocks_of_queries(monkeypatch):
    """float32, sums in another order."""
    in_blocks = functools.partial(kernels.chunked_attention, chunk=16)
    monkeypatch.setattr(kernels, "chunked_attention", in_blocks)
    check_backend("chunked", "float32", "query too", 5e-5)


@pytest.mark.slow
@pytest.mark.parametrize("gate", ["visible", "invisible"])
def test_the_tpu_kernel(gate, monkeypatch):
    """In Pallas' interpreter; float32, sums in another order."""
    real = kernels.splash_attention
    monkeypatch.setattr(kernels, "splash_attention", lambda *arguments: real(*arguments[:4], interpret=True))
    monkeypatch.setattr(kernels, "choose", lambda attention, platform: attention)
    check_backend("splash", "float32", gate, 5e-5)


@pytest.mark.slow
@pytest.mark.parametrize("gate", ["visible", "invisible"])
def test_cudnn_by_its_contract(gate, monkeypatch):
    """With a stand-in for cuDNN itself, which must be asked: rows of the decoder are made for it. bfloat16, 8 bits, through
    two layers."""
    asked = []
    monkeypatch.setattr(cudnn, "_packed", lambda *a: asked.append(1) or stand_in(*a))
    monkeypatch.setattr(cudnn.jax.lax, "cond", lambda test, yes, no: yes() if test else no())
    monkeypatch.setattr(kernels, "choose", lambda attention, platform: attention)
    check_backend("cudnn", "bfloat16", gate, 0.06)
    assert len(asked) == 2  # layers


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="needs a GPU, Hopper or later")
@pytest.mark.parametrize("gate", GATES)
def test_cudnn(gate):
    """bfloat16, 8 bits, through two layers."""
    check_backend("cudnn", "bfloat16", gate, 0.06)


@pytest.mark.parametrize("window", [None, 8])
def test_the_first_check_reads_all_of_a_long_conversation(window):
    """Each content token moves the verdict, the first of 300 too, through a sliding window as well; an auxiliary token at the
    end of the prompt, which no content token sees, does not."""
    config = preset("tiny", scan_layers=False, sliding_window=window)
    params = random_params(config, 5)
    layout = Layout(prompt=320, prefill=0, steps=8)
    decoder = Decoder(config, GATES["visible"], REFUSAL, CONTINUED, EOS, layout)
    size = 300
    ids = np.random.default_rng(5).integers(8, 97, size)
    content = np.arange(size) < size - 4

    def logit(changed):
        other = np.where(np.arange(size) == changed, 1 + ids % 90, ids)
        batch = jax.tree.map(jnp.asarray, to_batch([(other, content, ids[:0])], layout, 8, None))
        return float(read(decoder, params, batch)[1][0, 0])

    read = jax.jit(_read_prompt, static_argnums=0)
    plain = logit(-1)
    assert all(logit(place) != plain for place in (0, 1, 57, 150, size - 5))
    assert logit(size - 2) == plain
