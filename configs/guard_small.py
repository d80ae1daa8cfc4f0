"""A small guard model of our own: reads a text, answers "safe" or "unsafe". Labels the text of the pretraining stage.

Starts from the warm-up. About 5 minutes on two cores. Its verdicts are a small model's: good enough to show the stage.

    python -m launch.train --config=configs/guard_small.py --workdir=runs/guard_small
"""

from ml_collections import ConfigDict

from configs import warmup_small


def get_config() -> ConfigDict:
    config = warmup_small.get_config()
    config.init_from = "runs/warmup_small"
    config.data.mixture = dict(
        guard_prompts=1.0, guard_answers=1.0, guard_benign=1.0, guard_passages=0.8, guard_long_answers=0.4
    )
    config.data.seed = 3
    config.data.max_skipped = 0.1
    config.optimizer.learning_rate = 1e-3
    config.steps, config.eval_every, config.save_every = 200, 100, 100
    return config
