"""Attacks in words, and soft prompts, on a published model with a signal, through its gate and without: AdvBench's behaviours.

An hour and more for a 0.5B model on two cores, with a learned judge beside the rules (`--judge=runs/judge`). By
`--attack-judge=rules --attack-judge=runs/other_judge` searches do not stop at babble (docs/evaluation.md). GCG is in
configs/red_team/searches.py, for a GPU.

python -m launch.red_team --config=configs/red_team/published.py --checkpoint=runs/signal --judge=rules --output=runs/red_team
"""

from ml_collections import ConfigDict

SINGLE = dict(behaviors="advbench", goals=20)


def get_config() -> ConfigDict:
    return ConfigDict(
        dict(
            attacks=dict(
                direct=dict(kind="direct", **SINGLE),
                prefill_10=dict(kind="prefill", tokens=10, **SINGLE),
                prefill_40=dict(kind="prefill", tokens=40, **SINGLE),
                feedback=dict(kind="feedback", **SINGLE),
                schedule_aware=dict(kind="schedule_aware", **SINGLE),
                rap=dict(kind="rap", gate_off=False, **SINGLE),
                best_of_16=dict(kind="best_of_n", n=16, behaviors="advbench", goals=8),
                disguise=dict(kind="disguise", behaviors="advbench", goals=4),
                templates=dict(kind="templates", behaviors="advbench", goals=2),
                autodan=dict(kind="autodan", generations=6, behaviors="advbench", goals=3),
                soft_prompt=dict(kind="soft_prompt", steps=64, behaviors="advbench", goals=4),
            ),
            data_dir="../shared/data",
            max_new_tokens=40,
            batch_size=20,
        )
    )
