"""A random `transformers` model of a shape of ours, to be timed beside it."""

import importlib.util

from safety_align.errors import InputError
from safety_align.model import TransformerConfig
from safety_align.model.huggingface_config import family_of, write_config


def need(package: str, install: str) -> None:
    """Raises InputError, which says how to `install` it, where a package is missing."""
    if not importlib.util.find_spec(package):
        raise InputError(f"{package} is missing, which this is timed beside: {install}")


def torch_model(config: TransformerConfig):
    """(model, device): without the safety signal, fused scaled-dot-product attention, float32 parameters, on the GPU where there is
    one. Raises InputError where torch or transformers is missing."""
    for package in ("torch", "transformers"):
        need(package, "pip install -e '.[test]'")
    import torch
    import transformers

    torch.manual_seed(0)
    values = write_config(config, family := family_of(config))
    settings = transformers.AutoConfig.for_model(family, **{k: v for k, v in values.items() if k != "model_type"})
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(settings, attn_implementation="sdpa", dtype=torch.float32)
    return model, device
