"""Model directories in and out: bit-exact, sharded, and every way in which one can be broken."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys

import flax.linen as nn
import jax
import ml_dtypes
import numpy as np
import pytest
from make import SIGNAL, TINY, random_params

from safety_align.errors import InputError
from safety_align.interop import load_pretrained, save_pretrained
from safety_align.interop.tensor_file import INDEX, open_checkpoint, read_header, write_file
from safety_align.model import TransformerConfig, abstract_params, add_signal, preset

PLAIN = preset("tiny", safety_signal=False, heads=4, kv_heads=2, tied_embeddings=False)


def equal(a, b) -> bool:
    same = jax.tree.map(lambda x, y: np.asarray(x).tobytes() == np.asarray(y).tobytes() and x.dtype == y.dtype, a, b)
    return jax.tree.structure(a) == jax.tree.structure(b) and all(jax.tree.leaves(same))


def saved(tmp_path, config: TransformerConfig = PLAIN, name: str = "model", **options):
    shapes = nn.unbox(abstract_params(config))
    params = jax.tree.map(lambda x, s: x.astype(s.dtype), random_params(config), shapes)
    save_pretrained(tmp_path / name, config, params, **options)
    return params, tmp_path / name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "change",
    [
        {}, dict(tied_embeddings=True), dict(qkv_bias=True), dict(qk_norm=True), dict(sliding_window=3),
        dict(safety_signal=True), dict(scan_layers=False),
    ],
    ids=str,
)  # fmt: skip
def test_in_and_out_is_bit_exact(tmp_path, change, dtype):
    config = preset("tiny", **dict(safety_signal=False, tied_embeddings=False) | change, param_dtype=dtype, dtype=dtype)
    size = 5 << 30 if config.scan_layers else 20_000
    params, directory = saved(tmp_path, config, file_bytes=size)
    if not config.scan_layers:
        assert (directory / INDEX).is_file() and len(list(directory.glob("model-*.safetensors"))) > 2
    loaded = load_pretrained(directory, scan_layers=config.scan_layers)
    assert equal(loaded.params, params)
    assert loaded.config == config
    save_pretrained(
        tmp_path / "again",
        loaded.config,
        loaded.params,
        values=loaded.values,
        file_bytes=20_000 if not config.scan_layers else 5 << 30,
    )
    for file in directory.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()


SHARDED = """
import sys, jax, numpy as np
from safety_align import sharding
from safety_align.interop import load_pretrained, save_pretrained
whole = jax.device_get(load_pretrained(sys.argv[1]).params)
for shape in [dict(fsdp=4, tensor=2), dict(data=2, fsdp=2, tensor=2), dict(data=8), dict(fsdp=8)]:
    loaded = load_pretrained(sys.argv[1], sharding.make_mesh(**({"data": 1} | shape)))
    same = jax.tree.map(lambda a, b: np.asarray(a).tobytes() == b.tobytes(), loaded.params, whole)
    assert all(jax.tree.leaves(same)), shape
    wq = loaded.params["layers"]["block"]["attention"]["wq"]
    assert wq.sharding.shard_shape(wq.shape)[1] == wq.shape[1] // shape.get("fsdp", 1), shape
    assert len(wq.sharding.device_set) == 8
    save_pretrained(f"{sys.argv[1]}-{len(shape)}{shape.get('data', 0)}", loaded.config, loaded.params)
