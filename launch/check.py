"""Checks a training's config as launch.train does, on any machine: python -m launch.check --config=FILE [--config.key=value …]

Everything that needs neither the data nor the devices; 0 where nothing is wrong, else 2 and one line. Before chips are
bought, launch/pods/tpu_vm.sh and launch.gke ask here.
"""

import sys

from launch import cli, training


def check_config(path: str, overrides: list[str]) -> None:
    """Raises InputError for a config that `launch.train` would refuse wherever it runs."""
    from safety_align.interop.start import NotHere  # here: importing jax takes a second
    from safety_align.training.ready import check_names

    try:
        check_names(training.load(path, overrides))
    except NotHere as error:  # where it trains it may be: say so, and let it go
        print(f"note: {error}; here, what the config takes from it is not checked", file=sys.stderr)


def main() -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--config", required=True, metavar="FILE", help="override with --config.key=value")
    arguments, overrides = parser.parse_known_args()
    check_config(arguments.config, overrides)
    return cli.EXIT_OK


if __name__ == "__main__":
    cli.run(main)
