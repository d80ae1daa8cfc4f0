"""The comparison: python -m launch.compare --config=configs/compare/NAME.py --output=DIR

Trains what is missing, evaluates every variant, prints the table and writes results.json, table.md and report.html.
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


def main() -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--output", required=True, metavar="DIR", help="where the results go")
    arguments, config = cli.parse_with_config(parser)
    values = config.to_dict()
    for workdir, path in values["train"]:
        print(f"training {workdir} by {path}", file=sys.stderr)
        train(to_train_config(cli.load_config(path)), workdir)
    unknown = set(values["order"]) ^ set(values["variants"])
    if unknown:
        raise InputError(f"config.order and config.variants differ in {', '.join(sorted(unknown))}")
    variants = {name: values["variants"][name] for name in values["order"]}
    print(compare(variants, values["eval"], pathlib.Path(arguments.output), {"config": values}))
    return cli.EXIT_OK


if __name__ == "__main__":
    restart_with_huge_pages()
    cli.run(main)
