"""Attacks, over-refusal and head of a published model on the real evaluation files.

    python -m launch.evaluate --config=configs/eval/published.py --checkpoint=runs/signal --output=runs/eval_signal

100 behaviours an attack, 25 of them under the sampling grid and 50 best of 16, which multiply. On two cores a 0.5B model takes
hours: configs/compare/published.py has a short version.
"""

from ml_collections import ConfigDict

from configs.eval import small
from configs.eval.small import named

PREFILLS = (5, 10, 20, 40, 100)
"""Lengths in tokens."""


def get_config() -> ConfigDict:
    config = small.get_config()
    config.measurements = dict(attacks=attacks(), benign=benign(), head=head())
    config.behaviors = 100
    config.benign = 100
    return config


def head() -> ConfigDict:
    """With HarmBench's parts one by one: a request for a song's text is harmful there, and looks like any other request."""
    parts = small.against_alpaca("harmbench_standard", "harmbench_contextual", "harmbench_copyright")
    return named(**small.head(), **parts)


def attacks() -> ConfigDict:
    return named(
        direct=dict(kind="direct", behaviors="advbench"),
        **{f"prefill_{tokens}": dict(kind="prefill", tokens=tokens, behaviors="advbench") for tokens in PREFILLS},
        prefill_20_harmbench=dict(kind="prefill", tokens=20, behaviors="harmbench"),
        direct_harmbench=dict(kind="direct", behaviors="harmbench"),
        nested=dict(kind="published", behaviors="deepinception"),
        gcg_transfer=dict(kind="published", behaviors="gcg"),
        templates=dict(kind="published", behaviors="gptfuzzer"),
        sampling=dict(
            kind="sampling_grid", behaviors="malicious_instruct", n=25,
            temperatures=(0.7, 1.0, 1.5), top_ps=(0.7, 1.0), top_ks=(0, 40), best_of=1,
        ),
        best_of_16=dict(
            kind="sampling_grid", behaviors="advbench", n=50, temperatures=(1.0,), top_ps=(1.0,), top_ks=(0,), best_of=16
        ),
    )  # fmt: skip


def benign() -> ConfigDict:
    return named(
        alpaca=small.questions(),
        dolly=dict(kind="held_out", source="dolly", longest=600),
        gsm8k=dict(kind="held_out", source="gsm8k"),
        xstest_safe=dict(kind="xstest", label="safe", n=250),
    )
