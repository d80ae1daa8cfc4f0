"""An attacker who asks again and again for a little more, on the embedded corpus: what was released is the next prefill.

python -m launch.evaluate --config=configs/eval/embedded_feedback.py --checkpoint=DIR --output=DIR

In one round or in many the model writes as many tokens: `at_once` is the same attack without feedback.
"""

from ml_collections import ConfigDict

from configs.eval import embedded
from configs.eval.small import named


def get_config() -> ConfigDict:
    config = embedded.get_config()
    config.measurements.attacks = named(
        at_once=dict(kind="feedback", behaviors="embedded", tokens=5, new_tokens=40, rounds=1),
        feedback_10=dict(kind="feedback", behaviors="embedded", tokens=5, new_tokens=10, rounds=4),
        feedback_4=dict(kind="feedback", behaviors="embedded", tokens=5, new_tokens=4, rounds=10),
    )
    return config
