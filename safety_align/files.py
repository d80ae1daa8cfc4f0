"""Files from outside, read safely; and files of ours that are there only once they are whole."""

import contextlib
import os
import pathlib
import stat
from collections.abc import Iterator

from safety_align.errors import InputError


def check_file(path: pathlib.Path) -> None:
    """Raises InputError unless `path` is a regular file, or a link to one: opening a pipe would wait for ever."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not stat.S_ISREG(mode):
        kind = "a directory" if stat.S_ISDIR(mode) else "a pipe" if stat.S_ISFIFO(mode) else "not a regular file"
        raise InputError(f"{path} is {kind}; give a file")


def read_bytes(path: pathlib.Path) -> bytes:
    """The bytes of a regular file; InputError where it is none or cannot be read."""
    check_file(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None


@contextlib.contextmanager
def written_whole(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """The body writes the file that it is given, which then becomes `path`: the old file or the whole new one.

    Several processes may write the same `path`. If the body fails, what it wrote is removed.
    """
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_atomically(path: pathlib.Path, text: str) -> None:
    """Writes a text file by `written_whole`."""
    with written_whole(path) as beside:
        beside.write_text(text, "utf-8")
