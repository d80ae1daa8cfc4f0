"""The comparison: python -m launch.compare --config=configs/compare/NAME.py --output=DIR

Trains what is missing (a DPO run computes its reference first), evaluates every variant, prints the table and writes
results.json, table.md and report.html. Interrupted, the same command goes on. On several hosts every process is given the
same command with --distributed; --mesh is that of the evaluation, training has its config's.
"""

import functools
import pathlib

from launch import cli, devices
from launch.defaults import evaluation_defaults
from launch.huge_pages import restart_with_huge_pages
from launch.output import own_output
from launch.training import devices as platform
from launch.training import load
from safety_align import distributed
from safety_align.distributed import say
from safety_align.errors import InputError
from safety_align.evaluation.config import check_data as check_eval_data
from safety_align.evaluation.config import to_eval_config
from safety_align.evaluation.gates import check_overrides, gate_for
from safety_align.evaluation.report import write_report
from safety_align.evaluation.run import evaluate_variant
from safety_align.files import check_name, check_path
from safety_align.interop import load_model, load_unrolled
from safety_align.training.config import TrainConfig
from safety_align.training.loop import train
from safety_align.training.ready import check_data


def compare(
    variants: dict, evaluation: dict, output: pathlib.Path, about: dict, mesh=None, dtype: str | None = None
) -> str | None:
    """Evaluates `variants` (name → {checkpoint, gated, gate overrides}) and writes the report into `output`, which is
    its own (`own_output`); returns the table, of several processes in the first. `mesh`: see `evaluate_variant`;
    `dtype`: see `load_unrolled`."""
    eval_config, overrides = to_eval_config(evaluation, "config.eval")
    measured = {}
    for name, variant in variants.items():
        bundle = load_unrolled(variant["checkpoint"], mesh, dtype)
        say(f"variant {name}")
        gate = gate_for(bundle, overrides | variant["gate"]) if variant["gated"] else None
        if variant["gated"] and gate is None:
            raise InputError(f"config.variants: {name} is gated, but {variant['checkpoint']} has no safety signal")
        measured[name] = evaluate_variant(bundle, gate, eval_config, name, partial=output / "parts", mesh=mesh)
        del bundle  # before the next one is read: it may fill the devices
        say(f"{name}: done")
    return write_report(output, measured, about) if distributed.is_main() else None


def train_all(runs) -> bool:
    """Trains, in turn, the (workdir, config, announcement) `runs`; false if asked to stop before the last was done."""
    for workdir, config, announcement in runs:
        say(announcement)
        read = functools.partial(load_model, dtype=config.model.param_dtype)
        if train(config, workdir, load=read)["step"] < config.steps:
            return False
    return True


def training(entry: tuple) -> tuple[str, TrainConfig, str]:
    """(workdir, config, announcement) of an entry of `train`: (workdir, config file), or with {dotted key: value} of
    overrides behind them."""
    workdir, path, *changes = entry
    if len(changes) > 1 or not all(isinstance(c, dict) for c in changes):
        raise InputError(f"config.train: {workdir} takes a config file and at most one {{key: value}} of overrides")
    overrides = [f"--config.{key}={value}" for c in changes for key, value in c.items()]
    return workdir, load(path, overrides, workdir, platform), f"training {workdir} by {' '.join([path, *overrides])}"


def main() -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--output", required=True, metavar="DIR", help="where the results go")
    devices.add_options(parser)
    arguments, config = cli.parse_with_config(parser, evaluation_defaults)
    values = config.to_dict()
    if missing := {key for key in ("train", "order", "variants", "eval") if values.get(key) is None}:
        raise InputError(f"{arguments.config} is not the config of a comparison: it lacks {', '.join(sorted(missing))}")
    unknown = set(values["order"]) ^ set(values["variants"])
    if unknown:
        raise InputError(f"config.order and config.variants differ in {', '.join(sorted(unknown))}")
    output, about = pathlib.Path(arguments.output), {"config": values, "dtype": arguments.dtype}
    check_path(output)
    eval_config, overrides = to_eval_config(values["eval"], "config.eval")
    for name, variant in values["variants"].items():  # before anything is trained
        check_name(name, "config.variants:")
        if missing := {"checkpoint", "gated", "gate"} - {
            key for key, value in (variant or {}).items() if value is not None
        }:
            raise InputError(f"config.variants: {name} lacks {', '.join(sorted(missing))}")
        check_overrides(overrides | variant["gate"])
    mesh = devices.start(arguments)
    with distributed.agreed():  # all of it before the first run is trained
        runs = [training(entry) for entry in values["train"]]
        for variant in values["variants"].values():
            variant["checkpoint"] = devices.located(variant["checkpoint"])
        for _, train_config, _ in runs:
            check_data(train_config)
        check_eval_data(eval_config)
    with own_output(output, about):
        if not train_all(runs):
            return cli.EXIT_FAILED
        variants = {name: values["variants"][name] for name in values["order"]}
        table = compare(variants, values["eval"], output, about, mesh, arguments.dtype)
    if table is not None:
        print(table)
    return cli.EXIT_OK


if __name__ == "__main__":
    restart_with_huge_pages()
    cli.run(main)
