"""nanoGCG on a random torch model, to be timed beside our GCG."""

import gc
import time
from collections.abc import Callable

from safety_align.benchmarks.torch_model import need, torch_model
from safety_align.model import TransformerConfig
from safety_align.text import Tokenizer


def nanogcg_steps(
    config: TransformerConfig, tokenizer: Tokenizer, goal: str, target: str, width: int, batch: int, steps: int
) -> Callable[[], tuple[float, list[float]]]:
    """A function that returns (steps a second, the losses) of nanoGCG with `width` candidates, `batch` at once, 256 tokens a place,
    its filter and its prefix cache on, on a `torch_model` of the shape of `config`."""
    # It asks for a transformers older than ours, which it does not need (`_pairs_as_cache`).
    need("nanogcg", "pip install --no-deps nanogcg==0.3.0")
    plain, _ = torch_model(config)
    import nanogcg
    import tokenizers
    import torch
    import transformers

    plain.requires_grad_(False)
    model = _pairs_as_cache(plain.eval().to(getattr(torch, config.dtype)))
    bpe = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    reader = transformers.PreTrainedTokenizerFast(tokenizer_object=bpe)
    reader.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"

    def run(count: int) -> tuple[float, list[float]]:
        budget = nanogcg.GCGConfig(
            num_steps=count, search_width=width, batch_size=batch, topk=256, seed=0, verbosity="WARNING"
        )
        started = time.perf_counter()
        found = nanogcg.run(model, reader, goal, target, budget)
        return time.perf_counter() - started, found.losses

    def measured() -> tuple[float, list[float]]:
        gc.collect()
        gc.freeze()  # nanoGCG collects garbage after every batch, and is not to pay for our objects
        run(1)
        (one, _), (all_of_them, losses) = run(1), run(1 + steps)
        return steps / (all_of_them - one), [losses[0], losses[-1]]

    return measured


def _pairs_as_cache(plain):
    """nanoGCG 0.3 hands the prefix on as pairs of keys and values, and expects as much; transformers 5 has objects, which a call
    adds to. Every call gets a fresh one."""
    import torch
    import transformers

    class Model(torch.nn.Module):
        config, dtype, device = plain.config, plain.dtype, plain.device

        def __init__(self):
            super().__init__()
            self.plain = plain

        def get_input_embeddings(self):
            return self.plain.get_input_embeddings()

        def forward(self, past_key_values=None, **arguments):
            if past_key_values is not None:
                cache = transformers.DynamicCache()
                for layer, (keys, values) in enumerate(past_key_values):
                    cache.update(keys, values, layer)
                arguments["past_key_values"] = cache
            found = self.plain(**arguments)
            if found.past_key_values is not None:
                found.past_key_values = [(layer.keys, layer.values) for layer in found.past_key_values.layers]
            return found

    return Model()
