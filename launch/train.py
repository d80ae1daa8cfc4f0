"""Trains a model: python -m launch.train --config=configs/NAME.py --workdir=DIR [--config.key=value …]

The same command resumes an interrupted run. On a pod, run it on every host with --distributed=auto and a DIR that all
of them share. Metrics of the last validation go to stdout, progress to stderr. DIR gets checkpoints, config.json,
data.json (of which data the run is), tokenizer.json, reference.json (DPO), metrics.jsonl, TensorBoard files and a .lock.
"""

import ml_collections

from launch import cli
from launch.defaults import training_defaults
from launch.huge_pages import restart_with_huge_pages
from safety_align import distributed
from safety_align.data.pipeline import PipelineConfig
from safety_align.decoding import GateConfig
from safety_align.errors import InputError
from safety_align.interop import load_model
from safety_align.model import preset
from safety_align.routing import RoutingConfig
from safety_align.training.config import DataConfig, MeshConfig, TrainConfig
from safety_align.training.dpo import DpoConfig
from safety_align.training.loop import train
from safety_align.training.optimizer import OptimizerConfig


def to_train_config(config: ml_collections.ConfigDict) -> TrainConfig:
    """The typed config of a config file's ConfigDict; the place where ConfigDict ends."""
    values = config.to_dict()
    try:
        model = dict(values.pop("model"))
        model = preset(model.pop("preset"), **model)
        data = dict(values.pop("data"))
        shape = ("sequence_length", "batch_size", "checks_per_row", "pairs_per_row", "seed", "max_skipped")
        pipeline = {name: data.pop(name) for name in shape if name in data}
        mixture = tuple((name, float(weight)) for name, weight in data.pop("mixture").items() if weight)
        # A config of both has them for its variant with the signal; the plain one takes it over.
        routing, gate = values.pop("routing", None), values.pop("gate", None)
        routing = RoutingConfig(**(routing or {})) if model.safety_signal else None
        gate = gate if model.safety_signal else None
        if gate is not None:  # a config has only what differs
            gate = GateConfig(**{name: getattr(routing, name) for name in ("r1", "r2", "r3")} | gate)
        if not model.safety_signal:
            pipeline["checks_per_row"] = 0
        dpo = values.pop("dpo", None)
        return TrainConfig(
            model=model,
            dpo=DpoConfig(**dpo) if dpo else None,
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


def main() -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--workdir", required=True, metavar="DIR", help="where the run lives; resumes what is there")
    parser.add_argument(
        "--tell-stopped",
        action="store_true",
        help="exit with 75, not 0, where a signal stopped the run before its last step: a scheduler takes 0 for done",
    )
    cli.add_distributed(parser)
    arguments, config = cli.parse_with_config(parser, training_defaults)
    distributed.start(arguments.distributed)
    config = to_train_config(config)
    metrics = train(config, arguments.workdir, load=load_model)
    for name, value in metrics.items() if distributed.is_main() else ():
        print(f"{name:16} {value:.4f}" if isinstance(value, float) else f"{name:16} {value}")
    return cli.EXIT_STOPPED if arguments.tell_stopped and metrics["step"] < config.steps else cli.EXIT_OK


if __name__ == "__main__":
    restart_with_huge_pages()
    cli.run(main)
