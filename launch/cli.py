"""What every command shares: argument parsing, `--config` files with overrides, exit codes.

Exit codes: 0 done, 1 failed, 2 bad input (one line on stderr that names the input and the fix); 75, only where
--tell-stopped asks for it: stopped by a signal, saved, to be started again.
"""

import argparse
import ast
import importlib.util
import os
import pathlib
import sys
import time
import traceback
from collections.abc import Callable

import ml_collections

from safety_align.errors import InputError

EXIT_OK, EXIT_FAILED, EXIT_BAD_INPUT = 0, 1, 2
EXIT_STOPPED = 75  # EX_TEMPFAIL of sysexits.h


class Parser(argparse.ArgumentParser):
    """`argparse` whose errors are one line and exit with code 2."""

    def __init__(self, doc: str | None = None, **options):
        super().__init__(
            description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options
        )

    def error(self, message: str):
        raise InputError(f"{message} (see --help)")


def load_config(path: str) -> ml_collections.ConfigDict:
    """Runs the config file at `path` and returns what its `get_config()` returns."""
    file = pathlib.Path(path)
    if not file.is_file():
        known = ", ".join(sorted(str(p) for p in pathlib.Path("configs").rglob("*.py"))[:12])
        raise InputError(f"config file {path!r} does not exist; there are: {known or 'none below configs/'}")
    spec = importlib.util.spec_from_file_location(f"config_{file.stem}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise InputError(f"config file {path!r} defines no get_config() function")
    return module.get_config()


def _coerce(name: str, text: str, old):
    """The value that `text` means for a config field whose present value is `old`."""
    if isinstance(old, str):
        return text
    try:
        value = ast.literal_eval({"true": "True", "false": "False", "none": "None"}.get(text.lower(), text))
    except (ValueError, SyntaxError):
        value = text
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(old, tuple) and isinstance(value, list):
        value = tuple(value)
    if old is not None and type(value) is not type(old):
        raise InputError(f"--{name}={text}: expected a {type(old).__name__} like {old!r}")
    return value


def apply_overrides(config: ml_collections.ConfigDict, arguments: list[str], flag: str = "config") -> None:
    """Applies `--{flag}.a.b=value` arguments in place; an unknown key or argument is an `InputError`."""
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if not name.startswith(f"--{flag}.") or not equals:
            raise InputError(f"unknown argument {argument!r}; overrides are written --{flag}.key=value (see --help)")
        name = name.removeprefix(f"--{flag}.")
        node = config
        for key in name.split("."):
            if not isinstance(node, ml_collections.ConfigDict) or key not in node:
                keys = ", ".join(sorted(node.keys())) if isinstance(node, ml_collections.ConfigDict) else "no keys"
                raise InputError(f"unknown {flag} key {name!r}: {key!r} is not one of: {keys}")
            node, holder = node[key], node
        if isinstance(node, ml_collections.ConfigDict):
            raise InputError(
                f"{argument.partition('=')[0]} is a group with keys {', '.join(sorted(node.keys()))}; set one of them"
            )
        holder[key] = _coerce(f"{flag}.{name}", text, node)


def parse_with_config(parser: Parser, argv: list[str] | None = None):
    """Parses `argv`; returns `(arguments, config)`, overrides applied."""
    parser.add_argument(
        "--config", required=True, metavar="FILE", help="a file of configs/; override with --config.key=value"
    )
    arguments, rest = parser.parse_known_args(argv)
    config = load_config(arguments.config)
    apply_overrides(config, rest)
    return arguments, config.lock()


def add_distributed(parser: Parser) -> None:
    """The option that makes a command one of several processes; give it to `safety_align.distributed.start`."""
    parser.add_argument(
        "--distributed",
        metavar="auto|HOST:PORT,N,I",
        help="one of several processes: auto on TPU pods, GKE and Slurm; else process 0's address, how many, which",
    )


def run(main: Callable[[], int | None]) -> None:
    """Runs a command's `main` and exits with its code; the traceback of an `InputError` is not shown.

    Of several processes, all raise a shared `InputError` and end together, and the first speaks. Any other error is one
    process's own: it ends at once, and the others by themselves as soon as they miss it.
    """
    together = False
    try:
        code = main() or EXIT_OK
    except InputError as error:
        together = error.shared
        if not together or _is_first():
            print(f"error: {error}", file=sys.stderr)
        code = EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = EXIT_FAILED
    except Exception:
        if not _one_of_several():
            raise
        traceback.print_exc()
        code = EXIT_FAILED
    if code in (EXIT_FAILED, EXIT_BAD_INPUT) and not together and _one_of_several():
        sys.stdout.flush()
        sys.stderr.flush()
        if _is_first():
            time.sleep(GRACE_S)
        # An orderly end would wait for the other processes, which wait for this one.
        os._exit(code)
    sys.exit(code)


GRACE_S = 2.0
"""The first process ends that much after its error: its end kills the others, which may have a code of their own."""


def _one_of_several() -> bool:
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized()


def _is_first() -> bool:
    return not _one_of_several() or sys.modules["jax"].process_index() == 0
