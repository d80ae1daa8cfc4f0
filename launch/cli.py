"""What every command shares: argument parsing, `--config` files with overrides, exit codes.

Exit codes: 0 done, 1 failed, 2 bad input (one line on stderr that names the input and the fix); 75, only where
--tell-stopped asks for it: stopped by a signal, saved, to be started again.
"""

import argparse
import ast
import contextlib
import errno
import io
import math
import os
import pathlib
import sys
import time
import traceback
import types
from collections.abc import Callable

import ml_collections

from safety_align.bounds import INT32
from safety_align.errors import InputError, RunFailed
from safety_align.files import read_bytes
from safety_align.visible import visible

EXIT_OK, EXIT_FAILED, EXIT_BAD_INPUT = 0, 1, 2
EXIT_STOPPED = 75  # EX_TEMPFAIL of sysexits.h


class Parser(argparse.ArgumentParser):
    """`argparse` whose errors are one line and exit with code 2."""

    def __init__(self, doc: str | None = None, **options):
        super().__init__(
            description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options
        )

    def parse_known_args(self, args=None, namespace=None):
        for argument in sys.argv[1:] if args is None else args:
            if not argument.isprintable() and argument.encode("utf-8", "replace").decode() != argument:
                raise InputError(f"argument {argument!r} is not UTF-8")
        return super().parse_known_args(args, namespace)

    def error(self, message: str):
        raise InputError(f"{message} (see --help)")


def integer(least: int, most: int = INT32) -> Callable[[str], int]:
    """An option's `type`: an integer from `least` to `most`."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"must be an integer from {least} to {most}, got {text[:40]!r}")
        return value

    return read


def number(text: str) -> float:
    """An option's `type`: a finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be a finite number, got {text[:40]!r}")
    return value


def load_config(path: str) -> ml_collections.ConfigDict:
    """Runs the config file at `path` and returns what its `get_config()` returns.

    Whatever goes wrong in the file is an `InputError` that names the line; an error of this project's own code, called
    from there, is not.
    """
    file = pathlib.Path(path)
    if not os.path.lexists(file):
        known = ", ".join(sorted(str(p) for p in pathlib.Path("configs").rglob("*.py"))[:12])
        raise InputError(f"config file {path!r} does not exist; there are: {known or 'none below configs/'}")
    source = read_bytes(file)
    module = types.ModuleType(f"config_{file.stem}")
    module.__file__ = path
    try:
        exec(compile(source, path, "exec"), module.__dict__)
        if not callable(getattr(module, "get_config", None)):
            raise InputError(f"config file {path!r} defines no get_config() function")
        config = module.get_config()
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        line = _line_of(error, path)
        if line is None:
            raise
        said = getattr(error, "msg", None) or error
        raise InputError(f"config file {path!r}{line}: {type(error).__name__}: {said}") from error
    if not isinstance(config, ml_collections.ConfigDict):
        raise InputError(f"config file {path!r}: get_config() must return a ConfigDict, not {config!r:.60}")
    return config


def _line_of(error: BaseException, path: str) -> str | None:
    """Where in the config file at `path` an error arose, as ", line 3"; None where our own code raised it."""
    if isinstance(error, SyntaxError) and error.filename == path:
        return f", line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)[1:]  # the first is `load_config`
    ours = pathlib.Path(__file__).resolve().parent.parent
    if frames and any(pathlib.Path(frames[-1].filename).is_relative_to(ours / room) for room in OWN_CODE):
        return None
    lines = [frame.lineno for frame in frames if frame.filename == path]
    return f", line {lines[-1]}" if lines else ""


OWN_CODE = ("safety_align", "launch")
"""Where an error is a bug of ours, even if a config file is what called."""


