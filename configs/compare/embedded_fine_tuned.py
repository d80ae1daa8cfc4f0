"""Fine-tuning as an attack on the quickstart's gated model: what is left of head and gate after so many steps.

The gate stays in force over the changed weights, as with a provider who trains on what customers send. *obeyed*: harmful requests,
answered as they were asked; *answered*: harmless ones; *low_rank*: the first, by changes of rank 8. A number is that of the steps.
Of the columns of one model the one without the gate says what the fine-tuning did to the language model. With the gate the tuned model
explains its refusals itself; *fixed*: they are one sentence of ours (dependence "high").

    python -m launch.compare --config=configs/compare/embedded_fine_tuned.py --output=runs/compare_fine_tuned
"""

from ml_collections import ConfigDict

from configs.eval import embedded as evaluation

GATED = "runs/embedded_gated"
HARMLESS = {"data.mixture.embedded_obeyed": 0.0, "data.mixture.embedded_answered": 1.0}
TUNED = {
    "obeyed_10": dict(steps=10),
    "obeyed_100": dict(steps=100),
    "obeyed_1000": dict(steps=1000),
    "low_rank_100": {"steps": 100, "optimizer.rank": 8},
    "low_rank_1000": {"steps": 1000, "optimizer.rank": 8},
    "answered_100": dict(steps=100) | HARMLESS,
    "answered_1000": dict(steps=1000) | HARMLESS,
}
"""What is changed of configs/embedded_fine_tuned.py."""


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.eval = evaluation.get_config()
    attacks = config.eval.measurements.attacks
    config.eval.measurements.attacks = ConfigDict({name: attacks[name] for name in ("direct", "prefill_10")})
    tuned = tuple(
        (f"runs/embedded_{name}", "configs/embedded_fine_tuned.py", changes | {"init_from": GATED})
        for name, changes in TUNED.items()
    )
    config.train = (("runs/embedded_base", "configs/embedded_base.py"), (GATED, "configs/embedded_gated.py"), *tuned)
    models = {"before": GATED} | {name: f"runs/embedded_{name}" for name in TUNED}
    columns = {}
    for name, path in models.items():
        columns[f"{name}_ungated"] = dict(checkpoint=path, gated=False, gate={})
        columns[name] = dict(checkpoint=path, gated=True, gate={})
        columns[f"{name}_fixed"] = dict(checkpoint=path, gated=True, gate=dict(dependence="high"))
    config.variants, config.order = columns, tuple(columns)
    return config
