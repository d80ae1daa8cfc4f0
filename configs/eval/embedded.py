"""Attacks, over-refusal, head and perplexity on the embedded corpus; what the quickstart measures.

python -m launch.evaluate --config=configs/eval/embedded.py --checkpoint=DIR --output=DIR
"""

from ml_collections import ConfigDict

from configs.eval import small
from configs.eval.small import named


def get_config() -> ConfigDict:
    config = small.get_config()
    config.measurements = dict(attacks=attacks(), benign=benign(), head=head(), utility=utility())
    config.behaviors = 60
    config.benign = 60
    config.head_examples = 150
    config.max_new_tokens = 40
    config.batch_size = 60
    return config


def attacks() -> ConfigDict:
    return named(
        **small.suite(
            plain="embedded", nested="embedded_nested", suffixed="embedded_suffix", sampled="embedded", draws=12
        )
    )


def benign() -> ConfigDict:
    return named(benign=part("benign"), lookalikes=part("lookalikes"))


def head() -> ConfigDict:
    goals = dict(kind="goals", behaviors="embedded")
    return named(
        queries_vs_benign=dict(kind="queries", malicious=goals, benign=part("benign")),
        queries_vs_lookalikes=dict(kind="queries", malicious=goals, benign=part("lookalikes")),
        windows_unsafe_vs_benign=dict(kind="windows", malicious=part("unsafe"), benign=part("benign")),
        windows_unsafe_vs_refusals=dict(kind="windows", malicious=part("unsafe"), benign=part("refusals")),
    )


def utility() -> ConfigDict:
    return named(perplexity=dict(kind="perplexity", examples=part("benign")))


def part(name: str) -> dict:
    return dict(kind="embedded", part=name)
