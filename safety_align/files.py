"""Files from outside, read safely; places where files of ours may go; and files that are there only once they are whole."""

import codecs
import contextlib
import errno
import gzip
import itertools
import os
import pathlib
import secrets
import shutil
import stat
import zlib
from collections.abc import Iterator
from typing import IO

from safety_align.errors import InputError
from safety_align.visible import visible

MAX_LINE = 64 << 20
"""Bytes of a line, unpacked: a small gzip file can hold one that fills the memory."""


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


def read_bounded(path: pathlib.Path, most: int = MAX_LINE) -> bytes:
    """The bytes of a file, unpacked if its name ends in `.gz`; InputError where they are more than `most`."""
    with _opened(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise InputError(f"{path} holds more than {most >> 20} MiB; is it the right file?")
    return data


def read_lines(path: pathlib.Path, longest: int = MAX_LINE) -> Iterator[tuple[int, bytes]]:
    """`(number, line)` of each line that is not blank, unpacked if the name ends in `.gz`; numbers count from 1.

    Lines end at `\\n` only (texts hold other Unicode separators). A byte order mark before the first is dropped.
    InputError names a line of more than `longest` bytes.
    """
    with _opened(path) as file:
        for number in itertools.count(1):
            line = file.readline(longest + 1)
            if not line:
                return
            if len(line) > longest:
                raise InputError(f"{path}, line {number} is longer than {longest >> 20} MiB")
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if line.strip():
                yield number, line


def complete_lines(path: pathlib.Path) -> tuple[list[bytes], int]:
    """The lines of a file that is appended to, and their size in bytes: what is behind it is a line that was cut short. Whose
    file it is goes on with `os.truncate(path, size)`."""
    raw = path.read_bytes()
    size = raw.rfind(b"\n") + 1
    return raw[:size].split(b"\n")[:-1], size


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[IO[bytes]]:
    """A regular file, open; what goes wrong while it is read is an InputError that names it."""
    check_file(path)
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
            yield file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path} is truncated or not gzip: {error}; copy it again") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None


MAX_NAME = 100
"""Characters of a name that becomes part of file names."""


def check_name(name: str, what: str) -> None:
    """Raises InputError unless `name` can be the beginning of a file's name, and of nothing but that."""
    plain = (
        name.isprintable() and not set(name) & set('/\\:*?"<>|') and len(name.encode("utf-8", "replace")) <= MAX_NAME
    )
    if not plain or not name.strip() or name[0] in ".-_ ":
        raise InputError(
            f"{what} {name[:MAX_NAME]!r} cannot be part of a file name: up to {MAX_NAME} letters, digits and the like, "
            "none of them a slash or a control character, and a letter or digit first"
        )


def check_path(path: pathlib.Path, option: str = "--output") -> None:
    """Raises InputError for a path that no file or directory of ours should have: control characters, no last name."""
    if visible(str(path)) != str(path):
        raise InputError(f"{option}={visible(str(path))}: no control characters in names, please")
    if path.name in ("", "..") and str(path) != ".":
        raise InputError(f"{option}={path} ends in no name of its own")


def expanded(path: str, option: str) -> pathlib.Path:
    """`path` with `~` and `~user` replaced; InputError where there is no such user."""
    try:
        return pathlib.Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(f"{option}={path}: {error}; write the path out") from None


def make_directory(path: pathlib.Path, option: str = "--output") -> None:
    """Makes `path` and those above it; InputError where that cannot be done, or something else is there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{option}: {path} cannot be a directory: a file is in its place") from None
    except (OSError, ValueError) as error:
        raise not_writable(path, error) from error


def check_new_directory(path: pathlib.Path) -> None:
    """Raises InputError unless a directory can be made at `path`, where nothing is yet; touches nothing."""
    try:
        os.lstat(path)  # a link that leads nowhere is there too
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:  # also: what is above it is no directory, or its name is too long
        raise not_writable(path, error) from error
    else:
        raise InputError(f"{path} exists; choose another directory or delete it")
    above = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"{path} cannot be made: {above} is no directory that you may write to; choose another place")


@contextlib.contextmanager
def new_directory(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """The body fills the directory that it is given, which then becomes `path`: whole, or not at all.

    It is one of its own, beside `path`, and goes if the body fails. InputError as of `check_new_directory`, also where
    someone else has made `path` meanwhile.
    """
    check_new_directory(path)
    make_directory(path.parent, "the directory above")
    check_new_directory(path)  # only now is a name that is too long one
    beside = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.partial")
    beside.mkdir()
    try:
        yield beside
        try:
            os.rename(beside, path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            raise InputError(f"{path} was made by another meanwhile; choose another directory") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def check_new_file(path: pathlib.Path, *others: pathlib.Path) -> None:
    """Raises InputError unless `path` is free or a regular file of its own: no directory, pipe or device, no link to
    another file, none of `others` by another name."""
    try:
        mode = os.lstat(path).st_mode  # of a link itself, which may lead nowhere
    except FileNotFoundError:
        return
    except OSError as error:
        raise not_writable(path, error) from error
    if stat.S_ISLNK(mode):
        raise InputError(f"{path} is a link; name the file itself")
    if not stat.S_ISREG(mode):
        raise InputError(f"{path} is {'a directory' if stat.S_ISDIR(mode) else 'no regular file'}; name a file")
    if same := [other for other in others if os.path.exists(other) and os.path.samefile(path, other)]:
        raise InputError(f"{path} is the same file as {same[0]}, which would be overwritten; choose another")


def not_writable(path: pathlib.Path, error: Exception) -> InputError:
    """What to raise where `path` cannot be written."""
    reason = getattr(error, "strerror", None) or str(error)
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return InputError(f"{path} cannot be written: {reason}; {'make room' if full else 'choose another place'}")


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
