"""Data augmentation (Qi et al. 2025) on Llama-2-7B, no `[CLS]`: a baseline of configs/align_llama2_7b.py. Not run yet.

python -m launch.train --config=configs/align_llama2_7b_augmented.py --workdir=runs/llama2_7b_augmented
"""

from configs import align_llama2_7b
from safety_align.training import recipe

PER_ROW = 6.3
"""Conversations in a row of 1024 tokens (measured as in align_llama2_7b.py)."""


def get_config():
    config = align_llama2_7b.get_config()
    config.model.safety_signal, config.lambda_cls = False, 0.0
    # Queries alone teach only the head.
    config.data.mixture = dict(alpaca=5.0, lima=0.5, malicious_prompts=2.0, safe_responses=0.8, augmented=4.0)
    planned = recipe.schedule(PER_ROW, config.data.batch_size, epochs=15)
    config.steps, config.optimizer.decay_every = planned["steps"], planned["decay_every"]
    return config
