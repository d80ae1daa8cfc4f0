"""SFT + DPO (Rafailov et al. 2023) on real data, no `[CLS]`: a baseline of configs/align_small.py.

Goes on from the SFT model, which is also the reference: its log-probabilities are computed first, once (or beforehand,
by launch.reference). Pairs: a refusal over an unsafe answer, and a benign answer over a refusal. To expect: fewer
answers to the bare request; a prefilled answer is hardly refused more often, as nothing is learned of refusing late.
Rate, beta and dpo.lm are first guesses.

    python -m launch.train --config=configs/align_small_dpo.py --workdir=runs/align_small_dpo
"""

from configs import align_small_sft


def get_config():
    config = align_small_sft.get_config()
    config.init_from = "runs/align_small_sft"
    config.dpo = dict(reference="runs/align_small_dpo_reference", beta=0.1, lm=0.1)
    # A pair takes two conversations in one row, each at most half of it.
    config.data.sequence_length, config.data.batch_size = 384, 20
    config.data.pairs_per_row = 4
    config.data.mixture = dict(preferred_refusals=1.0, preferred_answers=1.0)
    config.data.max_skipped = 0.1
    config.data.seed = 5
    config.optimizer.learning_rate = 3e-4
    config.steps = 300
    return config
