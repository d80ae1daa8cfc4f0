"""Bytes that a model, its training and its cache take at least; what cannot fit is refused before it is allocated."""

import math

import flax.linen as nn
import jax
import pytest

from configs import embedded_gated
from safety_align import sharding, sizes
from safety_align.errors import InputError
from safety_align.model import abstract_params, preset
from safety_align.model.config import PRESETS
from safety_align.pod.analysis import activation_bytes
from safety_align.training.from_dict import to_train_config


@pytest.mark.parametrize("signal", [True, False])
@pytest.mark.parametrize("name", PRESETS)
def test_parameters_are_counted_as_they_are_made(name, signal):
    model = preset(name, safety_signal=signal)
    made = sum(math.prod(x.shape) for x in jax.tree.leaves(nn.unbox(abstract_params(model))))
    assert sizes.parameter_count(model) == made


def test_bytes_of_a_state_and_a_cache():
    model = preset("tiny", param_dtype="bfloat16")
    count = sizes.parameter_count(model)
    assert sizes.state_bytes(model) == 3 * 2 * count
    assert sizes.state_bytes(model, "signal") == 2 * (count + 2 * (2 * 32 + 1))
    assert (
        sizes.cache_bytes(model, 3, 10) == 3 * 10 * 2 * 2 * 2 * 8 * 4
    )  # rows, slots, layers, k and v, heads, size, f32


@pytest.fixture
def mesh(monkeypatch):
    monkeypatch.setattr(sizes, "device_memory", lambda device, devices: 2**30)
    return sharding.make_mesh(devices=jax.devices()[:1])


@pytest.mark.parametrize("change, named", [
    (dict(layers=10**4, mlp_width=10**4), "parameters"), (dict(vocab_size=10**8), "parameters"),
    (dict(rows=10**8), "100,000,000 rows"), (dict(slots=2 * 10**9), "2,000,000,000 slots"), (dict(pairs=10**9), "rows"),
])  # fmt: skip
def test_a_training_that_cannot_fit_is_refused_with_its_bytes(mesh, change, named):
    shape = {name: change.pop(name) for name in ("rows", "slots", "pairs") if name in change}
    sizes.check_training(preset("tiny"), mesh, 8, 128)
    with pytest.raises(InputError, match=rf"cannot fit: .*{named}.* GiB.*which has 1.0 GiB; choose"):
        sizes.check_training(preset("tiny", **change), mesh, **{"rows": 8, "slots": 128} | shape)


def test_a_model_that_is_only_read_needs_no_optimizer(mesh):
    model = preset("tiny", layers=9_000, mlp_width=96)  # 0.4 GiB of parameters
    sizes.check_training(model, mesh, 8, 128, trains=False)
    with pytest.raises(InputError, match="and their optimizer"):
        sizes.check_training(model, mesh, 8, 128)
    with pytest.raises(InputError, match="parameters [0-9.,]+ GiB"):
        sizes.check_training(preset("tiny", width=10**6), mesh, 8, 128, trains=False)


def test_sizes_of_a_mesh_do_not_wrap():
    with pytest.raises(InputError, match="do not divide"):
        sharding.make_mesh(data=2**30, fsdp=2**30, sequence=16, tensor=-1)


def test_a_cache_that_cannot_fit_is_refused_with_its_bytes(mesh):
    sizes.check_decoding(preset("tiny"), 32, 4096, mesh, "")
    for rows, slots in ((10**8, 64), (1, 2 * 10**9)):
        with pytest.raises(InputError, match=rf"a cache of {rows:,} rows x {slots:,} tokens .* GiB.*; choose less"):
            sizes.check_decoding(preset("tiny"), rows, slots, mesh, "less")


def test_where_the_memory_is_unknown_nothing_is_refused(monkeypatch):
    monkeypatch.setattr(sizes, "device_memory", lambda device, devices: None)
    sizes.check_decoding(preset("llama2_70b"), 10**9, 10**9, None, "")


def test_a_cpu_has_the_memory_of_the_machine():
    assert 2**28 < sizes.device_memory(jax.devices()[0]) < 2**50


@pytest.mark.parametrize("rows", [1, 2])  # one row has as many slots as the model is wide, as a weight has
def test_activations_are_what_grows_with_the_rows(rows):
    def counted(rows: int) -> int:
        config = embedded_gated.get_config()
        config.model = dict(preset="tiny", safety_signal=True, scan_layers=False)
        config.data.update(sequence_length=32, batch_size=rows, checks_per_row=2)
        return activation_bytes(to_train_config(config.to_dict()), sharding.make_mesh(devices=jax.devices()[:1]))

    assert counted(2 * rows) == 2 * counted(rows) > 0
