"""Alignment of a published chat model as a whole, with the safety signal: the paper's method, shape and template the model's own.

The data of configs/align_llama2_7b.py for 15 epochs of 29,600 conversations, AdamW, 2e-5, x0.85 an epoch; lambda_2 = 0.01, as the
paper has it for a model that is aligned already. The answer attends to `[CLS]`, and every weight is trained: parameters and
moments in float32, 16 bytes a parameter over all devices, activations in bfloat16. For one accelerator and models of 0.5 to
1.5 B parameters whose template has a system turn; a CPU takes minutes a step. Not run yet on a real model; a tiny one
takes the same path in tests/interop/test_published.py, where the data are.

    python -m launch.train --config=configs/align_published.py --workdir=runs/aligned --config.init_from=Qwen/Qwen2.5-Coder-0.5B-Instruct
"""

from ml_collections import ConfigDict

from configs import align_llama2_7b
from safety_align.training import recipe

PER_ROW = 9.7
"""Conversations in a row of 1024 tokens of this mixture, by Qwen 2.5's tokenizer in ChatML (measured; other models' have not been)."""


def get_config() -> ConfigDict:
    config = align_llama2_7b.get_config()
    config.model = dict(preset="init_from", safety_signal=True, dtype="bfloat16", param_dtype="float32", remat="full")
    config.init_from, config.template = "", "init_from"
    config.lambda_cls = 0.01
    planned = recipe.schedule(PER_ROW, config.data.batch_size, epochs=15)
    config.steps, config.optimizer.decay_every = planned["steps"], planned["decay_every"]
    return config
