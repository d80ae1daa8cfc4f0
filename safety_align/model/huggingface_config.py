"""Hugging Face `config.json` ↔ fields of `TransformerConfig`. A field that changes the result is never ignored.

Every field of the JSON is read, checked against the one value that this transformer implements, or known not to matter
for inference; any other is refused by name.
"""

from safety_align.errors import InputError

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
    "qwen2": {"rms_norm_eps": 1e-6, "num_key_value_heads": 32},
    "qwen3": {"rms_norm_eps": 1e-6, "num_key_value_heads": 32, "head_dim": 128},
}

# Read below.
_READ = {
    "model_type", "architectures", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "intermediate_size", "rms_norm_eps", "tie_word_embeddings", "rope_theta",
    "rope_scaling", "rope_parameters", "sliding_window", "use_sliding_window", "layer_types", "max_window_layers",
}  # fmt: skip

# The only value that is implemented.
_FIXED = {
    "hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "pretraining_tp": 1, "is_encoder_decoder": False,
    "add_cross_attention": False, "partial_rotary_factor": 1.0,
}  # fmt: skip

# Neither shapes nor arithmetic at inference.
_HARMLESS = {
    "max_position_embeddings", "initializer_range", "use_cache", "pad_token_id", "bos_token_id", "eos_token_id",
    "attention_dropout", "transformers_version", "_name_or_path", "torch_dtype", "dtype", "output_hidden_states",
    "output_attentions", "return_dict", "chunk_size_feed_forward", "id2label", "label2id", "problem_type",
    "auto_map", "unsloth_version", "_attn_implementation", "tokenizer_class", "finetuning_task", "task_specific_params",
}  # fmt: skip


def read_config(values: dict) -> dict:
    """Fields of `TransformerConfig` from a parsed config.json; InputError names what is not implemented."""
    family = values.get("model_type")
    if family not in ARCHITECTURES:
        raise InputError(f"config.json: model_type {family!r} is not one of {', '.join(ARCHITECTURES)}")
    for name in values.get("architectures") or []:
        if name != ARCHITECTURES[family]:
            raise InputError(f"config.json: architecture {name!r} is not implemented, only {ARCHITECTURES[family]}")
    for name, only in _FIXED.items():
        if name in values and values[name] is not None and values[name] != only:
            raise InputError(f"config.json: {name} = {values[name]!r} is not implemented, only {only!r}")
    for name in sorted(values.keys() - _READ - _FIXED.keys() - _HARMLESS):
        if values[name] is not None:
            raise InputError(f"config.json: unknown field {name!r} = {values[name]!r}; it may change the result")
    values = _ABSENT[family] | values
    try:
        heads, width = values["num_attention_heads"], values["hidden_size"]
        fields = {
            "vocab_size": values["vocab_size"],
            "width": width,
            "layers": values["num_hidden_layers"],
            "heads": heads,
            "kv_heads": values.get("num_key_value_heads") or heads,
            "head_dim": values.get("head_dim") or width // heads,
            "mlp_width": values["intermediate_size"],
        }
    except KeyError as error:
        raise InputError(f"config.json: {error.args[0]} is missing") from None
    return fields | {
        "norm_eps": values["rms_norm_eps"],
        "tied_embeddings": bool(values.get("tie_word_embeddings", False)),
        "sliding_window": _sliding_window(values, family),
        "qkv_bias": family == "qwen2",
        "qk_norm": family == "qwen3",
        **_rope(values),
    }


def _rope(values: dict) -> dict:
    """rope_theta and rope_scaling from either spelling: `rope_parameters`, or `rope_theta` and `rope_scaling`."""
    parameters = dict(values.get("rope_parameters") or values.get("rope_scaling") or {})
    theta = float(parameters.pop("rope_theta", None) or values.get("rope_theta") or 10_000.0)
    kind = parameters.pop("rope_type", None) or parameters.pop("type", None) or "default"
    parameters.pop("type", None)
    wanted = {
        "default": {},
        "linear": {"factor": "factor"},
        "llama3": {
            "factor": "factor",
            "low_freq_factor": "low_frequency",
            "high_freq_factor": "high_frequency",
            "original_max_position_embeddings": "original_length",
        },
    }
    if kind not in wanted:
        raise InputError(f"config.json: RoPE type {kind!r} is not implemented, only {', '.join(wanted)}")
    if parameters.get("partial_rotary_factor") in (1, 1.0):
        del parameters["partial_rotary_factor"]
    if set(parameters) != set(wanted[kind]):
        odd = ", ".join(sorted(set(parameters) ^ set(wanted[kind])))
        raise InputError(f"config.json: RoPE type {kind!r} has missing or unknown parameters: {odd}")
    scaling = {ours: parameters[theirs] for theirs, ours in wanted[kind].items()}
    return {"rope_theta": theta, "rope_scaling": {"kind": kind} | scaling if scaling else None}


def _sliding_window(values: dict, family: str) -> int | None:
    """The window that every layer has, or None; windows on some layers only are refused."""
    layers, kinds = values.get("num_hidden_layers"), values.get("layer_types")
    window = values.get("sliding_window")
    if family == "llama":
        if window:
            raise InputError(f"config.json: sliding_window = {window} is not implemented for llama")
    elif family.startswith("qwen"):
        if not values.get("use_sliding_window", False):
            window = None
        elif kinds is None:  # the first max_window_layers layers attend to everything
            first = values.get("max_window_layers", 28)
            kinds = ["full_attention"] * min(first, layers) + ["sliding_attention"] * max(layers - first, 0)
    if kinds is None:
        return window
    if set(kinds) == {"full_attention"}:
        return None
    if set(kinds) == {"sliding_attention"} and window:
        return window
    raise InputError(f"config.json: layer_types {sorted(set(kinds))} in one model are not implemented")


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
        if scaling.kind == "llama3":
            values["rope_scaling"] |= {
                "low_freq_factor": scaling.low_frequency,
                "high_freq_factor": scaling.high_frequency,
                "original_max_position_embeddings": scaling.original_length,
            }
    if family == "mistral":
        values["sliding_window"] = config.sliding_window
    elif family.startswith("qwen") and config.sliding_window:
        values |= {"use_sliding_window": True, "sliding_window": config.sliding_window, "max_window_layers": 0}
    values |= extra or {}
    described = type(config)(**read_config(values))
    for name in ("sliding_window", "qkv_bias", "qk_norm"):
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
