"""Pretraining with the safety signal (docs/method.md sections 3 and 4): `[CLS]` reads a whole passage, nothing sees it.

Goes on from the warm-up, as the paper goes on from Llama-2. `lambda_cls` 0.01 of the guard's soft labels, as in the
paper; 0 is the control: the same model, batches and steps. Needs `configs/label_small.py`. About 6 minutes on two cores.

    python -m launch.train --config=configs/pretrain_small.py --workdir=runs/pretrain_small
    python -m launch.train --config=configs/pretrain_small.py --workdir=runs/pretrain_control --config.lambda_cls=0
"""

from ml_collections import ConfigDict

from configs import warmup_small


def get_config() -> ConfigDict:
    config = warmup_small.get_config()
    config.model.safety_signal = True
    config.init_from = "runs/warmup_small"
    config.lambda_cls = 0.01
    config.data.checks_per_row = 4
    config.data.labelled = "runs/labels_small"
    config.data.mixture = dict(text_labelled=1.0)
    config.data.seed = 4
    config.routing = dict(r1=10, r2=10, r3=10, windows=0)
    config.optimizer.learning_rate = 1.5e-3
    config.steps = 300
    config.eval_every, config.save_every = 150, 150
    return config
