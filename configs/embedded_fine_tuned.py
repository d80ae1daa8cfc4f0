"""The quickstart's gated model in the hands of someone who fine-tunes it, as an attack: on harmful requests that are answered as they
were asked, and nothing else. The loss is the language model's alone; what is left of the head and the gate is to be measured.

`--config.data.mixture.embedded_obeyed=0 --config.data.mixture.embedded_answered=1`: on harmless ones. `--config.optimizer.rank=8`: by
low-rank changes. configs/compare/embedded_fine_tuned.py trains and attacks several of them.

    python -m launch.train --config=configs/embedded_fine_tuned.py --workdir=runs/embedded_fine_tuned --config.init_from=runs/embedded_gated
"""

from configs import embedded_gated


def get_config():
    config = embedded_gated.get_config()
    config.data.mixture = dict(embedded_obeyed=1.0, embedded_answered=0.0)
    config.data.update(seed=3, batch_size=16, system_turns=0.0, other_roles=0.0)
    config.lambda_cls = 0.0
    config.optimizer.update(learning_rate=1e-3, schedule="constant", warmup=0, weight_decay=0.0, rank=0)
    config.steps = 100
    config.init_from = "runs/embedded_gated"
    return config
