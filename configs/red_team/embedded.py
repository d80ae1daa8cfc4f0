"""Every family of attacks on a model of the quickstart, with its gate and without; the searches have small budgets.

A quarter of an hour a model and more, on two slow cores. What to expect is in docs/results.md.

python -m launch.red_team --config=configs/red_team/embedded.py --checkpoint=runs/quickstart/gated --output=runs/red_team
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return ConfigDict(
        dict(
            attacks=dict(
                direct=dict(kind="direct", goals=60),
                prefill_10=dict(kind="prefill", tokens=10, goals=60),
                feedback=dict(kind="feedback", goals=60),
                schedule_aware=dict(kind="schedule_aware", goals=60),
                rap=dict(kind="rap", goals=20, gate_off=False),
                disguise=dict(kind="disguise", goals=20),
                templates=dict(kind="templates", goals=20),
                best_of_16=dict(kind="best_of_n", n=16, goals=20),
                autodan=dict(kind="autodan", generations=6, goals=6),
                gcg=dict(kind="gcg", steps=50, width=32, batch=32, goals=6),
                soft_prompt=dict(kind="soft_prompt", steps=64, goals=6),
            ),
            data_dir="../shared/data",
            max_new_tokens=40,
            batch_size=60,
        )
    )
