"""`launch.benchmark load`: a random checkpoint, read in a process of its own onto fake devices."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

from launch import cli

MEASURE = (
    "import json, pathlib, sys; from safety_align.interop.measure import measure; "
    "print(json.dumps(measure(pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))"
)


def add_arguments(parser) -> None:
    """The command's options."""
    parser.add_argument("--size", default="llama3_2_1b", metavar="PRESET", help="model preset, default: %(default)s")
    parser.add_argument(
        "--fsdp", type=cli.integer(1, 512), default=4, metavar="N", help="devices along fsdp, default: %(default)s"
    )
    parser.add_argument(
        "--tensor", type=cli.integer(1, 512), default=2, metavar="N", help="devices along tensor, default: %(default)s"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def main(arguments) -> int:
    """Writes the checkpoint, measures (twice: the first run may read from the disk, the second does not), prints."""
    from safety_align.interop.measure import write_random
    from safety_align.model import preset

    devices = arguments.fsdp * arguments.tensor
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    environment = dict(os.environ, XLA_FLAGS=flags, JAX_PLATFORMS="cpu")
    with tempfile.TemporaryDirectory() as folder:
        directory = pathlib.Path(folder) / "model"
        write_random(directory, preset(arguments.size, safety_signal=False))
        command = [sys.executable, "-c", MEASURE, str(directory), str(arguments.fsdp), str(arguments.tensor)]
        for _ in range(2):
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                print(done.stderr[-2000:], file=sys.stderr)
                return cli.EXIT_FAILED
    found = json.loads(done.stdout.splitlines()[-1])
    if arguments.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:22} {value:,.3f}" if isinstance(value, float) else f"{name:22} {value:,}")
    return cli.EXIT_OK
