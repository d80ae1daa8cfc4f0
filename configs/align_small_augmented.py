"""Data augmentation (Qi et al. 2025) on real data, no `[CLS]`: a baseline of configs/align_small.py.

The unsafe answers that the gated model's windows learn from stand here before refusals, their first tokens, as context
without loss: half of the examples have none, the others 1 to 100 of them. Otherwise the SFT baseline's mixture and
steps. To expect: prefilled answers are refused about as often as the bare request; more refusals of benign prompts.

    python -m launch.train --config=configs/align_small_augmented.py --workdir=runs/align_small_augmented
"""

from configs import align_small_sft


def get_config():
    config = align_small_sft.get_config()
    mixture = config.data.mixture.to_dict()
    mixture["augmented"] = mixture.pop("beavertails")
    config.data.mixture = mixture
    return config
