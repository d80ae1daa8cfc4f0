"""config.json: what changes nothing is passed over, what is wrong is one line that names it, two spellings never differ."""

import itertools
import json
import pathlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from safety_align.errors import InputError
from safety_align.model import RopeScaling, TransformerConfig, preset
from safety_align.model.attention import rotary_angles, rotary_frequencies
from safety_align.model.huggingface_config import _FIXED, ARCHITECTURES, _Read, family_of, write_config

BASE = dict(
    model_type="llama", vocab_size=97, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48
)
QWEN = BASE | dict(model_type="qwen2", num_key_value_heads=2)
MISTRAL = BASE | dict(model_type="mistral", num_key_value_heads=2)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=64)
CASES = pathlib.Path(__file__).parents[3] / "shared" / "cases"

read = TransformerConfig.from_huggingface


@pytest.mark.parametrize(
    "change",
    [
        dict(unsloth_fixed=True, unsloth_version="2025.1"),
        dict(use_mrope=False, use_logn_attn=False),
        dict(_attn_implementation_autoset=True, _model_name_or_path="x/y", _anything={"a": 1}),
        dict(torchscript=False, is_decoder=True, do_sample=True, top_k=50, temperature=0.6, pruned_heads={}),
        dict(quantization_config=None, rope_scaling=None, rope_parameters={}, head_dim=None, tie_word_embeddings=None),
        dict(
            hidden_dropout=0.1, resid_pdrop=0, attention_probs_dropout_prob=0.1, pad_token_id=0, forced_eos_token_id=[2]
        ),
        dict(rope_scaling={"type": None}, rope_parameters={"rope_type": "default", "rope_theta": 10_000.0}),
        dict(rope_scaling={"type": "default", "rope_type": "default", "partial_rotary_factor": 1.0, "factor": None}),
        dict(sliding_window=0, layer_types=["full_attention"] * 2),
        {"transformers.js_config": {"dtype": "q4"}, "is_llama_config": True, "rope_interleaved": False},
    ],
)
def test_what_changes_nothing_is_passed_over(change):
    assert read(BASE | change) == read(BASE)


