"""Compiles a training step for a TPU pod without one: python -m launch.compile_pod --config=FILE --topology=v5e:4x4

Uses the real TPU compiler (pip install -e '.[tpu]'; no TPU needed). Prints bytes per chip, FLOPs of the step (from
its formula, and as XLA counts them), collectives, and the time at the chips' published peak rate: a bound, not a
measurement. Exits with 2 and the shortfall where the step does not fit.
"""

import json
import os

from launch import cli


def main() -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--topology", required=True, metavar="NAME", help="v5e:4x4, v5p:2x2x1, v6e:2x4, …")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments, config = cli.parse_with_config(parser)
    os.environ["JAX_PLATFORMS"] = "cpu"  # before jax is imported: the pod's chips are not here
    from launch.train import to_train_config
    from safety_align.pod import report

    found = report(to_train_config(config), arguments.topology)
    if arguments.json:
        print(json.dumps(found))
        return cli.EXIT_OK
    gib = 2**30
    print(f"{found['topology']}: {found['chips']} chips of {found['chip_memory'] / gib:.0f} GiB")
    for name, value in found["memory"].items():
        print(f"  {name:22} {value / gib:10.3f} GiB")
    for name in ("model_flops", "counted_flops"):
        print(f"  {name:22} {found[name]:10.3e}")
    for name, value in sorted(found["collectives"].items()):
        print(f"  {name:22} {value['count']:10,} instructions, {value['bytes'] / 2**20:,.1f} MiB")
    print(f"  {'step at peak FLOP/s':22} {found['seconds_at_peak_flops']:10.3f} s")
    return cli.EXIT_OK


if __name__ == "__main__":
    cli.run(main)
