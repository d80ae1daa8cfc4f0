"""Searches with gradients on a published model with a signal, through its gate and without, at nanoGCG's budget.

For a GPU: a step of GCG reads 512 candidates, some 40,000 tokens.

python -m launch.red_team --config=configs/red_team/searches.py --checkpoint=runs/signal --gate.threshold=0.85 --output=runs/searches

With `--gate.reread=true`: through a gate that also reads the answer without the query.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return ConfigDict(
        dict(
            attacks=dict(
                gcg=dict(kind="gcg", steps=250, width=512, batch=256, look_every=25, behaviors="advbench", goals=10),
                soft_prompt=dict(kind="soft_prompt", steps=256, look_every=64, behaviors="advbench", goals=10),
            ),
            data_dir="../shared/data",
            max_new_tokens=40,
            batch_size=1,
        )
    )
