"""SFT + DPO (Rafailov et al. 2023) on the embedded corpus, no `[CLS]`: a baseline of configs/embedded_gated.py.

Goes on from the SFT model, which is also the reference; two minutes on two cores. To expect: all held-out pairs right,
the bare request refused as before, a prefilled answer gone on with unless it is long. Of the settings tried, this
resists attacks best among those that leave the language model whole; it refuses look-alikes more often. With a rate of
1e-3 and beta 0.05 half of the prefilled answers are refused, at a perplexity of 4.9 instead of 1.1; with dpo.lm=0.5
neither look-alikes nor prefilled answers are.

python -m launch.train --config=configs/embedded_dpo.py --workdir=runs/embedded_dpo
"""

from configs import embedded_sft


def get_config():
    config = embedded_sft.get_config()
    config.init_from = "runs/embedded_sft"
    config.dpo = dict(reference="runs/embedded_dpo_reference", beta=0.1, lm=0.0)
    # A pair takes two conversations in one row, each at most half of it.
    config.data.sequence_length, config.data.batch_size = 256, 16
    config.data.pairs_per_row = 4
    config.data.mixture = dict(embedded_preferences=1.0)
    config.data.seed = 3
    config.optimizer.learning_rate = 2e-4
    config.steps = 150
    return config
