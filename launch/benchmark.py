"""Measures one part: python -m launch.benchmark decode|train|pipeline|packing|load|startup [--size=…] [--json]

Every round runs all variants one after the other, in turn forwards and backwards; a ratio is the median over rounds
of the ratio within a round, so that a machine that slows down slows both sides. Random parameters; the head says
"benign" throughout, so every decoder generates the same number of tokens.
"""

import json
import sys

from tqdm import tqdm

from launch import cli, load_benchmark, startup_benchmark
from launch.defaults import training_defaults
from launch.huge_pages import restart_with_huge_pages
from safety_align.errors import InputError

SIZES = ("tiny", "mini", "small", "base", "llama3_2_1b")


def main() -> int:
    parser = cli.Parser(__doc__)
    commands = parser.add_subparsers(dest="what", required=True, metavar="decode|train|pipeline|packing|load|startup")
    decode = commands.add_parser("decode", help="tokens/s, the cost of checks, memory, compile time")
    decode.add_argument(
        "--prompt", type=cli.integer(1), default=256, metavar="N", help="prompt tokens, default: %(default)s"
    )
    decode.add_argument(
        "--tokens", type=cli.integer(1), default=128, metavar="N", help="generated tokens, default: %(default)s"
    )
    train = commands.add_parser("train", help="tokens/s, FLOP/s, MFU; the cost of [CLS] and windows over plain SFT")
    train.add_argument(
        "--length", type=cli.integer(1), default=192, metavar="N", help="slots of a row, default: %(default)s"
    )
    train.add_argument("--torch", action="store_true", help="also a transformers model of the same shape, in torch")
    train.add_argument("--remat", metavar="POLICY", default="none", help="default: %(default)s")
    train.add_argument(
        "--attention", metavar="BACKEND", default="auto", help="see safety_align/model/kernels/, default: %(default)s"
    )
    pipeline = commands.add_parser(
        "pipeline", help="the input pipeline alone, against training; takes --config.key=value"
    )
    packing = commands.add_parser("packing", help="conversations in a row, classes; takes --config.key=value")
    packing.add_argument("--tokenizer", default="", metavar="DIR", help="the model's; default: a fresh one is trained")
    for command in (pipeline, packing):
        command.add_argument(
            "--config", default="configs/embedded_gated.py", metavar="FILE", help="default: %(default)s"
        )
        command.add_argument("--batches", type=cli.integer(1), default=40, metavar="N", help="default: %(default)s")
        command.add_argument("--json", action="store_true", help="print one JSON object")
    load = commands.add_parser("load", help="memory and time of reading a Hugging Face checkpoint onto devices")
    load_benchmark.add_arguments(load)
    startup = commands.add_parser("startup", help="seconds from launch.train to its first step")
    startup_benchmark.add_arguments(startup)
    for command, batch, rounds in ((decode, 1, 15), (train, 40, 7)):
        command.add_argument("--size", choices=SIZES, default="small", help="model preset, default: %(default)s")
        command.add_argument(
            "--batch", type=cli.integer(1), default=batch, metavar="N", help="rows, default: %(default)s"
        )
        command.add_argument("--rounds", type=cli.integer(1), default=rounds, metavar="N", help="default: %(default)s")
        command.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="default: %(default)s")
        command.add_argument("--json", action="store_true", help="print one JSON object")
    arguments, rest = parser.parse_known_args()
    if arguments.what == "startup":
        return startup_benchmark.main(arguments, rest)
    if rest and arguments.what not in ("pipeline", "packing"):
        raise InputError(f"unknown argument {rest[0]!r} (see --help)")
    if arguments.what == "load":
        return load_benchmark.main(arguments)
    options = vars(arguments)
    what, as_json = options.pop("what"), options.pop("json")
    # Imported here, after the arguments are checked: jax takes a second.
    if what in ("pipeline", "packing"):
        from launch.train import to_train_config
        from safety_align.benchmarks import packing as of_rows
        from safety_align.benchmarks import pipeline as of_time

        measure = of_rows.packing if what == "packing" else of_time.pipeline
        config = cli.load_config(options["config"])
        cli.apply_overrides(config, rest, defaults=training_defaults(config))
        options["config"] = to_train_config(config)
    elif what == "decode":
        from safety_align.benchmarks.decoding import decode as measure
    else:
        from safety_align.benchmarks.training import train as measure
    with tqdm(total=options.get("rounds") or options["batches"], desc=what, file=sys.stderr) as bar:
        found = measure(**options, progress=bar.update)
    if as_json:
        print(json.dumps(found))
        return cli.EXIT_OK
    for name, value in found.items():
        for key, cell in value.items() if isinstance(value, dict) else [("", value)]:
            shown = f"{cell:,.3f}" if isinstance(cell, float) else "–" if cell is None else f"{cell:,}"
            print(f"{name:18} {key:12} {shown}")
    return cli.EXIT_OK


if __name__ == "__main__":
    restart_with_huge_pages()
    cli.run(main)
