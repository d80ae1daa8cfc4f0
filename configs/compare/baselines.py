"""The baselines on real data: same data, same size (configs/compare/small.py has the gate's own variants).

sft: no `[CLS]`. sft_dpo: DPO from it. augmented: SFT with refusals after unsafe beginnings (Qi et al. 2025). gated: the
full gate.

    python -m launch.compare --config=configs/compare/baselines.py --output=runs/compare_baselines

Missing checkpoints are trained first, by the configs named under `train`.
"""

from ml_collections import ConfigDict

from configs.eval import small as evaluation

ORDER = ("sft", "sft_dpo", "augmented", "gated")
"""Columns of the table."""


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
    config.variants = variants("runs/align_small")
    config.order = ORDER
    return config


def variants(run: str, gated: str = "") -> dict:
    """The columns, of the runs `run`_sft, …; the gated model is `run` followed by `gated`."""
    return {
        "sft": dict(checkpoint=f"{run}_sft", gated=False, gate={}),
        "sft_dpo": dict(checkpoint=f"{run}_dpo", gated=False, gate={}),
        "augmented": dict(checkpoint=f"{run}_augmented", gated=False, gate={}),
        "gated": dict(checkpoint=f"{run}{gated}", gated=True, gate={}),
    }
