"""Training against suffixes on the embedded corpus, in rounds: GCG through the present head, then training against what it found.

    python -m launch.compare --config=configs/compare/embedded_rounds.py --output=runs/compare_rounds

A round searches eight malicious goals of the training split, drawn anew in each round, and goes on from the model that it attacked,
trained on the suffixes of all rounds so far (docs/training.md). Interrupted, the same command goes on. What comes of it has not
been measured; configs/red_team/embedded.py attacks the first model and the last on goals that no round has seen.
"""

from ml_collections import ConfigDict

from configs.eval import embedded as evaluation

ROUNDS = 3

START = "runs/embedded_robust"

SEARCH = dict(behaviors="embedded_training", n=8, steps=50, width=32, batch=32, tokens=16)
"""Of a round; see `attacks.Gcg`."""

TRAINING = {"steps": 240, "data.suffixed": 0.25, "data.disguised": 0.25, "optimizer.learning_rate": 1e-3}
"""Of a round, beside configs/embedded_robust.py."""


def rounds(start: str, folder: str, config: str, search: dict, training: dict, count: int) -> tuple[tuple, list[str]]:
    """(the entries of `train`, the directories of the models), of `count` rounds that begin with the model `start`: in each a search
    against the last model into `folder`_suffixes_N, and by `config` a training from it into `folder`_round_N."""
    entries, models, found = [], [start], []
    for number in range(1, count + 1):
        found.append(f"{folder}_suffixes_{number}")
        entries.append((found[-1], {"suffixes_against": models[-1], "behaviors_seed": number} | search))
        changes = {"init_from": models[-1], "data.suffixes": ",".join(found), "data.seed": number}
        models.append(f"{folder}_round_{number}")
        entries.append((models[-1], config, changes | training))
    return tuple(entries), models


def columns(models: list[str]) -> dict[str, dict]:
    """A gated column for each model: start, round_1, …"""
    names = ["start", *(f"round_{number}" for number in range(1, len(models)))]
    return {name: dict(checkpoint=path, gated=True, gate={}) for name, path in zip(names, models, strict=True)}


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.eval = evaluation.get_config()
    entries, models = rounds(START, "runs/embedded", "configs/embedded_robust.py", SEARCH, TRAINING, ROUNDS)
    config.train = (
        ("runs/embedded_base", "configs/embedded_base.py"),
        (START, "configs/embedded_robust.py", {"init_from": "runs/embedded_base"}),
        *entries,
    )
    config.variants = gated = columns(models)
    config.order = tuple(gated)
    return config
