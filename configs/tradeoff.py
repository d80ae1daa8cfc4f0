"""The trade-off of a published model's gate: attacks against harmless prompts, XSTest's among them, at every threshold.

    python -m launch.tradeoff --config=configs/tradeoff.py --checkpoint=runs/signal --output=runs/tradeoff

40 behaviours or prompts a set, 40 new tokens. AdvBench's behaviours are the easier ones: HarmBench's, and nested stories, stand
beside them.
"""

from ml_collections import ConfigDict

from configs.eval import published as evaluation
from configs.eval.small import named


def get_config() -> ConfigDict:
    config = evaluation.get_config()
    attacks, benign = evaluation.attacks(), evaluation.benign()
    taken = ("direct", "prefill_10", "prefill_20", "gcg_transfer", "prefill_20_harmbench", "nested")
    config.measurements = dict(
        attacks=named(**{name: attacks[name] for name in taken}),
        benign=named(
            **{name: benign[name] for name in ("alpaca", "dolly", "gsm8k")},
            lima=dict(kind="held_out", source="lima", longest=600),
            xstest_safe=dict(kind="xstest", label="safe", n=60),
        ),
    )
    config.behaviors, config.benign = 40, 40
    config.max_new_tokens, config.batch_size = 40, 20
    return config
