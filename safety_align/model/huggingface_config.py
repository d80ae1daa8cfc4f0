"""Hugging Face `config.json` ↔ fields of `TransformerConfig`. A field that changes the result is never ignored.

Every field of the JSON is read, checked against the one value that this transformer implements, or known not to matter
for inference. Of the others, those that are switched off or empty change nothing; the rest is refused by name.
"""

import math
from typing import Any, TypedDict

from safety_align.bounds import integer, number, shown
from safety_align.errors import InputError
from safety_align.model.ranges import NORM_EPS, ROPE_THETA, SIZES
from safety_align.strict_json import check_type

ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
"""model_type → the architecture that its weights belong to."""

# What an absent field means: the defaults of the reference implementation's own configuration classes.
_ABSENT = {
    "llama": {"rms_norm_eps": 1e-6},
    "mistral": {"rms_norm_eps": 1e-6, "num_key_value_heads": 8, "sliding_window": 4096},
    "qwen2": {"rms_norm_eps": 1e-6, "num_key_value_heads": 32, "sliding_window": 4096},
    "qwen3": {"rms_norm_eps": 1e-6, "num_key_value_heads": 32, "sliding_window": 4096, "head_dim": 128},
}


class _Read(TypedDict, total=False):
    """What is read below, and of which type it is."""

    model_type: str
    architectures: list[str] | None
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int | None
    head_dim: int | None
    intermediate_size: int
    rms_norm_eps: float
    tie_word_embeddings: bool | None
    rope_theta: float | None
    rope_scaling: dict[str, Any] | None
    rope_parameters: dict[str, Any] | None
    original_max_position_embeddings: int | None
    sliding_window: int | None
    use_sliding_window: bool | None
    layer_types: list[str] | None
    max_window_layers: int | None


_SIZES = {
    "vocab_size": "vocab_size", "hidden_size": "width", "num_hidden_layers": "layers", "num_attention_heads": "heads",
    "num_key_value_heads": "kv_heads", "head_dim": "head_dim", "intermediate_size": "mlp_width",
}  # fmt: skip

# The only value that is implemented.
_FIXED = {
    "hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "pretraining_tp": 1, "is_encoder_decoder": False,
    "add_cross_attention": False, "partial_rotary_factor": 1.0,
}  # fmt: skip

# Neither shapes nor arithmetic at inference: what the reference implementation and well-known tools write.
_HARMLESS = {
    "max_position_embeddings", "initializer_range", "initializer_factor", "use_cache", "transformers_version",
    "torch_dtype", "dtype", "use_bfloat16", "torchscript", "is_decoder", "tf_legacy_loss", "output_hidden_states",
    "output_attentions", "return_dict", "chunk_size_feed_forward", "tie_last_hidden_states", "id2label", "label2id",
    "num_labels", "problem_type", "finetuning_task", "task_specific_params", "tokenizer_class", "prefix",
    "name_or_path", "auto_map", "attn_implementation", "experts_implementation", "cache_implementation",
    "gradient_checkpointing", "unsloth_version", "unsloth_fixed", "transformers.js_config", "is_llama_config",
    "model_max_length", "max_sequence_length", "max_seq_len", "seq_length",
    # Settings of `generate` that older files hold: the decoder has its own.
    "max_length", "min_length", "max_new_tokens", "min_new_tokens", "do_sample", "early_stopping", "num_beams",
    "num_beam_groups", "diversity_penalty", "temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff",
    "eta_cutoff", "repetition_penalty", "encoder_repetition_penalty", "length_penalty", "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences", "output_scores", "output_logits",
    "return_dict_in_generate", "remove_invalid_values", "exponential_decay_length_penalty", "suppress_tokens",
    "begin_suppress_tokens", "renormalize_logits",
}  # fmt: skip


def _matters(name: str, value: Any) -> bool:
    """A field that nothing here knows may change the result: it is not private, not off, no dropout and no token id."""
    off = value is None or value is False or value in ("", [], {})
    return not (off or name.startswith("_") or name.endswith(("dropout", "pdrop", "dropout_prob", "_token_id")))


def read_config(values: dict) -> dict:
    """Fields of `TransformerConfig` from a parsed config.json; InputError names what is wrong or not implemented."""
    read = check_type(values, _Read, "config.json")
    family = read.get("model_type")
    if family not in ARCHITECTURES:
        raise InputError(f"config.json: model_type {shown(family)} is not one of {', '.join(ARCHITECTURES)}")
    for name in read.get("architectures") or []:
        if name != ARCHITECTURES[family]:
            raise InputError(
                f"config.json: architecture {shown(name)} is not implemented, only {ARCHITECTURES[family]}"
            )
    for name, only in _FIXED.items():
        if name in values and values[name] is not None and values[name] != only:
            raise InputError(f"config.json: {name} = {shown(values[name])} is not implemented, only {only!r}")
    for name in sorted(values.keys() - _Read.__annotations__ - _FIXED.keys() - _HARMLESS):
        if _matters(name, values[name]):
            raise InputError(
                f"config.json: unknown field {shown(name)} = {shown(values[name])}; it may change the result"
            )
    read = _ABSENT[family] | read
    number("config.json: rms_norm_eps", read["rms_norm_eps"], *NORM_EPS)
    return _sizes(read) | {
        "norm_eps": read["rms_norm_eps"],
        "tied_embeddings": bool(read.get("tie_word_embeddings")),
        "sliding_window": _sliding_window(read, family),
        "qkv_bias": family == "qwen2",
        "qk_norm": family == "qwen3",
        **_rope(read),
    }


