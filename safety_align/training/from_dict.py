"""Plain dicts, as config files give them, → the typed config of a training run."""

import dataclasses
from typing import Any

from safety_align.data.pipeline import PipelineConfig
from safety_align.decoding.config import GateConfig
from safety_align.errors import InputError
from safety_align.fields import defaults
from safety_align.model import TransformerConfig, preset
from safety_align.model.readout import SignalConfig
from safety_align.routing import RoutingConfig
from safety_align.training.config import SHOWN, DataConfig, MeshConfig, TrainConfig
from safety_align.training.dpo import DpoConfig
from safety_align.training.optimizer import OptimizerConfig
from safety_align.training.perturbation import Perturbation


def to_train_config(values: dict[str, Any]) -> TrainConfig:
    """The typed config of a config file's values; InputError, naming the field, for what is none.

    `model` holds a preset's name and what differs from it, or all its fields (`interop.start` fills in those of a model that
    a run starts from); `data` the fields of `PipelineConfig` and `DataConfig`, the mixture as {source: weight}; `signal`
    those of `SignalConfig`; `signal`, `routing` and `gate` count only with the safety signal.
    """
    values = dict(values)
    try:
        model = dict(values.pop("model"))
        if signal := values.pop("signal", None):
            model["signal"] = SignalConfig(**signal)
        model = preset(model.pop("preset"), **model) if "preset" in model else TransformerConfig(**model)
        data = dict(values.pop("data"))
        shape = ("sequence_length", "batch_size", "checks_per_row", "pairs_per_row", "seed", "max_skipped")
        pipeline = {name: data.pop(name) for name in shape if name in data}
        mixture = tuple((name, float(weight)) for name, weight in data.pop("mixture").items() if weight)
        # A config of both has them for its variant with the signal; the plain one takes it over.
        routing, gate = values.pop("routing", None), values.pop("gate", None)
        routing = _routing(routing or {}, model, values) if model.safety_signal else None
        gate = gate if model.safety_signal else None
        if gate is not None:  # a config has only what differs
            gate = GateConfig(**{name: getattr(routing, name) for name in SHOWN} | gate)
        if not model.safety_signal:
            pipeline["checks_per_row"] = 0
        dpo = values.pop("dpo", None)
        perturbation = values.pop("perturbation", None)
        return TrainConfig(
            model=model,
            dpo=DpoConfig(**dpo) if dpo else None,
            perturbation=None if perturbation is None else Perturbation(**perturbation),
            routing=routing,
            gate=gate,
            pipeline=PipelineConfig(mixture=mixture, **pipeline),
            data=DataConfig(**data),
            optimizer=OptimizerConfig(**values.pop("optimizer")),
            mesh=MeshConfig(**values.pop("mesh", {})),
            **values,
        )
    except InputError:
        raise
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise InputError(f"the config is not a training config: {type(error).__name__}: {error}") from error


def _routing(values: dict, model: TransformerConfig, run: dict) -> RoutingConfig:
    """A signal that cannot stand among the tokens stands beside them; and so does one that is trained alone and unseen."""
    alone = run.get("trainable") == "signal"
    values = {"visible": model.signal.in_stream} | values
    return RoutingConfig(**{"beside": alone and not values["visible"]} | values)


def training_defaults(values: dict[str, Any]) -> dict[str, Any]:
    """The keys that `to_train_config` would take beside those of `values`, as a tree of their defaults; {} for the values
    of no training. None where the default depends on something else (a preset's sizes)."""
    model = values.get("model")
    if not isinstance(model, dict):
        return {}
    groups = {
        "model": dict.fromkeys(field.name for field in dataclasses.fields(TransformerConfig))
        | defaults(TransformerConfig),
        "data": defaults(PipelineConfig) | defaults(DataConfig),
        "optimizer": defaults(OptimizerConfig),
        "mesh": defaults(MeshConfig),
    }
    if model.get("safety_signal", True):
        groups |= {
            "routing": defaults(RoutingConfig) | {"visible": None, "beside": None},
            "gate": defaults(GateConfig) | {"visible": None},
            "signal": defaults(SignalConfig),
        }
    for name, kind in (("dpo", DpoConfig), ("perturbation", Perturbation)):
        if values.get(name) is not None:
            groups[name] = defaults(kind)
    run = {n: value for n, value in defaults(TrainConfig).items() if n not in ("gate", "dpo", "perturbation")}
    return run | groups
