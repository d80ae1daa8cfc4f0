"""Data augmentation (Qi et al. 2025) on the embedded corpus, no `[CLS]`: a baseline of configs/embedded_gated.py.

Where the gated model has queries for its head, this one has refusals that follow the first tokens of an unsafe answer.
Three minutes on two cores. To expect: prefilled answers refused like the bare request, 0 to 3 % answered; the corpus is
easy, and its unsafe answers begin as the attacker's do.

python -m launch.train --config=configs/embedded_augmented.py --workdir=runs/embedded_augmented --config.init_from=runs/embedded_base
"""

from configs import embedded_sft


def get_config():
    config = embedded_sft.get_config()
    config.data.mixture = dict(embedded=3.0, embedded_augmented=3.0, embedded_text=0.25)
    return config
