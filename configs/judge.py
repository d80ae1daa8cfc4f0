"""A judge of harmful compliance, learned from people's labels: a frozen chat model with a probe beside it, which reads a request
and an answer (safety_align/data/exchanges.py). Take another model than the one whose answers it is to judge.

Needs the judged answers below `data_dir` (docs/data.md). Expect `query_auroc` of the validation well above 0.9.

    python -m launch.train --config=configs/judge.py --workdir=runs/judge --config.init_from=Qwen/Qwen2.5-1.5B-Instruct
    python -m launch.judge --judge=runs/judge --input=exchanges.jsonl --output=judged.jsonl
"""

from ml_collections import ConfigDict

from configs import signal


def get_config() -> ConfigDict:
    config = signal.get_config()
    with config.unlocked():
        config.data.mixture = dict(judged_harmful=1.0, judged_harmless=1.0)
        config.data.update(validation_examples=150, system_turns=0.0, other_roles=0.0, passages=0.0, drop_leaks=False)
        config.update(steps=600, eval_every=200)
    return config
