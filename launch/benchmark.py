"""Measures one part of:
python -m launch.benchmark decode|throughput|latency|beginning|products|gcg|train|signal|pipeline|packing|load|startup [--json]
or all of a list: python -m launch.benchmark all --config=configs/benchmark/gpu.py --output=DIR

Every round runs all variants one after the other, in turn forwards and backwards; a ratio is the median over rounds
of the ratio within a round, so that a machine that slows down slows both sides. Random parameters; the head says
"benign" throughout, so every decoder generates the same number of tokens.
"""

import argparse
import json
import pathlib
import sys

import ml_collections
from tqdm import tqdm

from launch import cli, devices, training
from launch.huge_pages import restart_with_huge_pages
from safety_align.benchmarks import suite
from safety_align.claims import locked_directory
from safety_align.errors import InputError

SIZES = ("tiny", "mini", "small", "base", "qwen2_5_0_5b", "llama3_2_1b", "llama2_7b")

SCHEDULES = ("every", "annealing", "periodic", "random", "first")

LATENCY_RUNS = 20
"""Four settings of the gate, each at full load and at four others (benchmarks/latency.py)."""

OF_A_CONFIG = ("pipeline", "packing", "startup")
"""What takes a training's --config, and --config.key=value."""


def parser_of_all() -> cli.Parser:
    """The command line: a command for each part."""
    parser = cli.Parser(__doc__)
    commands = parser.add_subparsers(
        dest="what",
        required=True,
        metavar="decode|throughput|latency|beginning|products|gcg|train|signal|pipeline|packing|load|startup|all",
    )
    decode = commands.add_parser("decode", help="tokens/s, the cost of checks, memory, compile time")
    decode.add_argument(
        "--prompt", type=cli.integer(1), default=256, metavar="N", help="prompt tokens, default: %(default)s"
    )
    decode.add_argument(
        "--tokens", type=cli.integer(1), default=128, metavar="N", help="generated tokens, default: %(default)s"
    )
    decode.add_argument(
        "--schedules", type=_schedules, default=SCHEDULES, metavar="NAME,…",
        help=f"default: {','.join(SCHEDULES)}; reread: a check at every token, and gate.reread",
    )  # fmt: skip
    decode.add_argument("--torch", action="store_true", help="also a transformers model of the same shape, in torch")
    devices.add_weights(decode)
    throughput = commands.add_parser("throughput", help="many requests: rows that are refilled, and whole batches")
    latency = commands.add_parser("latency", help="requests that come at a given rate: how long they wait, by the load")
    for command, many in ((throughput, 96), (latency, 300)):
        for name, default in (("requests", many), ("tokens", 64)):
            command.add_argument(
                f"--{name}", type=cli.integer(1), default=default, metavar="N", help="default: %(default)s"
            )
    beginning = commands.add_parser(
        "beginning", help="prompts that begin alike: the beginning read once, and whole prompts"
    )
    for name, default in (("prompt", 2048), ("common", 1900), ("own", 140)):
        beginning.add_argument(
            f"--{name}", type=cli.integer(1), default=default, metavar="N", help="tokens, default: %(default)s"
        )
    products = commands.add_parser("products", help="a product with int8 weights, by rows, over float32")
    for name, default in (("width", 896), ("channels", 4864), ("weights", 24), ("rounds", 9)):
        products.add_argument(
            f"--{name}", type=cli.integer(1), default=default, metavar="N", help="default: %(default)s"
        )
    gcg = commands.add_parser("gcg", help="steps of the attack a second, through the gate and without")
    gcg.add_argument("--width", type=cli.integer(1), default=64, metavar="N", help="candidates, default: %(default)s")
    gcg.add_argument("--steps", type=cli.integer(2), default=10, metavar="N", help="default: %(default)s")
    gcg.add_argument("--nanogcg", action="store_true", help="also nanoGCG, on a torch model of the same shape")
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
    for command, batch, rounds in (
        (decode, 1, 15), (throughput, 16, 3), (latency, 16, None), (beginning, 4, 5), (gcg, 16, None), (train, 40, 7), (signal, 8, 7)
    ):  # fmt: skip
        command.add_argument("--size", choices=SIZES, default="small", help="model preset, default: %(default)s")
        command.add_argument(
            "--batch", type=cli.integer(1), default=batch, metavar="N", help="rows, default: %(default)s"
        )
        if rounds:
            command.add_argument(
                "--rounds", type=cli.integer(1), default=rounds, metavar="N", help="default: %(default)s"
            )
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
    several = commands.add_parser(
        "all", help="the parts of a config, each in a process of its own; takes --config.key=value"
    )
    several.add_argument("--config", required=True, metavar="FILE", help="a file of configs/benchmark/")
    several.add_argument("--output", required=True, metavar="DIR", help="where results.json goes")
    return parser


