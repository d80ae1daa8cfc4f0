"""Alignment on the embedded corpus with the safety signal and windows: the quickstart's variant (b), "gated".

python -m launch.train --config=configs/embedded_gated.py --workdir=runs/embedded_gated --config.init_from=runs/embedded_base
"""

from configs import embedded_base


def get_config():
    config = embedded_base.get_config()
    config.model.safety_signal = True
    config.data.mixture = dict(embedded=3.0, embedded_queries=3.0, embedded_text=0.25)
    config.data.seed = 2
    # A fifth of the questions with an operator's system prompt, a fifth of the goals in another turn than the last.
    config.data.system_turns, config.data.other_roles = 0.2, 0.2
    config.init_from = "runs/embedded_base"
    # From scratch there is no notion of harm to draw on: weight 1 (the paper: 0.1 from a pretrained model).
    config.lambda_cls = 1.0
    config.optimizer.learning_rate = 4e-3
    config.steps = 320
    return config