"""


@pytest.mark.slow
def test_sharded_loading_equals_loading_on_one_device(tmp_path):
    _, directory = saved(tmp_path, dataclasses.replace(PLAIN, vocab_size=96, qkv_bias=True))
    environment = dict(
        os.environ, XLA_FLAGS=os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=8", JAX_PLATFORMS="cpu"
    )
    done = subprocess.run([sys.executable, "-c", SHARDED, directory], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    again = list(tmp_path.glob("model-*/model.safetensors"))
    assert len(again) == 4
    assert all(file.read_bytes() == (directory / "model.safetensors").read_bytes() for file in again)


def test_casting_widens_exactly_and_narrows_by_rounding(tmp_path):
    config = preset("tiny", safety_signal=False, param_dtype="bfloat16")
    params, directory = saved(tmp_path, config)
    wide = load_pretrained(directory, dtype="float32").params
    assert equal(wide, jax.tree.map(lambda x: x.astype("float32"), params))
    wide_params, wide_directory = saved(tmp_path, TINY, "wide")
    narrow = load_pretrained(wide_directory, dtype="bfloat16").params
    signal = {name: value for name, value in wide_params.items() if name in SIGNAL}  # always float32
    assert equal(narrow, jax.tree.map(lambda x: x.astype("bfloat16"), wide_params) | signal)
    save_pretrained(tmp_path / "half", config, params, dtype="float16")
    assert load_pretrained(tmp_path / "half").config.param_dtype == "float32"


def test_a_fresh_signal_leaves_the_model_alone(tmp_path):
    _, directory = saved(tmp_path)
    plain = load_pretrained(directory)
    config, extended = add_signal(plain.config, plain.params, jax.random.key(0))
    assert equal({name: extended[name] for name in plain.params}, plain.params)
    assert not extended["safety_kernel"].any() and not extended["safety_bias"].any()
    spread = np.asarray(plain.params["embedding"])
    assert abs(extended["cls_embedding"].std() / spread.std() - 1) < 0.5
    assert config.safety_signal
    with pytest.raises(InputError, match="already"):
        add_signal(config, extended, jax.random.key(0))


def test_other_files_come_along_and_nothing_is_overwritten(tmp_path):
    _, directory = saved(tmp_path)
    (directory / "tokenizer.json").write_text("{}")
    (directory / "pytorch_model.bin").write_bytes(b"x")
    loaded = load_pretrained(directory)
    save_pretrained(tmp_path / "copy", loaded.config, loaded.params, values=loaded.values, assets=directory)
    names = {p.name for p in (tmp_path / "copy").iterdir()}
    assert names == {"config.json", "model.safetensors", "tokenizer.json"}
    with pytest.raises(InputError, match="exists"):
        save_pretrained(tmp_path / "copy", loaded.config, loaded.params)


def test_an_interrupted_save_leaves_nothing_that_looks_complete(tmp_path):
    def interrupt(count):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        saved(tmp_path, progress=interrupt)
    assert not (tmp_path / "model").exists()
    params, directory = saved(tmp_path)
    assert equal(load_pretrained(directory).params, params)
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def rewrite(directory, change):
    """Writes the directory's tensors again after `change(tensors)`, a dict name → array."""
    file = directory / "model.safetensors"
    tensors = {}
    for name, entry in read_header(file).items():
        kind = {"F32": np.float32, "BF16": ml_dtypes.bfloat16}[entry.dtype]
        tensors[name] = np.frombuffer(file.read_bytes()[entry.start : entry.stop], kind).reshape(entry.shape).copy()
    change(tensors)
    write_file(file, [(n, t.shape, t.dtype, lambda t=t: t) for n, t in tensors.items()])


KEY = "model.layers.1.self_attn.k_proj.weight"


def set_nan(tensors):
    tensors[KEY].reshape(-1)[17] = np.nan


