"""What every threshold stops and costs: python -m launch.tradeoff --config=configs/tradeoff.py --checkpoint=DIR --output=DIR

Attacks and harmless prompts are answered once, with all checks and a gate that does not act; from that follow attack success and
refusals at every threshold and without a gate. Prints the table, and writes it to table.md, with intervals to tradeoff.json.
Interrupted, the same command goes on. To choose a threshold: launch.calibrate.
"""

import pathlib

from launch import cli, devices
from launch.defaults import evaluation_defaults
from launch.output import own_output
from launch.subject import load_subject
from safety_align import distributed
from safety_align.evaluation.config import to_eval_config
from safety_align.evaluation.report import strict_json
from safety_align.evaluation.tradeoff import check_attacks, tradeoff, tradeoff_table
from safety_align.files import check_path, write_atomically

RESULTS = "tradeoff.json"


def main() -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--checkpoint", required=True, metavar="DIR", help="a model with a safety signal")
    parser.add_argument("--output", required=True, metavar="DIR", help="where the results go")
    devices.add_options(parser)
    devices.add_weights(parser)
    arguments, config = cli.parse_with_config(parser, evaluation_defaults)
    eval_config, overrides = to_eval_config(config.to_dict())
    check_attacks(eval_config)
    output = pathlib.Path(arguments.output)
    check_path(output)
    subject = load_subject(arguments, config, eval_config, overrides)
    gate, about = subject.needed_gate("threshold to vary"), subject.about
    with own_output(output, about, RESULTS):
        found = tradeoff(subject.bundle, gate, eval_config, output / "parts", subject.mesh)
        if distributed.is_main():
            table = tradeoff_table(found)
            write_atomically(output / RESULTS, strict_json(found | {"about": about}) + "\n")
            write_atomically(output / "table.md", table + "\n")
            print(table)
    return cli.EXIT_OK


if __name__ == "__main__":
    cli.run(main)
