"""A published model, frozen, with a signal beside it: attacked without the gate and with it.

    python -m launch.compare --config=configs/compare/published.py --config.model=DIR --output=runs/published [--quick]

DIR is a Hugging Face directory or a hub name. Asks the model for answers of its own, then trains the signals that are missing,
all read-outs on the same data. `--quick` asks for fewer, trains the default signal alone, on fewer tokens, and attacks 20
behaviours with the most telling attacks, whatever else is set; the head alone is not measured then. A threshold of
launch.calibrate's: --config.eval.gate.threshold=….
"""

from ml_collections import ConfigDict

from configs.eval import published as evaluation
from safety_align.evaluation import variants

LEFT_OUT = (
    "prefill_5", "prefill_40", "prefill_100", "prefill_20_harmbench", "direct_harmbench", "nested", "templates", "sampling",
    "best_of_16",
)  # fmt: skip
"""Attacks of the long version alone."""

OWN = {"data.own_answers": "runs/{name}_answers", "data.mixture.own_answers": 6}
"""Of the training: a sixth of the conversations are the model's own answers, which the windows are judged by."""

ASKED = {"benign": 400, "alarming": 600, "malicious": 1000, "tokens": 48}
"""Answers of the long version, an hour of two cores for a 0.5B model: a signal is worth as much as its malicious windows are many."""

KEPT = {"kept_batches": 100, "steps": 400, "eval_every": 400, "data.validation_examples": 20}
"""Of the training: what a CPU can do, four epochs over the states of 410,000 slots."""

QUICK = "runs/{name}_answers_quick"
"""Where the short version's answers are."""

FEWER = {"benign": 160, "alarming": 240, "malicious": 150, "tokens": 48, "batch_size": 20}
"""Answers of the short version."""


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.eval = evaluation.get_config()
    config.model = "Qwen/Qwen2.5-Coder-0.5B-Instruct"
    answers = OWN["data.own_answers"], {"answers_of": "{model}"} | ASKED
    kinds = (("probe", 0), ("row_deep", 8), ("row", 8))
    signals = [
        (
            f"runs/{{name}}_{kind}",
            "configs/signal.py",
            {"init_from": "{model}", "signal.kind": kind, "signal.rank": rank} | OWN,
        )
        for kind, rank in kinds
    ]
    config.train = (answers, *signals)
    directories = {kind: f"runs/{{name}}_{kind}" for kind, _ in kinds}
    config.variants = columns = variants.published("{model}", directories)
    config.order = tuple(columns)
    # What --quick changes.
    config.quick = {
        "eval/behaviors": 20,
        "eval/benign": 20,
        "eval/measurements/head": None,
        "eval/measurements/benign/xstest_safe/n": 40,
        "eval/max_new_tokens": 40,
        "eval/batch_size": 8,  # on a CPU a row that only fills a batch costs as much as any other
        **{f"eval/measurements/attacks/{name}": None for name in LEFT_OUT},
        "order": ("ungated", "gated"),
        "train": (
            (QUICK, answers[1] | FEWER),
            (*signals[0][:2], signals[0][2] | KEPT | {"data.own_answers": QUICK}),
        ),
    }
    return config
