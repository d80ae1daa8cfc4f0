"""The same training step in torch `transformers`, to be timed beside ours."""

import importlib.util
import time
from collections.abc import Callable

from safety_align.errors import InputError
from safety_align.model import TransformerConfig
from safety_align.model.huggingface_config import write_config


def torch_step(config: TransformerConfig, rows: int, length: int) -> Callable[[], float]:
    """A function that makes one step (forward, backward, clipped AdamW) and returns its seconds.

    `LlamaForCausalLM` of the same shape, fused scaled-dot-product attention and optimizer, float32 parameters, autocast
    for bfloat16, on the GPU where there is one. Its rows are not packed, and every token is trained: less work for
    attention than ours, the same elsewhere. Raises InputError where torch is missing.
    """
    if not all(importlib.util.find_spec(name) for name in ("torch", "transformers")):
        raise InputError("--torch needs torch and transformers: pip install -e '.[test]'")
    import torch
    import transformers

    device = "cuda" if torch.cuda.is_available() else "cpu"
    values = write_config(config, "llama")
    torch.manual_seed(0)
    settings = transformers.LlamaConfig(**values, use_cache=False)
    model = transformers.LlamaForCausalLM._from_config(settings, attn_implementation="sdpa").to(device).float()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1, fused=True)
    tokens = torch.randint(config.vocab_size, (rows, length), device=device)

    def run() -> float:
        started = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=config.dtype == "bfloat16"):
            loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    return run
