"""Decoding in torch `transformers`, to be timed beside ours."""

import time
from collections.abc import Callable

import numpy as np

from safety_align.benchmarks.torch_model import torch_model
from safety_align.model import TransformerConfig


def torch_decoding(config: TransformerConfig, prompt: np.ndarray, steps: int) -> Callable[[], float]:
    """A function that writes `steps` tokens behind each row of `prompt` [rows, tokens] and returns its seconds, the prompt's not counted.

    `generate` of `torch_model`, of the same shape and dtype, greedy; as ours, no row stops early.
    """
    model, device = torch_model(config)
    import torch
    import transformers

    model = model.eval().to(getattr(torch, config.dtype))
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
