"""Trains a model: python -m launch.train --config=configs/NAME.py --workdir=DIR [--config.key=value …]

The same command resumes an interrupted run. On a pod, run it on every host with --distributed=auto and a DIR that all
of them share. Metrics of the last validation go to stdout, progress to stderr. DIR gets checkpoints, config.json,
data.json (of which data the run is), tokenizer.json, reference.json (DPO), metrics.jsonl, TensorBoard files and a .lock.
"""

import functools

from launch import cli, training
from launch.huge_pages import restart_with_huge_pages
from safety_align import distributed
from safety_align.interop import load_model
from safety_align.training.loop import train


def main() -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--workdir", required=True, metavar="DIR", help="where the run lives; resumes what is there")
    parser.add_argument(
        "--tell-stopped",
        action="store_true",
        help="exit with 75, not 0, where a signal stopped the run before its last step: a scheduler takes 0 for done",
    )
    cli.add_distributed(parser)
    arguments, config = training.parse(parser, training.devices)
    metrics = train(config, arguments.workdir, load=functools.partial(load_model, dtype=config.model.param_dtype))
    for name, value in metrics.items() if distributed.is_main() else ():
        print(f"{name:16} {value:.4f}" if isinstance(value, float) else f"{name:16} {value}")
    return cli.EXIT_STOPPED if arguments.tell_stopped and metrics["step"] < config.steps else cli.EXIT_OK


if __name__ == "__main__":
    restart_with_huge_pages()
    cli.run(main)