@pytest.mark.parametrize(
    "change,message",
    [
        (lambda t: t.pop(KEY), f"{KEY}' is missing"),
        (lambda t: t.update({"model.layers.7.extra.weight": np.zeros(3, np.float32)}), "unexpected tensor 'model.layers.7"),
        (lambda t: t.update({KEY: t[KEY].T.copy()}), f"{KEY}' has shape"),
        (set_nan, f"{KEY}' in .* is not finite"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_broken_tensor_is_named(tmp_path, change, message, dtype):
    _, directory = saved(tmp_path, preset("tiny", safety_signal=False, tied_embeddings=False, param_dtype=dtype))
    rewrite(directory, change)
    with pytest.raises(InputError, match=message):
        load_pretrained(directory)


def test_nan_weights_can_be_allowed(tmp_path):
    _, directory = saved(tmp_path)
    rewrite(directory, set_nan)
    loaded = load_pretrained(directory, allow_non_finite=True)
    assert np.isnan(loaded.params["layers"]["block"]["attention"]["wk"][1]).sum() == 1


def test_a_truncated_or_mangled_file_is_refused_at_every_length(tmp_path):
    _, directory = saved(tmp_path)
    file = directory / "model.safetensors"
    whole = file.read_bytes()
    for size in [0, 4, 8, 100, len(whole) // 2, len(whole) - 1]:
        file.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"cut off|not a safetensors"):
            load_pretrained(directory)
    file.write_bytes(whole + b"x")
    with pytest.raises(InputError, match="too long"):
        load_pretrained(directory)
    length = int.from_bytes(whole[:8], "little")
    header = whole[8 : 8 + length].decode()
    twice = header.rstrip()[:-1] + ',"model.norm.weight":{"dtype":"F32","shape":[32],"data_offsets":[0,128]}}'
    file.write_bytes(len(twice).to_bytes(8, "little") + twice.encode() + whole[8 + length :])
    with pytest.raises(InputError, match="there twice"):
        load_pretrained(directory)


def test_quantised_and_pickled_weights_are_refused(tmp_path):
    _, directory = saved(tmp_path)
    file = directory / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b'"F32"', b'"I32"', 1))
    with pytest.raises(InputError, match="I32.*quantised"):
        load_pretrained(directory)
    file.unlink()
    (directory / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(InputError, match="runs any code"):
        load_pretrained(directory)
    (directory / "pytorch_model.bin").unlink()
    with pytest.raises(InputError, match=r"no \*.safetensors"):
        load_pretrained(directory)


def test_a_stored_rotary_buffer_follows_from_the_config(tmp_path):
    params, directory = saved(tmp_path)
    buffer = np.zeros(4, np.float32)
    rewrite(
        directory,
        lambda t: t.update({"model.rotary_emb.inv_freq": buffer, "model.rotary_emb.original_inv_freq": buffer}),
    )
    assert equal(load_pretrained(directory).params, params)
    rewrite(directory, lambda t: t.update({"model.rotary_emb.inv_freqs": buffer}))
    with pytest.raises(InputError, match="unexpected tensor 'model.rotary_emb.inv_freqs'"):
        load_pretrained(directory)


def test_other_weights_beside_the_model_are_not_the_model(tmp_path, capsys):
    params, directory = saved(tmp_path)
    for name in ("consolidated.safetensors", "consolidated.00.safetensors", "adapter_model.safetensors"):
        (directory / name).write_bytes(b"another project's")
    assert equal(load_pretrained(directory).params, params) and capsys.readouterr().err == ""
    (directory / "adapter_config.json").write_text("{}")
    loaded = load_pretrained(directory)
    assert "adapter_config.json describes an adapter; it is not applied" in capsys.readouterr().err
    save_pretrained(tmp_path / "copy", loaded.config, loaded.params, assets=directory)
    assert not (tmp_path / "copy/adapter_config.json").exists()
    (directory / "model.safetensors").unlink()
    with pytest.raises(InputError, match="which belong together"):
        load_pretrained(directory)
    for file in directory.glob("consolidated*"):
        file.unlink()
    with pytest.raises(InputError, match="only an adapter's weights"):
        load_pretrained(directory)
    _, parts = saved(tmp_path, name="parts", file_bytes=20_000)
    (parts / "consolidated.safetensors").write_bytes(b"another project's")
    assert equal(load_pretrained(parts).params, params)


HOSTILE = {
    "x" * 9: "is not JSON",
    "[]": "expected `object`",
    '{"a": 1}': "a: expected `object`|expected `object`",
    "[" * 5000: "nested too deeply",
    '{"a": {"dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [0, 0]}}': "has 0 bytes",
    '{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 0]}}': ">= 0",
    '{"a": {"dtype": "F32", "shape": [1.5], "data_offsets": [0, 0]}}': "expected `int`",
    '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 99999999999999999999999]}}': "too large",
    '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}': "length 2",
    '{"a": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0], "dtype": "F16"}}': "'dtype' is there twice",
    '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}': "cut off",
}


@pytest.mark.parametrize("header", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_header_is_one_line(tmp_path, header):
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode())
    with pytest.raises(InputError, match=HOSTILE[header]) as error:
        read_header(path)
    assert "model.safetensors" in str(error.value) and len(str(error.value)) < 400


def test_a_pipe_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="a pipe"):
        open_checkpoint(tmp_path)


def test_an_index_must_agree_with_its_files(tmp_path):
    _, directory = saved(tmp_path, file_bytes=20_000)
    index = json.loads((directory / INDEX).read_text())
    first = sorted(set(index["weight_map"].values()))[0]

    def broken(change, message):
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(directory, copy)
        change(copy)
        with pytest.raises(InputError, match=message):
            load_pretrained(copy)

    def write(where):
        return lambda copy: (copy / INDEX).write_text(json.dumps({"weight_map": where}))

    broken(lambda copy: (copy / first).unlink(), "which is not there")
    broken(lambda copy: (copy / INDEX).unlink(), "which belong together")
    broken(write({k: v for k, v in index["weight_map"].items() if k != KEY}), "is not in model.safetensors.index")
    broken(write(index["weight_map"] | {"ghost": first}), "'ghost' is in model.safetensors.index")
    broken(write(index["weight_map"] | {KEY: "../x.safetensors"}), "not a file name")
    broken(lambda copy: (copy / INDEX).write_text("{"), "is not JSON")
    broken(lambda copy: (copy / INDEX).write_text('{"weight_map": {"a": 1}}'), "weight_map.*expected `str`")
    broken(lambda copy: (copy / INDEX).write_text('{"weight_map": {"a": "x", "a": "y"}}'), "'a' is there twice")
    broken(lambda copy: (copy / "model.safetensors").write_bytes(b""), "two models")


def test_a_tied_head_stored_twice_must_be_the_embedding(tmp_path):
    _, directory = saved(tmp_path, preset("tiny", safety_signal=False))
    rewrite(directory, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].copy()}))
    load_pretrained(directory)
    rewrite(directory, lambda t: t["lm_head.weight"].__imul__(2))
    with pytest.raises(InputError, match="unexpected tensor 'lm_head.weight'"):
        load_pretrained(directory)