def _sizes(read: dict) -> dict:
    """The fields of `SIZES`, within their bounds."""
    read = dict(read)
    for name in ("num_attention_heads", "hidden_size"):  # others follow from these two
        if name not in read:
            raise InputError(f"config.json: {name} is missing")
        integer(f"config.json: {name}", read[name], 1, SIZES[_SIZES[name]])
    heads, width = read["num_attention_heads"], read["hidden_size"]
    if read.get("num_key_value_heads") is None:
        read["num_key_value_heads"] = heads
    if read.get("head_dim") is None:
        if width % heads:
            raise InputError(
                f"config.json: hidden_size ({width}) is not a multiple of num_attention_heads ({heads}), and there is "
                "no head_dim"
            )
        read["head_dim"] = width // heads
    for name, ours in _SIZES.items():
        if name not in read:
            raise InputError(f"config.json: {name} is missing")
        integer(f"config.json: {name}", read[name], 1, SIZES[ours])
    return {ours: read[name] for name, ours in _SIZES.items()}


_ROPE = {
    "default": ({}, {}),
    "linear": ({"factor": "factor"}, {}),
    "llama3": (
        {
            "factor": "factor",
            "low_freq_factor": "low_frequency",
            "high_freq_factor": "high_frequency",
            "original_max_position_embeddings": "original_length",
        },
        {},
    ),
    "yarn": (
        {"factor": "factor", "original_max_position_embeddings": "original_length"},
        {"beta_slow": "low_frequency", "beta_fast": "high_frequency", "attention_factor": "attention_factor"},
    ),
}
"""RoPE type → its parameters, their names there and here: those that it must have, those that it may have."""

_BY_LENGTH = ("dynamic", "longrope", "su")
"""RoPE types whose frequencies change with the length of the text: keys in a cache were rotated by others."""


def _rope(read: dict) -> dict:
    """rope_theta and rope_scaling from their two spellings, which may not contradict each other.

    Older files have `rope_theta` and `rope_scaling`, newer ones `rope_parameters`, which holds both; some have all.
    """
    thetas = {} if read.get("rope_theta") is None else {"rope_theta": read["rope_theta"]}
    scalings = {}
    for name in ("rope_parameters", "rope_scaling"):
        parameters = {key: value for key, value in (read.get(name) or {}).items() if value is not None}
        if "rope_theta" in parameters:
            thetas[f"{name}.rope_theta"] = parameters.pop("rope_theta")
        if scaling := _scaling(name, parameters, read.get("original_max_position_embeddings")):
            scalings[name] = scaling
    for name, theta in thetas.items():
        number(f"config.json: {name}", theta, *ROPE_THETA)
    kinds = ", ".join(f"{name}: {scaling['kind']}" for name, scaling in scalings.items()) or "no scaling"
    if len(set(thetas.values())) > 1:
        found = ", ".join(f"{name} = {theta}" for name, theta in thetas.items())
        raise InputError(f"config.json: {found} ({kinds}) contradict each other; remove the wrong one")
    if len(scalings) == 2 and scalings["rope_parameters"] != scalings["rope_scaling"]:
        raise InputError(f"config.json: rope_parameters and rope_scaling ({kinds}) differ; remove the wrong one")
    return {
        "rope_theta": float(next(iter(thetas.values()), 10_000.0)),
        "rope_scaling": next(iter(scalings.values()), None),
    }


