"""The baselines on the embedded corpus: configs/compare/baselines.py's columns, in minutes.

python -m launch.compare --config=configs/compare/embedded_baselines.py --output=runs/compare_embedded_baselines
"""

from ml_collections import ConfigDict

from configs.compare import baselines
from configs.eval import embedded as evaluation


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
    config.variants = baselines.variants("runs/embedded", "_gated")
    config.order = baselines.ORDER
    return config
