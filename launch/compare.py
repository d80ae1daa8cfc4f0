"""The comparison: python -m launch.compare --config=configs/compare/NAME.py --output=DIR

Makes what is missing (trainings, and what they read: a DPO run's reference, a model's own answers), evaluates every variant,
prints the table and writes results.json, table.md and report.html. Interrupted, the same command goes on. On several hosts
every process is given the same command with --distributed; --mesh is that of the evaluation, training has its config's. Every
training reads the data below its own config's directory, or --config.data.data_dir=DIR; the evaluation
--config.eval.data_dir=DIR.
"""

import pathlib

from launch import cli, devices
from launch.defaults import evaluation_defaults
from launch.huge_pages import restart_with_huge_pages
from launch.output import own_output
from launch.stages import check_stages, make_all, to_stage
from safety_align import distributed
from safety_align.distributed import say
from safety_align.errors import InputError
from safety_align.evaluation.changed import with_changes
from safety_align.evaluation.config import check_evaluation_data, to_eval_config
from safety_align.evaluation.defences import Defence, with_system_prompt
from safety_align.evaluation.gates import check_overrides, gate_for
from safety_align.evaluation.report import write_report
from safety_align.evaluation.run import evaluate_variant
from safety_align.files import check_name, check_path
from safety_align.interop import load_unrolled


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
        bundle = with_system_prompt(bundle, variant.get("system"))
        gate = gate_for(bundle, overrides | variant["gate"]) if variant["gated"] else None
        if variant["gated"] and gate is None:
            raise InputError(f"config.variants: {name} is gated, but {variant['checkpoint']} has no safety signal")
        defence = to_defence(name, variant)
        measured[name] = evaluate_variant(
            bundle, gate, eval_config, name, partial=output / "parts", mesh=mesh, defence=defence
        )
        del bundle  # before the next one is read: it may fill the devices
        say(f"{name}: done")
    ungated = {name: v["ungated"] for name, v in variants.items() if v.get("ungated")}
    return write_report(output, with_changes(measured, ungated), about) if distributed.is_main() else None


def to_defence(name: str, variant: dict) -> Defence:
    """What stands beside a variant's gate; InputError for fields that are none, and for a model without a gate."""
    try:
        defence = Defence(**(variant.get("defence") or {}))
    except (TypeError, InputError) as error:
        raise InputError(f"config.variants.{name}.defence: {error}") from error
    if defence != Defence() and not variant["gated"]:
        raise InputError(f"config.variants.{name}.defence needs a gate; set gated=True")
    return defence


def shorten(values: dict, config: str) -> None:
    """Changes `values` as its `quick` says: a path of keys, "a/b", → what is there then; variants are those in `order`."""
    if not isinstance(values.get("quick"), dict):
        raise InputError(f"--quick: {config} has no short version")
    for path, value in values["quick"].items():
        *groups, last = path.split("/")
        group = values
        for name in groups:
            group = group[name] if group is not None else None
        if group is not None:  # what the command line has left out stays out
            group[last] = value
    values["variants"] = {name: values["variants"][name] for name in values["order"]}


def filled(value, model: str):
    """`value` with the config's `model` where it says "{model}", and the last part of its path where it says "{name}"."""
    if isinstance(value, dict):
        return {key: filled(entry, model) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return tuple(filled(entry, model) for entry in value)
    name = pathlib.PurePath(model.partition("@")[0]).name
    return value.replace("{model}", model).replace("{name}", name) if isinstance(value, str) else value


def main() -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--output", required=True, metavar="DIR", help="where the results go")
    parser.add_argument("--quick", action="store_true", help="the config's short version, if it has one")
    devices.add_options(parser)
    arguments, config = cli.parse_with_config(parser, evaluation_defaults)
    values = config.to_dict()
    if arguments.quick:
        shorten(values, arguments.config)
    if "model" in values:
        values = filled(values, str(values["model"]))
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
        to_defence(name, variant)
    mesh = devices.start(arguments)
    with distributed.agreed():  # all of it before the first run is trained
        stages = [to_stage(entry, values.get("data")) for entry in values["train"]]
        made = {stage.workdir for stage in stages}
        for variant in values["variants"].values():
            if variant["checkpoint"] not in made:
                variant["checkpoint"] = devices.located(variant["checkpoint"])
        check_stages(stages)
        check_evaluation_data(eval_config)
    with own_output(output, about):
        if not make_all(stages, mesh, arguments.dtype):
            return cli.EXIT_FAILED
        variants = {name: values["variants"][name] for name in values["order"]}
        table = compare(variants, values["eval"], output, about, mesh, arguments.dtype)
    if table is not None:
        print(table)
    return cli.EXIT_OK


if __name__ == "__main__":
    restart_with_huge_pages()
    cli.run(main)
