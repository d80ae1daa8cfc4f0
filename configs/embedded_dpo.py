"""SFT + DPO (Rafailov et al. 2023) on the embedded corpus, no `[CLS]`: a baseline of configs/embedded_gated.py.

Goes on from the SFT model, which is also the reference.

python -m launch.train --config=configs/embedded_dpo.py --workdir=runs/embedded_dpo
"""

from configs import embedded_sft


def get_config():
    config = embedded_sft.get_config()
    config.init_from = "runs/embedded_sft"
    config.dpo = dict(reference="runs/embedded_dpo_reference", beta=0.1, lm=0.01)
    config.data.sequence_length, config.data.batch_size = 384, 12
    config.data.pairs_per_row = 3
    config.data.mixture = dict(embedded_preferences=1.0)
    config.data.seed = 3
    config.optimizer.learning_rate = 3e-4
    config.steps = 150
    return config
