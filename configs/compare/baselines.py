"""The baselines on real data: same data, same size (configs/compare/small.py has the gate's own variants).

sft: no `[CLS]`. sft_dpo: DPO from it. augmented: SFT with refusals after unsafe beginnings (Qi et al. 2025). gated: the
full gate.

    python -m launch.compare --config=configs/compare/baselines.py --output=runs/compare_baselines

Missing checkpoints are trained first, by the configs named under `train`.
"""

from ml_collections import ConfigDict

from configs.eval import small as evaluation
from safety_align.evaluation import variants


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.eval = evaluation.get_config()
    config.train = (
        ("runs/warmup_small", "configs/warmup_small.py"),
        ("runs/align_small_sft", "configs/align_small_sft.py"),
        ("runs/align_small_dpo", "configs/align_small_dpo.py"),
        ("runs/align_small_augmented", "configs/align_small_augmented.py"),
        ("runs/align_small", "configs/align_small.py"),
    )
    columns = variants.baselines("runs/align_small", "runs/align_small")
    config.variants, config.order = columns, tuple(columns)
    return config