def _schedules(text: str) -> tuple[str, ...]:
    names, known = tuple(text.split(",")), (*SCHEDULES, "reread")
    if unknown := [name for name in names if name not in known]:
        raise argparse.ArgumentTypeError(f"must be of {', '.join(known)}, got {unknown[0][:40]!r}")
    return names


def measure(what: str, options: dict, progress) -> dict:
    """The measurement `what`, with its `options`; imported here, after the arguments are checked: jax takes a second."""
    if what == "decode":
        from safety_align.benchmarks.decoding import decode as measured
    elif what == "throughput":
        from safety_align.benchmarks.throughput import throughput as measured
    elif what == "latency":
        from safety_align.benchmarks.latency import latency as measured
    elif what == "beginning":
        from safety_align.benchmarks.beginning import beginning as measured
    elif what == "products":
        from safety_align.benchmarks.products import products as measured
    elif what == "gcg":
        from safety_align.benchmarks.gcg import measured_gcg as measured
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
    what = options.pop("what")
    if what == "all":
        return run_all(arguments.config, rest, pathlib.Path(arguments.output))
    as_json = options.pop("json")
    if rest and what not in OF_A_CONFIG:
        raise InputError(f"unknown argument {rest[0]!r} (see --help)")
    if what == "startup":
        options = {"command": [sys.executable, "-m", "launch.train", f"--config={options['config']}", *rest]}
    elif what in OF_A_CONFIG:
        options["config"] = training.load(options["config"], rest, platform=training.devices)
    rounds = options.get("rounds") or options.get("batches") or 2 * options.get("steps", 0) + 2
    rounds = LATENCY_RUNS if what == "latency" else rounds
    with tqdm(total=rounds, desc=what, file=sys.stderr) as bar:
        found = measure(what, options, bar.update)
    found["device"] = _device()
    print(json.dumps(found) if as_json else "\n".join(lines(found)))
    return cli.EXIT_OK


def lines(found: dict) -> list[str]:
    """A measurement, aligned."""
    wide, made = max(18, *map(len, found)), []
    for name, value in found.items():
        for key, cell in value.items() if isinstance(value, dict) else [("", value)]:
            shown = f"{cell:,.3f}" if isinstance(cell, float) else f"{cell:,}" if isinstance(cell, int) else str(cell)
            made.append(f"{name:{wide}} {key:12} {'–' if cell is None else shown}")
    return made


def _device() -> str:
    import jax

    return f"{jax.device_count()} x {jax.devices()[0].device_kind}, jax {jax.__version__}"


def run_all(config: str, rest: list[str], output: pathlib.Path) -> int:
    """The parts of a config; fails where one of them did, after all have been tried."""
    values = cli.load_config(config)
    cli.apply_overrides(values, rest)
    parts = values.get("parts")
    if not isinstance(parts, ml_collections.ConfigDict):
        raise InputError(f"{config} has no parts: it is no config of configs/benchmark/")
    parts = {name: text for name, text in parts.items() if text not in (None, "none")}
    for _, words in suite.commands(parts).values():
        known, more = parser_of_all().parse_known_args(words)
        if more and known.what not in OF_A_CONFIG:
            raise InputError(f"unknown argument {more[0]!r} of a part of {config}")
    with locked_directory(output), tqdm(total=len(parts), file=sys.stderr, unit="part") as bar:

        def begin(name: str) -> None:
            bar.n = list(parts).index(name)
            bar.set_description(name)

        found = suite.suite(parts, output, values.minutes, begin)
        bar.update(len(parts) - bar.n)
    for name, part in found.items():
        print(f"\n{name}: {part['command']}, {part.get('seconds', 0):.0f} s")
        print("\n".join(lines(part["found"])) if "found" in part else part["error"])
    failed = [name for name, part in found.items() if "error" in part]
    print(f"\n{len(found) - len(failed)} of {len(found)} parts measured, in {output / suite.RESULTS}")
    return cli.EXIT_FAILED if failed else cli.EXIT_OK


if __name__ == "__main__":
    restart_with_huge_pages()
    cli.run(main)
