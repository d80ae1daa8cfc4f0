"""SFT + DPO (Rafailov et al. 2023) on Llama-2-7B, no `[CLS]`: a baseline of configs/align_llama2_7b.py. Not run yet.

Two epochs of pairs. The first command trains the SFT model, which DPO goes on from and refers to.

    python -m launch.train --config=configs/align_llama2_7b.py --config.model.safety_signal=false --workdir=runs/llama2_7b_sft
    python -m launch.reference --config=configs/align_llama2_7b_dpo.py
    python -m launch.train --config=configs/align_llama2_7b_dpo.py --workdir=runs/llama2_7b_dpo
"""

from configs import align_llama2_7b
from safety_align.training import recipe

PER_ROW = 3.4
"""Pairs in a row of 1024 tokens (measured as in align_llama2_7b.py)."""

EPOCH = 20_000
"""Pairs: every preferred refusal once, and as many preferred answers."""


def get_config():
    config = align_llama2_7b.get_config()
    config.model.safety_signal, config.lambda_cls = False, 0.0
    config.init_from = "runs/llama2_7b_sft"
    config.dpo = dict(reference="runs/llama2_7b_dpo_reference", beta=0.1, lm=0.0)
    config.data.pairs_per_row = 8
    config.data.mixture = dict(preferred_refusals=1.0, preferred_answers=1.0)
    # About 54 pairs a step; a twentieth of the SFT's rate (Rafailov et al. use 1e-6).
    config.optimizer.learning_rate = 1e-6
    config.optimizer.warmup = 100
    planned = recipe.schedule(PER_ROW, config.data.batch_size, epochs=2, epoch=EPOCH)
    config.steps, config.optimizer.decay_every = planned["steps"], planned["decay_every"]
    return config
