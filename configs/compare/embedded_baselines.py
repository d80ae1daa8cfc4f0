"""The baselines on the embedded corpus: configs/compare/baselines.py's columns, in minutes.

python -m launch.compare --config=configs/compare/embedded_baselines.py --output=runs/compare_embedded_baselines
"""

from ml_collections import ConfigDict

from configs.eval import embedded as evaluation
from safety_align.evaluation import variants


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.eval = evaluation.get_config()
    config.train = (
        ("runs/embedded_base", "configs/embedded_base.py"),
        ("runs/embedded_sft", "configs/embedded_sft.py"),
        ("runs/embedded_dpo", "configs/embedded_dpo.py"),
        ("runs/embedded_augmented", "configs/embedded_augmented.py"),
        ("runs/embedded_gated", "configs/embedded_gated.py"),
    )
    columns = variants.baselines("runs/embedded", "runs/embedded_gated")
    config.variants, config.order = columns, tuple(columns)
    return config
