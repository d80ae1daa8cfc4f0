"""Chooses the gate's threshold: python -m launch.calibrate --config=configs/calibrate.py --checkpoint=DIR --output=DIR

Answers benign requests and attacks once, with all checks and a gate that does not act, and says of every threshold how many of
each the gate would have refused. The threshold that is chosen keeps refusals of benign requests below --config.alarms (a
binomial bound). Prints the table; writes it to calibration.json, with the threshold, and the peaks of all answers. Then:
--gate.threshold=… in `generate`, --config.gate.threshold=… in `evaluate`, --calibration=FILE in `convert`.
"""

import json
import pathlib

from launch import cli, devices
from launch.defaults import evaluation_defaults
from launch.output import own_output
from launch.subject import load_subject
from safety_align import distributed
from safety_align.distributed import say
from safety_align.errors import InputError
from safety_align.evaluation.calibration import CalibrationConfig
from safety_align.evaluation.calibration_run import calibrate, calibration_table
from safety_align.evaluation.config import to_eval_config
from safety_align.evaluation.report import strict_json
from safety_align.files import check_path, write_atomically

RESULTS = "calibration.json"


def main() -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--checkpoint", required=True, metavar="DIR", help="a model with a safety signal")
    parser.add_argument("--output", required=True, metavar="DIR", help="where calibration.json goes")
    devices.add_options(parser)
    devices.add_weights(parser)
    arguments, config = cli.parse_with_config(parser, evaluation_defaults)
    values = config.to_dict()
    wanted = CalibrationConfig(**{name: values.pop(name) for name in ("alarms", "doubt") if name in values})
    eval_config, overrides = to_eval_config(values)
    if not eval_config.measurements.benign:
        raise InputError(
            f"{arguments.config} names no benign sets (measurements.benign): a threshold is chosen by them"
        )
    output = pathlib.Path(arguments.output)
    check_path(output)
    subject = load_subject(arguments, config, eval_config, overrides)
    gate, about = subject.needed_gate("threshold to choose"), subject.about
    with own_output(output, about, RESULTS):
        found = calibrate(subject.bundle, gate, eval_config, wanted, output / "parts", subject.mesh)
        if distributed.is_main():
            write_atomically(output / RESULTS, strict_json(found | {"about": about}) + "\n")
            print(calibration_table(found))
    if found["threshold"] is None:
        raise InputError(f"no threshold was chosen: {found['why_none']}")
    say(f"threshold {json.dumps(found['threshold'])}: in {output / RESULTS}")
    return cli.EXIT_OK


if __name__ == "__main__":
    cli.run(main)
