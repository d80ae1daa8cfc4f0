"""Measures one part: python -m launch.benchmark decode|throughput|products|train|signal|pipeline|packing|load|startup [--size=…] [--json]

Every round runs all variants one after the other, in turn forwards and backwards; a ratio is the median over rounds
of the ratio within a round, so that a machine that slows down slows both sides. Random parameters; the head says
"benign" throughout, so every decoder generates the same number of tokens.
"""

import json
import sys

from tqdm import tqdm

from launch import cli, devices, training
from launch.huge_pages import restart_with_huge_pages
from safety_align.errors import InputError

SIZES = ("tiny", "mini", "small", "base", "qwen2_5_0_5b", "llama3_2_1b")

OF_A_CONFIG = ("pipeline", "packing", "startup")
"""What takes a training's --config, and --config.key=value."""


def parser_of_all() -> cli.Parser:
    """The command line: a command for each part."""
    parser = cli.Parser(__doc__)
    commands = parser.add_subparsers(
        dest="what", required=True, metavar="decode|throughput|products|train|signal|pipeline|packing|load|startup"
    )
    decode = commands.add_parser("decode", help="tokens/s, the cost of checks, memory, compile time")
    decode.add_argument(
        "--prompt", type=cli.integer(1), default=256, metavar="N", help="prompt tokens, default: %(default)s"
    )
    decode.add_argument(
        "--tokens", type=cli.integer(1), default=128, metavar="N", help="generated tokens, default: %(default)s"
    )
    devices.add_weights(decode)
    throughput = commands.add_parser("throughput", help="many requests: rows that are refilled, and whole batches")
    for name, default in (("requests", 96), ("tokens", 64)):
        throughput.add_argument(
            f"--{name}", type=cli.integer(1), default=default, metavar="N", help="default: %(default)s"
        )
    products = commands.add_parser("products", help="a product with int8 weights, by rows, over float32")
    for name, default in (("width", 896), ("channels", 4864), ("weights", 24), ("rounds", 9)):
        products.add_argument(
            f"--{name}", type=cli.integer(1), default=default, metavar="N", help="default: %(default)s"
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
    signal = commands.add_parser("signal", help="training a signal beside a frozen model, over a plain forward pass")
    signal.add_argument(
        "--length", type=cli.integer(1), default=512, metavar="N", help="slots of a row, default: %(default)s"
    )
    for command, batch, rounds in ((decode, 1, 15), (throughput, 16, 3), (train, 40, 7), (signal, 8, 7)):
        command.add_argument("--size", choices=SIZES, default="small", help="model preset, default: %(default)s")
        command.add_argument(
            "--batch", type=cli.integer(1), default=batch, metavar="N", help="rows, default: %(default)s"
        )
        command.add_argument("--rounds", type=cli.integer(1), default=rounds, metavar="N", help="default: %(default)s")
        command.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="default: %(default)s")
    pipeline = commands.add_parser(
        "pipeline", help="the input pipeline alone, against training; takes --config.key=value"
    )
    packing = commands.add_parser("packing", help="conversations in a row, classes; takes --config.key=value")
    packing.add_argument("--tokenizer", default="", metavar="DIR", help="the model's; default: a fresh one is trained")
    for command in (pipeline, packing):
        command.add_argument("--batches", type=cli.integer(1), default=40, metavar="N", help="default: %(default)s")
    load = commands.add_parser("load", help="memory and time of reading a Hugging Face checkpoint onto devices")
    load.add_argument("--size", default="llama3_2_1b", metavar="PRESET", help="model preset, default: %(default)s")
    for axis, default in (("fsdp", 4), ("tensor", 2)):
        load.add_argument(
            f"--{axis}", type=cli.integer(1, 512), default=default, metavar="N",
            help=f"devices along {axis}, default: %(default)s",
        )  # fmt: skip
    startup = commands.add_parser(
        "startup", help="seconds from launch.train to its first step; takes --config.key=value"
    )
    for command, config in (
        (pipeline, "configs/embedded_gated.py"),
        (packing, "configs/embedded_gated.py"),
        (startup, "configs/embedded_base.py"),
    ):
        command.add_argument("--config", default=config, metavar="FILE", help="default: %(default)s")
    for command in commands.choices.values():
        command.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def measure(what: str, options: dict, progress) -> dict:
    """The measurement `what`, with its `options`; imported here, after the arguments are checked: jax takes a second."""
    if what == "decode":
        from safety_align.benchmarks.decoding import decode as measured
    elif what == "throughput":
        from safety_align.benchmarks.throughput import throughput as measured
    elif what == "products":
        from safety_align.benchmarks.products import products as measured
    elif what == "train":
        from safety_align.benchmarks.training import train as measured
    elif what == "signal":
        from safety_align.benchmarks.signal import signal as measured
    elif what == "pipeline":
        from safety_align.benchmarks.pipeline import pipeline as measured
    elif what == "packing":
        from safety_align.benchmarks.packing import packing as measured
    elif what == "load":
        from safety_align.benchmarks.load import load as measured
    else:
        from safety_align.benchmarks.startup import startup as measured
    return measured(**options, progress=progress)


def main() -> int:
    arguments, rest = parser_of_all().parse_known_args()
    options = vars(arguments)
    what, as_json = options.pop("what"), options.pop("json")
    if rest and what not in OF_A_CONFIG:
        raise InputError(f"unknown argument {rest[0]!r} (see --help)")
    if what == "startup":
        options = {"command": [sys.executable, "-m", "launch.train", f"--config={options['config']}", *rest]}
    elif what in OF_A_CONFIG:
        options["config"] = training.load(options["config"], rest, platform=training.devices)
    rounds = options.get("rounds") or options.get("batches") or 2
    with tqdm(total=rounds, desc=what, file=sys.stderr) as bar:
        found = measure(what, options, bar.update)
    if as_json:
        print(json.dumps(found))
        return cli.EXIT_OK
    wide = max(18, *map(len, found))
    for name, value in found.items():
        for key, cell in value.items() if isinstance(value, dict) else [("", value)]:
            shown = f"{cell:,.3f}" if isinstance(cell, float) else "–" if cell is None else f"{cell:,}"
            print(f"{name:{wide}} {key:12} {shown}")
    return cli.EXIT_OK


if __name__ == "__main__":
    restart_with_huge_pages()
    cli.run(main)
