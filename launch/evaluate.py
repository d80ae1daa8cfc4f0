"""Attacks a checkpoint: python -m launch.evaluate --config=configs/eval/NAME.py --checkpoint=DIR --output=DIR

Writes results.json, table.md and report.html into the output directory and prints the table. A checkpoint without a
safety signal is decoded without a gate. An interrupted evaluation goes on where it was. On several hosts every process is
given the same command with --distributed; the first writes and speaks.
"""

import dataclasses
import pathlib
import sys

from launch import cli, inference
from launch.evaluation import claim_output, to_eval_config
from safety_align import distributed
from safety_align.decoding.config import describe
from safety_align.evaluation.report import write_report
from safety_align.evaluation.run import evaluate_variant
from safety_align.interop import load_unrolled


def main() -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument(
        "--checkpoint", required=True, metavar="DIR", help="workdir of a training run, or one of its steps"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="where the results go")
    parser.add_argument("--name", help="the variant's name in the results; default gated, or sft without a signal")
    inference.add_options(parser)
    arguments, config = cli.parse_with_config(parser)
    eval_config, gate = to_eval_config(config.to_dict())
    mesh = inference.start(arguments)
    bundle = load_unrolled(arguments.checkpoint, mesh, arguments.dtype)
    if not bundle.model_config.safety_signal:
        gate = None
    name = arguments.name or ("sft" if gate is None else "gated")
    output = pathlib.Path(arguments.output)
    about = {
        "config": config.to_dict(),
        "checkpoint": str(arguments.checkpoint),
        "step": bundle.step,
        "dtype": bundle.model_config.dtype,
        "name": name,
        "gates": {name: gate and dataclasses.asdict(gate)},
    }
    if distributed.is_main():
        print(f"{name}: {describe(gate)}", file=sys.stderr)
    claim_output(output, about)
    measured = evaluate_variant(bundle, gate, eval_config, name, partial=output / "parts", mesh=mesh)
    if distributed.is_main():
        print(write_report(output, {name: measured}, about))
    return cli.EXIT_OK


if __name__ == "__main__":
    cli.run(main)