BASE = dict(
    model_type="llama", vocab_size=97, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48
)


@pytest.mark.parametrize(
    "change,message",
    [
        (dict(model_type="gpt2"), "model_type 'gpt2'"),
        (dict(architectures=["LlamaForSequenceClassification"]), "LlamaForSequenceClassification"),
        (dict(hidden_act="gelu"), "hidden_act"),
        (dict(attention_bias=True), "attention_bias"),
        (dict(mlp_bias=True), "mlp_bias"),
        (dict(rope_scaling={"rope_type": "dynamic", "factor": 4.0}), "'dynamic'"),
        (dict(rope_scaling={"rope_type": "llama3", "factor": 4.0}), "low_freq_factor"),
        (dict(rope_scaling={"type": "linear", "factor": 2.0, "beta": 1}), "beta"),
        (dict(sliding_window=5), "sliding_window"),
        (dict(quantization_config={"bits": 4}), "quantization_config"),
        (dict(logit_scale=2.0), "logit_scale"),
        (dict(model_type="qwen3", use_sliding_window=True, sliding_window=5, max_window_layers=1), "layer_types"),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(change, message):
    with pytest.raises(InputError, match=message):
        TransformerConfig.from_huggingface(BASE | change)


def test_defaults_are_those_of_the_families():
    llama = TransformerConfig.from_huggingface(BASE)
    assert (llama.kv_heads, llama.head_dim, llama.norm_eps, llama.rope_theta) == (4, 8, 1e-6, 10_000.0)
    assert (
        TransformerConfig.from_huggingface(BASE | dict(model_type="mistral", num_key_value_heads=2)).sliding_window
        == 4096
    )
    qwen = TransformerConfig.from_huggingface(BASE | dict(model_type="qwen3", num_key_value_heads=2, sliding_window=9))
    assert (qwen.head_dim, qwen.sliding_window, qwen.qk_norm) == (128, None, True)
