"""Attacks, over-refusal, head and perplexity on the real evaluation files (`data_dir`), by the gate that came with the model.

python -m launch.evaluate --config=configs/eval/small.py --checkpoint=runs/align_small --output=runs/eval_small
"""

import dataclasses

from ml_collections import ConfigDict

from safety_align.decoding import GateConfig


def get_config() -> ConfigDict:
    return ConfigDict(
        dict(
            # What is not None takes the place of the model's own.
            gate={field.name: None for field in dataclasses.fields(GateConfig)},
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
