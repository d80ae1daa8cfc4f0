"""SFT only, no `[CLS]`: variant (a), the baseline of configs/align_small.py.

The same examples in the same order for the same number of steps; the safety labels go unused (a row without an LM
target is read and not learned from), so both variants see the same answers.

    python -m launch.train --config=configs/align_small_sft.py --workdir=runs/align_small_sft
"""

from configs import align_small


def get_config():
    config = align_small.get_config()
    config.model.safety_signal = False
    config.lambda_cls = 0.0
    return config
