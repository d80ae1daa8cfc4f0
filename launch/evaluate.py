"""Attacks a checkpoint: python -m launch.evaluate --config=configs/eval/NAME.py --checkpoint=DIR --output=DIR

Writes results.json, table.md and report.html into the output directory and prints the table. A checkpoint without a
safety signal is decoded without a gate; one with it by the gate that came with it, of which --config.gate.key=value
changes a field. So does --config.measurements.GROUP.NAME.key=value of one measurement; NAME=none leaves it out. An
interrupted evaluation goes on where it was. On several hosts every process is given the same command with --distributed;
the first writes and speaks.
"""

import pathlib

from launch import cli, devices
from launch.defaults import evaluation_defaults
from launch.output import own_output
from launch.subject import load_subject
from safety_align import distributed
from safety_align.distributed import say
from safety_align.evaluation.changed import with_changes
from safety_align.evaluation.config import to_eval_config
from safety_align.evaluation.report import write_report
from safety_align.evaluation.run import evaluate_variant
from safety_align.files import check_name, check_path


def main() -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="DIR",
        help="a training run, one of its steps, a Hugging Face directory, or OWNER/NAME[@REVISION] on the hub",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="where the results go")
    parser.add_argument("--name", help="the variant's name in the results; default gated, or sft without a signal")
    devices.add_options(parser)
    devices.add_weights(parser)
    arguments, config = cli.parse_with_config(parser, evaluation_defaults)
    eval_config, overrides = to_eval_config(config.to_dict())
    if arguments.name is not None:
        check_name(arguments.name, "--name")
    check_path(pathlib.Path(arguments.output))
    subject = load_subject(arguments, config, eval_config, overrides)
    name = arguments.name or ("gated" if subject.bundle.model_config.safety_signal else "sft")
    say(f"variant {name}")
    output, about = pathlib.Path(arguments.output), subject.about | {"name": name}
    with own_output(output, about):
        measured = evaluate_variant(
            subject.bundle, subject.gate, eval_config, name, partial=output / "parts", mesh=subject.mesh
        )
        if distributed.is_main():
            print(write_report(output, with_changes({name: measured}, {}), about))
    return cli.EXIT_OK


if __name__ == "__main__":
    cli.run(main)
