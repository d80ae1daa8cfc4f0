"""Compiles a program for a TPU pod without one:

    python -m launch.compile_pod --config=configs/NAME.py --topology=v5e:4x4 [--step=train|prefill|decode]

Uses the real TPU compiler (pip install -e '.[tpu]'; no TPU needed). Prints bytes per chip, FLOPs (from their formula,
and as XLA counts them), the collectives of the program, bytes moved, and the time at the roofline: the largest of
arithmetic, memory (everything held is read once; training also writes it once; a step of decoding: what its program
moves) and links at the chips' published rates, a bound and not a measurement. Exits with 2 and the shortfall where the
program does not fit.
"""

import json
import pathlib

import msgspec

from launch import cli, devices, training
from safety_align.errors import InputError
from safety_align.files import check_new_file, check_path, make_directory, write_atomically
from safety_align.strict_json import read_json


def main() -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--topology", required=True, metavar="NAME", help="v5e:4x4, v5p:2x2x1, v6e:2x4, …")
    parser.add_argument("--step", choices=("train", "prefill", "decode"), default="train", help="default: %(default)s")
    for name, default in (("rows", 8), ("prompt", 1024), ("tokens", 256)):
        parser.add_argument(
            f"--{name}", type=cli.integer(1), default=default, help="of prefill and decode; default: %(default)s"
        )
    parser.add_argument("--schedule", metavar="NAME", help="of checks in decoding; off: no gate; default: every")
    devices.add_weights(parser)
    parser.add_argument("--json", metavar="FILE", help="also write everything as JSON")
    arguments, config = training.parse(parser)
    for option in ("schedule", "weights"):
        if arguments.step == "train" and getattr(arguments, option) is not None:
            raise InputError(
                f"--{option} is of decoding, and this is a training step; add --step=decode or --step=prefill"
            )
    if arguments.json:  # before the minutes of compiling
        check_report(pathlib.Path(arguments.json), pathlib.Path(arguments.config))
        make_directory(pathlib.Path(arguments.json).parent, "--json")
    import jax

    jax.config.update("jax_platforms", "cpu")  # the pod's chips are not here
    from safety_align.pod.programs import Serving
    from safety_align.pod.report import report

    schedule = None if arguments.schedule == "off" else arguments.schedule or "every"
    serving = Serving(arguments.rows, arguments.prompt, arguments.tokens, schedule, arguments.weights)
    found = report(config, arguments.topology, arguments.step, serving)
    if arguments.json:
        write_atomically(pathlib.Path(arguments.json), json.dumps(found, indent=2))
    gib = 2**30
    mesh = " x ".join(f"{name} {size}" for name, size in found["mesh"].items() if size > 1)
    print(
        f"{found['step']} on {found['topology']}: {found['chips']} chips of {found['chip_memory'] / gib:.0f} GiB, {mesh}"
    )
    for name, value in found["memory"].items():
        print(f"  {name:22} {value / gib:10.3f} GiB per chip")
    for name in ("model_flops", "counted_flops"):
        if name in found:
            print(f"  {name:22} {found[name]:10.3e}")
    if "counted_over_formula" in found:
        print(f"  {'counted / formula':22} {found['counted_over_formula']:10.4f}  (with the whole square of scores)")
    for name, value in sorted(found["collectives"].items()):
        print(f"  {name:22} {value['count']:10,} instructions, {value['bytes'] / 2**20:,.1f} MiB as they stand")
    print(f"  {'accessed by XLA':22} {found['bytes_accessed'] / gib:10.3f} GiB, a loop's body once, on-chip memory too")
    for name, value in found["bytes"].items():
        print(f"  {'moved by ' + name:22} {value / gib:10.3f} GiB per chip and step")
    for name, value in found["roofline_seconds"].items():
        print(f"  {'time: ' + name:22} {1e3 * value:10.3f} ms")
    print(f"  {'MFU at the roofline':22} {100 * found['roofline_mfu']:10.1f} %")
    return cli.EXIT_OK


def check_report(path: pathlib.Path, config: pathlib.Path) -> None:
    """Raises InputError unless the report can go to `path`: nothing is there, or an older report."""
    check_path(path, "--json")
    check_new_file(path, config)
    if path.exists():
        try:
            read_json(path, _Report)
        except InputError as error:
            raise InputError(f"{path} is there and no report of compile_pod; choose another --json") from error


class _Report(msgspec.Struct):
    """What tells a report of ours from another file."""

    topology: str
    step: str
    collectives: dict


if __name__ == "__main__":
    cli.run(main)