def _coerce(name: str, text: str, old):
    """The value that `text` means for a config field whose present value is `old`."""
    if isinstance(old, str):
        return text
    try:
        value = ast.literal_eval({"true": "True", "false": "False", "none": "None"}.get(text.lower(), text))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = text
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 1e300 else math.inf
    if isinstance(old, tuple) and isinstance(value, list):
        value = tuple(value)
    if old is not None and type(value) is not type(old):
        raise InputError(f"--{name}={text}: expected a {type(old).__name__} like {old!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"--{name}={text}: expected a finite number")
    if isinstance(value, int) and abs(value) > INT32:
        raise InputError(f"--{name}={text}: expected an integer of 32 bits")
    return value


def apply_overrides(
    config: ml_collections.ConfigDict, arguments: list[str], flag: str = "config", defaults: dict | None = None
) -> None:
    """Applies `--{flag}.a.b=value` arguments in place; an unknown key or argument is an `InputError`. A group takes "none",
    which leaves it out.

    `defaults`: a tree of the keys that may be set though `config` leaves them out, with what they are then.
    """
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if not name.startswith(f"--{flag}.") or not equals:
            raise InputError(f"unknown argument {argument!r}; overrides are written --{flag}.key=value (see --help)")
        name = name.removeprefix(f"--{flag}.")
        node = _laid_over(defaults or {}, config.to_dict())
        *groups, last = name.split(".")
        for key in (*groups, last):
            if not isinstance(node, dict) or key not in node:
                keys = ", ".join(sorted(node)) if isinstance(node, dict) else "no keys"
                raise InputError(f"unknown {flag} key {name!r}: {key!r} is not one of: {keys}")
            node = node[key]
        if isinstance(node, dict) and text.lower() != "none":
            raise InputError(
                f"{argument.partition('=')[0]} is a group with keys {', '.join(sorted(node))}; set one of them, or all to none"
            )
        value = None if isinstance(node, dict) else _coerce(f"{flag}.{name}", text, node)
        holder = config
        with config.unlocked():
            for group in groups:
                if holder.get(group) is None:
                    holder[group] = ml_collections.ConfigDict()
                holder = holder[group]
            holder[last] = value


def _laid_over(below: dict, above: dict) -> dict:
    """The tree `above` with what it leaves out, or has None for, as in `below`."""
    both = dict(below)
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            both[key] = _laid_over(below[key], value)
        elif value is not None or key not in below:
            both[key] = value
    return both


def parse_with_config(parser: Parser, defaults: Callable[[ml_collections.ConfigDict], dict] | None = None):
    """Parses the command line; returns `(arguments, config)`, overrides applied. `defaults`: of the config, what
    `apply_overrides` takes beside it."""
    parser.add_argument(
        "--config", required=True, metavar="FILE", help="a file of configs/; override with --config.key=value"
    )
    arguments, rest = parser.parse_known_args()
    config = load_config(arguments.config)
    apply_overrides(config, rest, defaults=defaults(config) if rest and defaults else None)
    return arguments, config.lock()


def add_distributed(parser: Parser) -> None:
    """The option that makes a command one of several processes; give it to `safety_align.distributed.start`."""
    parser.add_argument(
        "--distributed",
        metavar="auto|HOST:PORT,N,I",
        help="one of several processes: auto on TPU pods, GKE and Slurm; else process 0's address, how many, which",
    )


def run(main: Callable[[], int | None]) -> None:
    """Runs a command's `main` and exits with its code; the traceback of an `InputError` or a `RunFailed` is not shown,
    nor that of an error of the machine (a full disk, a closed pipe).

    Of several processes, all raise a shared `InputError` and end together, and the first speaks. Any other error is one
    process's own: it ends at once, and the others by themselves as soon as they miss it.
    """
    together = False
    try:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that is not of UTF-8
        code = main() or EXIT_OK
        _flush()
    except InputError as error:
        together = error.shared
        if not together or _is_first():
            say_error(error)
        code = EXIT_BAD_INPUT
    except RunFailed as error:
        say_error(error)
        code = EXIT_FAILED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = EXIT_FAILED
    except Exception as error:
        if isinstance(error, OSError) and error.errno in OF_THE_MACHINE:
            say_error(f"{error.filename or 'output'}: {error.strerror}; what was written before is kept")
        elif _one_of_several():
            traceback.print_exc()
        else:
            raise
        code = EXIT_FAILED
    if code in (EXIT_FAILED, EXIT_BAD_INPUT) and not together and _one_of_several():
        with contextlib.suppress(OSError):
            _flush()
        if _is_first():
            time.sleep(GRACE_S)
        # An orderly end would wait for the other processes, which wait for this one.
        os._exit(code)
    _let_go_of_stdout()
    sys.exit(code)


def say_error(what: Exception | str) -> None:
    """One line on stderr, whatever the text holds."""
    with contextlib.suppress(OSError):
        print(f"error: {visible(str(what))}", file=sys.stderr)


OF_THE_MACHINE = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EPIPE, errno.EACCES, errno.EPERM, errno.EMFILE,
    errno.ENFILE, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ENAMETOOLONG, errno.ELOOP, errno.EEXIST, errno.ENOTDIR,
    errno.EISDIR,
)  # fmt: skip
"""Errors of which a traceback says nothing: the disk is full, may not be written, or went away; the reader is gone; a
path leads to another kind of thing, or nowhere."""


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def _let_go_of_stdout() -> None:
    """The interpreter flushes stdout when it ends; where nobody reads it any more, that would be an error of its own."""
    try:
        _flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


GRACE_S = 2.0
"""The first process ends that much after its error: its end kills the others, which may have a code of their own."""


def _one_of_several() -> bool:
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized()


def _is_first() -> bool:
    return not _one_of_several() or sys.modules["jax"].process_index() == 0
