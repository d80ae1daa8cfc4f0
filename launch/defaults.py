"""What a config may leave out: every field that has a default can be set by --config.key=value all the same."""

import dataclasses

import ml_collections


def training_defaults(config: ml_collections.ConfigDict) -> dict:
    """The keys that `to_train_config` would take beside those of `config`, as a tree of their defaults; for
    `cli.apply_overrides`. None where the default depends on something else (a preset's sizes)."""
    from safety_align.data.pipeline import PipelineConfig  # here: importing jax takes a second
    from safety_align.decoding import GateConfig
    from safety_align.model import TransformerConfig
    from safety_align.routing import RoutingConfig
    from safety_align.training.config import DataConfig, MeshConfig, TrainConfig
    from safety_align.training.dpo import DpoConfig
    from safety_align.training.optimizer import OptimizerConfig

    model = config.get("model")
    if not isinstance(model, ml_collections.ConfigDict):
        return {}  # no training's
    groups = {
        "model": dict.fromkeys(field.name for field in dataclasses.fields(TransformerConfig)) | _of(TransformerConfig),
        "data": _of(PipelineConfig) | _of(DataConfig),
        "optimizer": _of(OptimizerConfig),
        "mesh": _of(MeshConfig),
    }
    if model.get("safety_signal", True):
        groups |= {"routing": _of(RoutingConfig), "gate": _of(GateConfig)}
    if config.get("dpo"):
        groups["dpo"] = _of(DpoConfig)
    run = {name: value for name, value in _of(TrainConfig).items() if name not in ("gate", "dpo")}
    return run | groups


def evaluation_defaults(config: ml_collections.ConfigDict) -> dict:
    """The keys that `to_eval_config` would take beside those of `config`, or of its `eval` in a comparison's."""
    from safety_align.decoding import GateConfig
    from safety_align.evaluation.config import EvalConfig
    from safety_align.evaluation.measurements import measurement_defaults

    values = config.to_dict()
    compared = isinstance(values.get("eval"), dict)
    found = {name: value for name, value in _of(EvalConfig).items() if name != "judge"}
    found["gate"] = dict.fromkeys(field.name for field in dataclasses.fields(GateConfig))
    found["measurements"] = measurement_defaults((values["eval"] if compared else values).get("measurements"))
    return {"eval": found} if compared else found


def _of(made: type) -> dict:
    """The defaults of a dataclass's fields that have one."""
    fields = dataclasses.fields(made)
    return {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}
