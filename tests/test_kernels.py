"""Every attention backend against dense oracle masks: packed segments, grouped heads, windows, odd lengths; forward and
backward. The TPU kernel runs in Pallas' interpreter here, and is compiled for the real target in test_pod.py."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from safety_align.errors import InputError
from safety_align.model import kernels, preset
from safety_align.model.kernels import causal_attention, cudnn, masked_attention
from safety_align.model.kernels.cudnn import cudnn_attention
from safety_align.model.kernels.xla import chunked_attention, over_cache


def random_case(seed: int, length: int, heads: int = 4, kv_heads: int = 2, size: int = 16):
    """q, k, v, segments, positions of two packed rows, `[CLS]` copies (position 0, some hidden) among them."""
    rng = np.random.default_rng(seed)
    q, k, v = (
        rng.normal(size=shape).astype(np.float32)
        for shape in ((2, length, heads, size), (2, kv_heads, length, size), (2, kv_heads, length, size))
    )
    segments, positions = np.zeros((2, length), np.int32), np.zeros((2, length), np.int32)
    for row in range(2):
        slot, number = 0, 0
        while slot < length - 3 and rng.random() < 0.95:
            number += 1
            size_ = int(min(rng.integers(3, length // 2 + 4), length - slot))
            here = slice(slot, slot + size_)
            segments[row, here], positions[row, here] = number, 1 + np.arange(size_)
            visible = slot + int(rng.integers(1, size_))
            positions[row, visible] = 0
            if rng.random() < 0.5:
                segments[row, visible] = -number
            slot += size_
    return q, k, v, segments, positions


def oracle_mask(segments, positions, window):
    """Slot by slot, from the definition."""
    rows, length = segments.shape
    mask = np.zeros((rows, length, length), bool)
    for b in range(rows):
        for i in range(length):
            for j in range(i + 1):
                near = window is None or positions[b, j] == 0 or positions[b, i] - positions[b, j] < window
                mask[b, i, j] = segments[b, i] == segments[b, j] and near
    return mask


CASES = [
    *(("dense", length, window, 4, 2) for length in (7, 96) for window in (None, 5)),
    *(("chunked", length, window, 4, 2) for length in (31, 32, 33, 100) for window in (None, 9)),
    ("chunked", 70, None, 6, 1),
    ("chunked", 70, 200, 3, 3),
    *(("splash", length, None, *heads) for length, heads in ((128, (4, 2)), (200, (4, 4)), (130, (3, 1)))),
    ("splash", 150, 20, 4, 2),
]


@pytest.mark.parametrize("backend, length, window, heads, kv_heads", CASES)
def test_backends_equal_the_oracle_forward_and_backward(backend, length, window, heads, kv_heads):
    """float32: sums in another order, to 2e-5 of values of order one."""
    seed = int(np.random.default_rng().integers(1 << 30))
    q, k, v, segments, positions = random_case(seed, length, heads, kv_heads)
    mask = jnp.asarray(oracle_mask(segments, positions, window))
    weight = np.random.default_rng(seed + 1).normal(size=q.shape).astype(np.float32)

    def ours(q, k, v):
        if backend == "chunked":  # in blocks shorter than the row
            out = chunked_attention(q, k, v, segments, positions, window, chunk=32)
        else:
            out = causal_attention(q, k, v, segments, positions, window, backend, interpret=True)
        return jnp.sum(out * weight), out

    def theirs(q, k, v):
        out = masked_attention(q, k, v, mask)
        return jnp.sum(out * weight), out

    (a, b) = (jax.jit(jax.grad(f, (0, 1, 2), has_aux=True))(q, k, v) for f in (ours, theirs))
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-5, err_msg=f"seed {seed}")


@pytest.mark.slow
@pytest.mark.parametrize("rows, heads, kv_heads", [(1, 4, 4), (2, 4, 2), (3, 6, 1)])
@pytest.mark.parametrize("dtype, tolerance", [(jnp.float32, 1e-5), (jnp.bfloat16, 2e-2)])
def test_new_rows_beside_a_cache_equal_rows_within_it(rows, heads, kv_heads, dtype, tolerance):
    """A bfloat16 has 8 bits, and weights are rounded to it."""
    rng = np.random.default_rng(rows)
    batch, slots, size = 3, 19, 8
    q = jnp.asarray(rng.normal(size=(batch, rows, heads, size)), dtype)
    k, v, new_k, new_v = (
        jnp.asarray(rng.normal(size=(batch, kv_heads, count, size)), dtype) for count in (slots, slots, rows, rows)
    )
    mask = rng.random((batch, rows, slots + rows)) < 0.5
    mask[:, :, -1] = True
    mask[0, 0] = False  # a row that sees nothing stays finite
    want = masked_attention(
        *(x.astype(jnp.float32) for x in (q, jnp.concatenate([k, new_k], 2), jnp.concatenate([v, new_v], 2))), mask
    )
    seen = mask[:, :, :slots], mask[:, :, slots:]
    found = over_cache(q, k, v, new_k, new_v, *seen).astype(jnp.float32)
    np.testing.assert_allclose(found, want, atol=tolerance)


def test_no_square_of_scores_in_memory_at_length_8192():
    """The chunked backend, forward and backward: temporaries grow as the length does, not as its square."""

    def total(q, k, v, segments, positions, backend):
        return jnp.sum(causal_attention(q, k, v, segments, positions, None, backend) ** 2)

    def temporaries(backend, length):
        query = jax.ShapeDtypeStruct((1, length, 4, 64), jnp.float32)
        keys, slots = (
            jax.ShapeDtypeStruct((1, 4, length, 64), jnp.float32),
            jax.ShapeDtypeStruct((1, length), jnp.int32),
        )
        step = jax.jit(jax.grad(total, (0, 1, 2)), static_argnums=5)
        return step.lower(query, keys, keys, slots, slots, backend).compile().memory_analysis().temp_size_in_bytes

    square = 4 * 8192 * 8192 * 4
    assert temporaries("dense", 8192) > square
    assert temporaries("chunked", 8192) < min(square / 2, 2.2 * temporaries("chunked", 4096))


def test_the_platform_chooses_and_an_unknown_backend_is_named():
    assert [kernels.choose("auto", p) for p in ("tpu", "cpu", "gpu")] == ["splash", "xla", "xla"]
    assert kernels.choose("chunked", "tpu") == "chunked"
    # A kernel of another platform's: what a model was trained with there is read here all the same.
    assert [kernels.choose(a, p) for a, p in (("cudnn", "gpu"), ("cudnn", "cpu"), ("splash", "cpu"))] == [
        "cudnn",
        "xla",
        "xla",
    ]
    with pytest.raises(InputError, match="model.attention"):
        preset("tiny", attention="flash")


def packed_rows(seed: int, length: int):
    """As `random_case`, laid out as `placement.Batch.of` does: hidden copies behind their conversation, padding at the end."""
    q, k, v, segments, positions = random_case(seed, length)
    rng = np.random.default_rng(seed + 1)
    for row in range(2):
        slot, number, segments[row] = 0, 0, 0
        while slot < length - 4 and number < 5:
            number += 1
            size, copies = int(rng.integers(3, length // 3)), int(rng.integers(0, 4))
            segments[row, slot : slot + size] = number
            segments[row, slot + size : slot + size + copies] = -number
            slot += size + copies
    return q, k, v, segments, positions


def runs_of(segments) -> list[list[tuple[int, int]]]:
    """(first slot, length) of each run of equal ids, slot by slot."""
    found = []
    for row in segments:
        runs = []
        for slot, value in enumerate(row):
            if slot and value == row[slot - 1]:
                runs[-1] = (runs[-1][0], runs[-1][1] + 1)
            else:
                runs.append((slot, 1))
        found.append(runs)
    return found


def test_the_runs_that_cudnn_is_told_are_those_of_the_rows():
    seed = int(np.random.default_rng().integers(1 << 30))
    print("seed", seed)
    segments = packed_rows(seed, 60)[3]
    wanted = runs_of(segments)
    most = max(map(len, wanted))
    first, lengths, fits = cudnn.runs(jnp.asarray(segments), most)
    assert fits and not cudnn.runs(jnp.asarray(segments), most - 1)[2]
    for row, runs in enumerate(wanted):
        blank = [-1] * (most - len(runs))
        assert first[row].tolist() == [start for start, _ in runs] + [-1] + blank
        assert lengths[row].tolist() == [size for _, size in runs] + blank


def stand_in(q, k, v, offsets, lengths):
    """cuDNN's part by its contract, from the runs alone, at full precision."""
    batch, length = q.shape[:2]
    assert length % 2 == 0 and q.shape == k.shape == v.shape
    mask = np.zeros((batch, length, length), bool)
    for row, (starts, sizes) in enumerate(zip(np.asarray(offsets), np.asarray(lengths))):
        for start, size in zip(starts, sizes):
            if size > 0:
                mask[row, start : start + size, start : start + size] = np.tri(size, dtype=bool)
    return masked_attention(q, k.swapaxes(1, 2), v.swapaxes(1, 2), jnp.asarray(mask))


