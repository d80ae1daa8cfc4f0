"""The ablation of the pretraining stage: alignment from `pretrain_small`, or from its control (`lambda_cls` 0).

Half of `align_small`'s steps; about 8 minutes each on two cores.

    python -m launch.train --config=configs/align_pretrained_small.py --workdir=runs/align_pretrained
    python -m launch.train --config=configs/align_pretrained_small.py --workdir=runs/align_control --config.init_from=runs/pretrain_control
"""

from ml_collections import ConfigDict

from configs import align_small


def get_config() -> ConfigDict:
    config = align_small.get_config()
    config.init_from = "runs/pretrain_small"
    config.steps = 400
    config.eval_every, config.save_every = 200, 200
    return config
