"""The comparison on real data: same data, same steps, same size.

(a) sft: no `[CLS]`. (b) gated: the full gate. (c) attention_only: the verdict is ignored (dependence "low").
(d) decoding_only: no strategic attention, each check reads query and whole answer. (e) the schedules.

    python -m launch.compare --config=configs/compare/small.py --output=runs/compare_small

Missing checkpoints are trained first, by the configs named under `train`.
"""

from ml_collections import ConfigDict

from configs.eval import small as evaluation
from safety_align.evaluation import variants


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.eval = evaluation.get_config()
    # (checkpoint, the config that trains it), in this order.
    config.train = (
        ("runs/warmup_small", "configs/warmup_small.py"),
        ("runs/align_small_sft", "configs/align_small_sft.py"),
        ("runs/align_small", "configs/align_small.py"),
    )
    columns = variants.gate_variants("runs/align_small_sft", "runs/align_small")
    config.variants, config.order = columns, tuple(columns)
    return config
