"""The same training step in torch `transformers`, to be timed beside ours."""

import time
from collections.abc import Callable

from safety_align.benchmarks.torch_model import torch_model
from safety_align.model import TransformerConfig


def torch_step(config: TransformerConfig, rows: int, length: int) -> Callable[[], float]:
    """A function that makes one step (forward, backward, clipped AdamW) and returns its seconds.

    `torch_model` of the same shape, fused optimizer, float32 parameters, autocast for bfloat16. Its rows are not packed, and
    every token is trained: less work for attention than ours, the same elsewhere.
    """
    model, device = torch_model(config)
    import torch

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