def _scaling(where: str, parameters: dict, original_length: int | None) -> dict | None:
    """Fields of `RopeScaling` from one spelling (without `rope_theta` and nulls), or None where it scales nothing."""
    nested = sorted(key for key, value in parameters.items() if isinstance(value, dict))
    if nested:
        raise InputError(f"config.json: {where} by layer type ({shown(nested)}) is not implemented")
    kinds = [parameters.pop(key) for key in ("rope_type", "type") if key in parameters] or ["default"]
    for kind in kinds:
        if kind in _BY_LENGTH:
            raise InputError(
                f"config.json: {where} of type {kind!r} is not implemented: its frequencies change with the length of "
                "the text, and keys in the cache were rotated by the old ones"
            )
        if not isinstance(kind, str) or kind not in _ROPE:
            raise InputError(f"config.json: {where} of type {shown(kind)} is not implemented, only {', '.join(_ROPE)}")
    kind = kinds[0]
    if kind != kinds[-1]:
        raise InputError(f"config.json: {where} has both rope_type {kind!r} and type {kinds[-1]!r}")
    inert = {"partial_rotary_factor": 1, "truncate": True, "finetuned": parameters.get("finetuned")}
    parameters = {key: value for key, value in parameters.items() if key not in inert or value != inert[key]}
    must, may = _ROPE[kind]
    if original_length is not None and "original_max_position_embeddings" in must:
        if parameters.setdefault("original_max_position_embeddings", original_length) != original_length:
            raise InputError(
                f"config.json: original_max_position_embeddings is {original_length}, in {where} "
                f"{shown(parameters['original_max_position_embeddings'])}; remove the wrong one"
            )
    mscale = [parameters.pop(key, 0) if kind == "yarn" else 0 for key in ("mscale", "mscale_all_dim")]
    if odd := sorted(must.keys() - parameters.keys() | parameters.keys() - must.keys() - may.keys()):
        raise InputError(f"config.json: {where} of type {kind!r} has missing or unknown parameters: {shown(odd)}")
    names = must | may
    for key, value in parameters.items():
        if key == "original_max_position_embeddings":
            integer(f"config.json: {where}.{key}", value, 1)
        else:
            number(
                f"config.json: {where}.{key}", value, 1 if key == "factor" else 1e-3, 1e6 if key == "factor" else 1e3
            )
    scaling = {names[key]: value for key, value in parameters.items()}
    for value in mscale:
        number(f"config.json: {where}.mscale", value, 0, 1e3)
    if all(mscale) and "attention_factor" not in parameters:  # one without the other is not looked at
        above, below = (0.1 * value * math.log(parameters["factor"]) + 1 for value in mscale)
        scaling["attention_factor"] = above / below
    return {"kind": kind} | scaling if kind != "default" else None


def _sliding_window(read: dict, family: str) -> int | None:
    """The window that every layer has, or None; windows on some layers only are refused."""
    layers, kinds, window = read["num_hidden_layers"], read.get("layer_types"), read.get("sliding_window")
    if family == "llama":
        if window:
            raise InputError(f"config.json: sliding_window = {window} is not implemented for llama")
        window = None
    if family.startswith("qwen"):
        if not read.get("use_sliding_window"):
            window = None
        elif kinds is None and window is not None:  # the first max_window_layers layers attend to everything
            full = read.get("max_window_layers")
            full = min(max(28 if full is None else full, 0), layers)
            kinds = ["full_attention"] * full + ["sliding_attention"] * (layers - full)
    if window is not None:
        integer("config.json: sliding_window", window, 1)
    if kinds is None:
        return window
    if len(kinds) != layers:
        raise InputError(f"config.json: layer_types has {len(kinds)} entries for {layers} layers")
    if set(kinds) == {"full_attention"} and (window is None or family != "mistral"):
        return None
    if set(kinds) == {"sliding_attention"} and window:
        return window
    raise InputError(
        f"config.json: layer_types {shown(sorted(set(kinds)))} with sliding_window {window} are not implemented"
    )


def write_config(config, family: str, extra: dict | None = None) -> dict:
    """The config.json that describes `config` (a TransformerConfig) as a model of `family`.

    Raises InputError where the family has no such model. `extra` fields (token ids, say) are added.
    """
    if family not in ARCHITECTURES:
        raise InputError(f"family {family!r} is not one of {', '.join(ARCHITECTURES)}")
    values = {
        "architectures": [ARCHITECTURES[family]],
        "model_type": family,
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.mlp_width,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_eps,
        "tie_word_embeddings": config.tied_embeddings,
        "rope_theta": config.rope_theta,
    }
    scaling = config.rope_scaling
    if scaling is not None:
        values["rope_scaling"] = {"rope_type": scaling.kind, "factor": scaling.factor}
        if scaling.kind != "linear":
            low, high = (
                ("beta_slow", "beta_fast") if scaling.kind == "yarn" else ("low_freq_factor", "high_freq_factor")
            )
            values["rope_scaling"] |= {
                low: scaling.low_frequency,
                high: scaling.high_frequency,
                "original_max_position_embeddings": scaling.original_length,
            }
        if scaling.kind == "yarn":
            values["rope_scaling"]["attention_factor"] = scaling.attention_factor
    if family == "mistral":
        values["sliding_window"] = config.sliding_window
    elif family.startswith("qwen") and config.sliding_window:
        values |= {"use_sliding_window": True, "sliding_window": config.sliding_window, "max_window_layers": 0}
    values |= extra or {}
    described = type(config)(**read_config(values))
    for name in ("sliding_window", "qkv_bias", "qk_norm", "rope_scaling"):
        if getattr(described, name) != getattr(config, name):
            raise InputError(f"a {family} model cannot have {name} = {getattr(config, name)!r}")
    return values


def family_of(config) -> str:
    """The family whose checkpoints `config` is written as."""
    if config.qkv_bias and config.qk_norm:
        raise InputError("no Hugging Face family has both qkv_bias and qk_norm")
    if config.qkv_bias:
        return "qwen2"
    if config.qk_norm:
        return "qwen3"
    return "mistral" if config.sliding_window else "llama"