@pytest.mark.slow
@pytest.mark.parametrize("most, cut, length", [(64, False, 70), (64, False, 71), (2, False, 70), (64, True, 70)])
def test_the_gpu_backend_around_cudnn_equals_the_oracle(most, cut, length, monkeypatch):
    """With a plain stand-in for cuDNN itself, where rows have more runs than it is asked for, and where a slot of padding
    cuts a segment in two. bfloat16 has 8 bits: two units in the last place of the values here, which are below 4."""
    # The stand-in reads concrete runs, so both branches are not traced.
    monkeypatch.setattr(cudnn.jax.lax, "cond", lambda test, yes, no: yes() if test else no())
    monkeypatch.setattr(cudnn, "_packed", stand_in)
    seed = int(np.random.default_rng().integers(1 << 30))
    q, k, v, segments, positions = packed_rows(seed, length)
    if cut:
        segments[0, 1] = 0
    q, k, v = (jnp.asarray(x, jnp.bfloat16) for x in (q, k, v))
    ours = cudnn_attention(q, k, v, jnp.asarray(segments), jnp.asarray(positions), most)
    oracle = masked_attention(q, k, v, jnp.asarray(oracle_mask(segments, positions, None)))
    used = segments != 0 if cut else segments == segments
    np.testing.assert_allclose(
        ours.astype(np.float32)[used], oracle.astype(np.float32)[used], atol=2**-5, err_msg=f"seed {seed}"
    )


