"""Decoding in torch `transformers`, to be timed beside ours."""

import importlib.util
import time
from collections.abc import Callable

import numpy as np

from safety_align.errors import InputError
from safety_align.model import TransformerConfig
from safety_align.model.huggingface_config import write_config


def torch_decoding(config: TransformerConfig, prompt: np.ndarray, steps: int) -> Callable[[], float]:
    """A function that writes `steps` tokens behind each row of `prompt` [rows, tokens] and returns its seconds, the prompt's not counted.

    `generate` of a random `LlamaForCausalLM` of the same shape and dtype, greedy, on the GPU where there is one; as ours, no row
    stops early. Raises InputError where torch is missing.
    """
    if not all(importlib.util.find_spec(name) for name in ("torch", "transformers")):
        raise InputError("--torch needs torch and transformers: pip install -e '.[test]'")
    import torch
    import transformers

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    settings = transformers.LlamaConfig(**write_config(config, "llama"))
    model = transformers.LlamaForCausalLM._from_config(settings, attn_implementation="sdpa").eval()
    model = model.to(device, getattr(torch, config.dtype))
    model.generation_config.eos_token_id = None
    ids = torch.from_numpy(np.asarray(prompt, np.int64)).to(device)

    def wait() -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def run() -> float:
        clock = []

        def first(_, scores) -> torch.Tensor:  # called at each token; the first one is the prompt's
            clock or clock.append(wait())
            return scores

        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            min_new_tokens=1 + steps,
            max_new_tokens=1 + steps,
            pad_token_id=0,
            logits_processor=transformers.LogitsProcessorList([first]),
        )
        return wait() - clock[0]

    return run
