"""The comparison: python -m launch.compare --config=configs/compare/NAME.py --output=DIR

Trains what is missing (a DPO run computes its reference first), evaluates every variant, prints the table and writes
results.json, table.md and report.html.
Interrupted, the same command goes on.
"""

import dataclasses
import pathlib
import sys

from launch import cli
from launch.evaluation import claim_output, to_eval_config
from launch.huge_pages import restart_with_huge_pages
from launch.train import to_train_config
from safety_align.errors import InputError
from safety_align.evaluation.report import write_report
from safety_align.evaluation.run import evaluate_variant
from safety_align.interop import load_model
from safety_align.training.loop import train


def compare(variants: dict, evaluation: dict, output: pathlib.Path, about: dict) -> str:
    """Evaluates `variants` (name → {checkpoint, gated, gate overrides}) and writes the report; returns the table."""
    eval_config, base_gate = to_eval_config(evaluation)
    claim_output(output, about)
    measured = {}
    for name, variant in variants.items():
        bundle = load_model(variant["checkpoint"])
        gate = dataclasses.replace(base_gate, **variant["gate"]) if variant["gated"] else None
        measured[name] = evaluate_variant(bundle, gate, eval_config, name, partial=output / "parts")
        print(f"{name}: done", file=sys.stderr)
    return write_report(output, measured, about)


def training(entry: tuple) -> tuple[str, str, list[str]]:
    """(workdir, config file, overrides as on a command line) of an entry of `train`: (workdir, config file), or with
    {dotted key: value} behind them."""
    workdir, path, *changes = entry
    if len(changes) > 1 or not all(isinstance(c, dict) for c in changes):
        raise InputError(f"config.train: {workdir} takes a config file and at most one {{key: value}} of overrides")
    return workdir, path, [f"--config.{key}={value}" for c in changes for key, value in c.items()]


def main() -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--output", required=True, metavar="DIR", help="where the results go")
    arguments, config = cli.parse_with_config(parser)
    values = config.to_dict()
    for workdir, path, changes in map(training, values["train"]):
        print(f"training {workdir} by {' '.join([path, *changes])}", file=sys.stderr)
        config = cli.load_config(path)
        cli.apply_overrides(config, changes)
        train(to_train_config(config), workdir, load=load_model)
    unknown = set(values["order"]) ^ set(values["variants"])
    if unknown:
        raise InputError(f"config.order and config.variants differ in {', '.join(sorted(unknown))}")
    variants = {name: values["variants"][name] for name in values["order"]}
    print(compare(variants, values["eval"], pathlib.Path(arguments.output), {"config": values}))
    return cli.EXIT_OK


if __name__ == "__main__":
    restart_with_huge_pages()
    cli.run(main)
