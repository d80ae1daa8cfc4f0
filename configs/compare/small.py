"""The comparison on real data: same data, same steps, same size.

(a) sft: no `[CLS]`. (b) gated: the full gate. (c) attention_only: the verdict is ignored (dependence "low").
(d) decoding_only: no strategic attention, each check reads query and whole answer. (e) the schedules.

    python -m launch.compare --config=configs/compare/small.py --output=runs/compare_small

Missing checkpoints are trained first, by the configs named under `train`.
"""

from ml_collections import ConfigDict

from configs.eval import small as evaluation

ORDER = ("sft", "gated", "attention_only", "decoding_only", "first", "periodic", "annealing", "random")
"""Columns of the table."""


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.eval = evaluation.get_config()
    # (checkpoint, the config that trains it), in this order.
    config.train = (
        ("runs/warmup_small", "configs/warmup_small.py"),
        ("runs/align_small_sft", "configs/align_small_sft.py"),
        ("runs/align_small", "configs/align_small.py"),
    )
    config.variants = variants("runs/align_small_sft", "runs/align_small")
    config.order = ORDER
    return config


def variants(sft: str, gated: str) -> dict:
    """Each variant sets one named thing of the gate; `gated=False` decodes without `[CLS]`."""
    return {
        "sft": dict(checkpoint=sft, gated=False, gate={}),
        "gated": dict(checkpoint=gated, gated=True, gate={}),
        "attention_only": dict(checkpoint=gated, gated=True, gate=dict(dependence="low")),
        "decoding_only": dict(checkpoint=gated, gated=True, gate=dict(reads="all")),
        "first": dict(checkpoint=gated, gated=True, gate=dict(schedule="first")),
        "periodic": dict(checkpoint=gated, gated=True, gate=dict(schedule="periodic:10")),
        "annealing": dict(checkpoint=gated, gated=True, gate=dict(schedule="annealing")),
        "random": dict(checkpoint=gated, gated=True, gate=dict(schedule="random:0.3")),
    }