@pytest.mark.parametrize(
    "change, named",
    [
        (dict(rms_norm_eps="1e-5"), "rms_norm_eps"),
        (dict(rms_norm_eps=None), "rms_norm_eps"),
        *((dict(rms_norm_eps=eps), "rms_norm_eps") for eps in (float("inf"), float("nan"), 0, 1e9, -1e-5, True)),
        (dict(rope_theta="ten"), "rope_theta"),
        *((dict(rope_theta=theta), "rope_theta") for theta in (float("inf"), float("nan"), 0, 1, -1e4, 1e30)),
        (dict(rope_scaling="yarn"), "rope_scaling"),
        (dict(rope_scaling=[]), "rope_scaling"),
        (dict(rope_scaling={"type": "linear", "factor": None}), "rope_scaling.*factor"),
        (dict(rope_scaling={"type": "linear", "factor": "2"}), "rope_scaling.factor.*'2'"),
        (dict(rope_scaling={"type": "linear", "factor": 0.5}), "rope_scaling.factor.*0.5"),
        (dict(rope_scaling={"type": "linear", "factor": True}), "rope_scaling.factor"),
        (dict(rope_scaling={"type": ["linear"]}), "rope_scaling"),
        (dict(rope_scaling={"type": "linear", "rope_type": "default", "factor": 2.0}), "rope_type 'default'.*'linear'"),
        (dict(rope_scaling={"factor": 2.0}), "factor"),
        (dict(rope_scaling=YARN | dict(original_max_position_embeddings=64.0)), "original_max_position_embeddings"),
        (dict(rope_scaling=YARN | dict(truncate=False)), "truncate"),
        (dict(rope_scaling=YARN, original_max_position_embeddings=32), "original_max_position_embeddings is 32"),
        (dict(rope_scaling={"type": "longrope", "factor": 2.0}), "'longrope'.*length of the text"),
        (dict(rope_parameters={"full_attention": {"rope_type": "default"}}), "by layer type.*full_attention"),
        (dict(partial_rotary_factor=0.5), "partial_rotary_factor"),
        (dict(model_type=["llama"]), "model_type"),
        (dict(model_type=None), "model_type"),
        (dict(architectures="LlamaForCausalLM"), "architectures"),
        (dict(tie_word_embeddings="false"), "tie_word_embeddings"),
        (dict(vocab_size=10**12), "vocab_size.*1000000000000"),
        (dict(vocab_size=97.0), "vocab_size"),
        (dict(vocab_size=True), "vocab_size"),
        (dict(num_hidden_layers=10**9), "num_hidden_layers.*1000000000"),
        (dict(hidden_size=-32), "hidden_size.*-32"),
        (dict(num_attention_heads=0), "num_attention_heads"),
        (dict(num_attention_heads=5), "hidden_size .32. is not a multiple"),
        (dict(num_key_value_heads=0), "num_key_value_heads"),
        (dict(head_dim=0), "head_dim"),
        (dict(intermediate_size=None), "intermediate_size"),
        (dict(layer_types=["full_attention"]), "layer_types has 1 entries for 2"),
        (dict(layer_types="full_attention"), "layer_types"),
        (MISTRAL | dict(sliding_window=0), "sliding_window"),
        (MISTRAL | dict(layer_types=["full_attention"] * 2), "layer_types.*sliding_window 4096"),
        (dict(use_mrope=True), "use_mrope"),
        (dict(logit_scale=2), "logit_scale"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_field(change, named):
    with pytest.raises(InputError, match=named) as caught:
        read(BASE | change)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.parametrize("value", [[], None, "llama", 3])
def test_a_config_that_is_no_object(value):
    with pytest.raises(InputError, match="config.json.*object"):
        read(value)


_NAMES = st.sampled_from(sorted(_Read.__annotations__) + sorted(_FIXED) + ["use_cache", "other"])
_ROPES = [
    "rope_theta",
    "rope_type",
    "type",
    "factor",
    "original_max_position_embeddings",
    "beta_fast",
    "mscale",
    "low_freq_factor",
]
_LEAVES = st.one_of(
    st.none(), st.booleans(), st.floats(), st.integers(-2, 70), st.integers(),
    st.sampled_from(["", "llama", "qwen2", "yarn", "linear", "default", "llama3", "silu", "full_attention", "\ud800\n"]),
)  # fmt: skip
_ANYTHING = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_ROPES), inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(_NAMES, _ANYTHING, min_size=1, max_size=4))
@example({"architectures": "\ud800\n"})
@settings(max_examples=400, deadline=None)
def test_anything_is_a_config_or_one_line(change):
    try:
        config = read(BASE | change)
    except InputError as error:
        assert str(error).startswith(("config.json", "model.")) and "\n" not in str(error)
    else:
        if config.head_dim <= 1024:
            assert np.isfinite(rotary_frequencies(config)).all()


def test_two_spellings_of_one_setting_never_lose_one():
    linear, outside = {"type": "linear", "factor": 4.0}, {"rope_theta": 1e6}
    for values in (
        outside | dict(rope_scaling=linear),
        outside | dict(rope_scaling=linear, rope_parameters={"rope_type": "default", "rope_theta": 1e6}),
        dict(rope_parameters=linear | outside),
        outside | dict(rope_parameters=linear | outside, rope_scaling=linear),
    ):
        found = read(BASE | values)
        assert (found.rope_theta, found.rope_scaling) == (1e6, RopeScaling("linear", 4.0))
    for values in (
        outside | dict(rope_parameters={"rope_type": "default", "rope_theta": 1e4}),
        outside | dict(rope_parameters={"rope_type": "default", "rope_theta": 1e4}, rope_scaling=linear),
        dict(rope_parameters=linear, rope_scaling=linear | {"factor": 2.0}),
        dict(rope_parameters=YARN, rope_scaling=linear),
    ):
        with pytest.raises(InputError, match=r"rope_\w+.*remove the wrong one"):
            read(BASE | values)


@pytest.mark.parametrize(
    "name", sorted(p.name for folder in ("03", "07", "13") for p in CASES.glob(f"{folder}_*/*.json"))
)
def test_reported_files(name):
    (path,) = (p for folder in ("03", "07", "13") for p in CASES.glob(f"{folder}_*/{name}"))
    values = json.loads(path.read_text())
    if path.parent.name.startswith("03"):
        assert read(values).rope_theta == 1e6
    else:
        field = (
            "rope" if path.parent.name.startswith("07") else name.split("_null")[0].split("_text")[0].split("_list")[0]
        )
        with pytest.raises(InputError, match=field):
            read(values)


def theirs(values: dict):
    """(transformers' frequencies, attention factor) of a config.json."""
    transformers = pytest.importorskip("transformers", reason="transformers is in the test extra")
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = transformers.AutoConfig.for_model(**values)
    return ROPE_INIT_FUNCTIONS[config.rope_parameters["rope_type"]](config)


@pytest.mark.parametrize(
    "scaling",
    [
        dict(rope_type="linear", factor=2.5),
        *(
            dict(rope_type="yarn", factor=factor, original_max_position_embeddings=length) | more
            for factor, length, more in itertools.product(
                (1.0, 4.0, 40.0),
                (8, 4096, 131072),
                (
                    {},
                    dict(beta_fast=8, beta_slow=2.0),
                    dict(attention_factor=0.7),
                    dict(mscale=1.0, mscale_all_dim=0.5),
                    dict(mscale=0.7, mscale_all_dim=0),
                ),
            )
        ),
        dict(
            rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
            original_max_position_embeddings=8192,
        ),
    ],
)  # fmt: skip
def test_frequencies_equal_those_of_transformers(scaling):
    """Within 1e-6: they compute in float32, we round once."""
    values = dict(QWEN, hidden_size=512, rope_theta=1e6, max_position_embeddings=10**6)
    frequencies, factor = theirs(values | dict(rope_scaling=dict(scaling)))
    ours = read(values | dict(rope_scaling=scaling))
    np.testing.assert_allclose(rotary_frequencies(ours), frequencies.numpy(), rtol=1e-6)
    cos, sin = rotary_angles(np.arange(3)[None], ours)
    np.testing.assert_allclose(cos**2 + sin**2, np.full(cos.shape, factor**2), rtol=1e-6)


@pytest.mark.parametrize("family", ARCHITECTURES)
@pytest.mark.parametrize("window", [{}, dict(use_sliding_window=True), dict(sliding_window=7, use_sliding_window=True)])
@pytest.mark.parametrize("layers", [{}, dict(max_window_layers=0), dict(layer_types=["sliding_attention"] * 2)])
def test_windows_are_those_of_transformers(family, window, layers):
    transformers = pytest.importorskip("transformers", reason="transformers is in the test extra")
    values = BASE | dict(model_type=family, num_key_value_heads=2) | window | layers
    reference = transformers.AutoConfig.for_model(**values)
    try:
        found = read(values).sliding_window
    except InputError:
        # Refused is right where transformers has no one window for all layers either.
        assert family == "llama" or (family.startswith("qwen") and "layer_types" in layers and not window)
        return
    if family.startswith("qwen"):
        kinds = set(reference.layer_types)
        assert found == (reference.sliding_window if kinds == {"sliding_attention"} else None)
    else:
        assert found == getattr(reference, "sliding_window", None)


@pytest.mark.parametrize(
    "change",
    [
        dict(rope_scaling=RopeScaling("yarn", 4.0, original_length=64)),
        dict(rope_scaling=RopeScaling("yarn", 4.0, 2.0, 8.0, 64, 0.9), qkv_bias=True),
        dict(rope_scaling=RopeScaling("linear", 3.0), rope_theta=5e5),
        dict(rope_scaling=RopeScaling("llama3", 8.0), sliding_window=9),
    ],
)
def test_a_written_config_is_read_back(change):
    config = preset("tiny", safety_signal=False, **change)
    assert read(json.loads(json.dumps(write_config(config, family_of(config))))) == config