def test_the_gpu_backend_refuses_float32():
    q, k, v, segments, positions = map(jnp.asarray, packed_rows(0, 20))
    with pytest.raises(InputError, match="bfloat16"):
        causal_attention(q, k, v, segments, positions, None, "cudnn")


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="needs a GPU, Hopper or later")
@pytest.mark.parametrize("length", [128, 200, 1025])
def test_cudnn_equals_the_oracle_forward_and_backward(length):
    """bfloat16 against the same numbers in float32: to 3 % of the largest entry."""
    q, k, v, segments, positions = packed_rows(length, length)
    mask = jnp.asarray(oracle_mask(segments, positions, None))
    weight = np.random.default_rng(length).normal(size=q.shape).astype(np.float32)
    low = [jnp.asarray(x, jnp.bfloat16) for x in (q, k, v)]

    def loss(attend):
        return jax.value_and_grad(lambda *a: (attend(*a).astype(jnp.float32) * weight).sum(), (0, 1, 2))

    rows = jnp.asarray(segments), jnp.asarray(positions)
    ours = loss(lambda q, k, v: causal_attention(q, k, v, *rows, None, "cudnn"))(*low)
    theirs = loss(lambda q, k, v: masked_attention(q, k, v, mask))(*(x.astype(jnp.float32) for x in low))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a.astype(np.float32), b, atol=0.03 * float(jnp.abs(b).max()))


SHARDED = """
import sys
sys.path[:0] = ["tests", "."]
import jax, numpy as np
from test_kernels import oracle_mask, random_case
from safety_align import sharding
from safety_align.model.kernels import causal_attention, masked_attention
for seed, (shape, length) in enumerate((((2, 1, 2, 2), 512), ((1, 2, 4, 1), 512), ((1, 1, 2, 1), 64))):
    q, k, v, segments, positions = random_case(seed, length)
    weight = np.random.default_rng(seed).normal(size=q.shape).astype(np.float32)
    def loss(attend):
        return jax.jit(jax.value_and_grad(lambda *a: (attend(*a) * weight).sum(), (0, 1, 2)))
    mesh = sharding.make_mesh(*shape, devices=jax.devices()[: np.prod(shape)])
    with jax.set_mesh(mesh):
        ours = loss(lambda q, k, v: causal_attention(q, k, v, segments, positions, None, "splash", True))(q, k, v)
    mask = oracle_mask(segments, positions, None)
    theirs = loss(lambda q, k, v: masked_attention(q, k, v, mask))(q, k, v)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=5e-5, atol=5e-5)
print("equal", len(jax.devices()))
"""


@pytest.mark.slow
def test_the_sharded_tpu_kernel_equals_the_oracle():
    """Rows, heads and queries over eight fake devices, in the interpreter."""
    environment = dict(
        os.environ, XLA_FLAGS=os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=8", JAX_PLATFORMS="cpu"
    )
    done = subprocess.run([sys.executable, "-c", SHARDED], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.strip() == "equal 8", done.stderr[-2000:]
