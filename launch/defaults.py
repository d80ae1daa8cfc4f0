"""What a config may leave out: every field that has a default can be set by --config.key=value all the same."""

import dataclasses

import ml_collections


def training_defaults(config: ml_collections.ConfigDict) -> dict:
    """See `training.from_dict.training_defaults`; for `cli.apply_overrides`."""
    from safety_align.training import from_dict  # here: importing jax takes a second

    return from_dict.training_defaults(config.to_dict())


def evaluation_defaults(config: ml_collections.ConfigDict) -> dict:
    """The keys that `to_eval_config` would take beside those of `config`, or of its `eval` in a comparison's: there
    also `data`, where what it trains finds its data ("": where the training's own config says)."""
    from safety_align.decoding import GateConfig
    from safety_align.evaluation.config import EvalConfig
    from safety_align.evaluation.measurements import measurement_defaults
    from safety_align.fields import defaults

    values = config.to_dict()
    compared = isinstance(values.get("eval"), dict)
    found = {name: value for name, value in defaults(EvalConfig).items() if name != "judge"}
    found["gate"] = dict.fromkeys(field.name for field in dataclasses.fields(GateConfig))
    found["measurements"] = measurement_defaults((values["eval"] if compared else values).get("measurements"))
    return {"eval": found, "data": {"data_dir": "", "cache_dir": ""}} if compared else found
