"""Attacks, over-refusal, head and perplexity on the real evaluation files (`data_dir`); gate with paper defaults.

python -m launch.evaluate --config=configs/eval/small.py --checkpoint=runs/align_small --output=runs/eval_small
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return ConfigDict(
        dict(
            gate=dict(
                dependence="medium", mode="rewind", threshold=0.5, tau=3, r1=10, r2=10, r3=10, schedule="every",
                confirm_every_step=True, reads="windows", windows_include_query=False, max_refusal_tokens=48,
            ),
            data="real",
            data_dir="../shared/data",
            cache_dir="~/.cache/safety_align",
            behaviors=150,
            sampling_behaviors=25,
            prefills=(5, 10, 20, 40),
            temperatures=(0.7, 1.0, 1.5),
            top_ps=(0.7, 1.0),
            top_ks=(0, 40),
            best_of=1,
            benign=250,
            head_examples=400,
            max_new_tokens=64,
            batch_size=32,
            seed=0,
        )
    )  # fmt: skip
