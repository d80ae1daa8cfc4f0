"""Alignment of any published chat model as a whole, with the safety signal: the paper's recipe, shape and template the model's own.

configs/align_llama2_7b.py's data and schedule: 15 epochs of 29,600 conversations, AdamW, 2e-5, x0.85 an epoch, lambda_2 = 0.1. The
answer attends to `[CLS]`, and every weight is trained: parameters and moments in float32, 16 bytes a parameter over all devices,
activations in bfloat16. For one accelerator and models of 0.5 to 1.5 B parameters; a CPU takes minutes a step. Not run yet on
a real model; a tiny one takes the same path in tests/test_compare.py.

    python -m launch.train --config=configs/align_published.py --workdir=runs/aligned --config.init_from=Qwen/Qwen2.5-Coder-0.5B-Instruct
"""

from ml_collections import ConfigDict

from configs import align_llama2_7b


def get_config() -> ConfigDict:
    config = align_llama2_7b.get_config()
    config.model = dict(preset="init_from", safety_signal=True, dtype="bfloat16", param_dtype="float32", remat="full")
    config.init_from, config.template = "", "init_from"
    return config
