"""The paper's ablation row "without pretraining", at small scale: the same alignment with and without the guard's labels.

    python -m launch.compare --config=configs/compare/pretraining.py --output=runs/compare_pretraining

What is missing is made first: the warm-up, a small guard, the text that it labels, the pretraining and its control, and both
alignments.
"""

from ml_collections import ConfigDict

from configs.eval import small as evaluation


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.eval = evaluation.get_config()
    config.train = (
        ("runs/warmup_small", "configs/warmup_small.py", {}),
        ("runs/guard_small", "configs/guard_small.py", {}),
        ("runs/labels_small", "configs/label_small.py", {"guard": "runs/guard_small"}),
        ("runs/pretrain_small", "configs/pretrain_small.py", {}),
        ("runs/pretrain_control", "configs/pretrain_small.py", {"lambda_cls": 0.0}),
        ("runs/align_pretrained", "configs/align_pretrained_small.py", {}),
        ("runs/align_control", "configs/align_pretrained_small.py", {"init_from": "runs/pretrain_control"}),
    )
    config.variants = {
        "with": dict(checkpoint="runs/align_pretrained", gated=True, gate={}),
        "without": dict(checkpoint="runs/align_control", gated=True, gate={}),
    }
    config.order = ("with", "without")
    return config
