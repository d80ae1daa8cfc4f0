"""Checksums of a checkpoint's files: array chunks on disk carry none, so a flipped bit would be read as a number.

A checkpoint counts once it is sealed: `checksums.<process>.json` in its folder lists CRC-32 and size of every file.
Several processes divide the files among them, for sealing and for verifying.
"""

import concurrent.futures
import fnmatch
import json
import os
import pathlib
import zlib
from typing import Annotated

import msgspec

from safety_align.errors import InputError
from safety_align.files import write_atomically
from safety_align.strict_json import parse_json

PATTERN = "checksums.*.json"
CHUNK = 1 << 24

UNSEALED = "it is not sealed: its writing was cut off"
"""What `damage` says of a folder that has no seal, or not every process's."""


class _Seal(msgspec.Struct):
    """One process's share. processes: how many seals there are; files: name below the folder → (CRC-32, size)."""

    processes: Annotated[int, msgspec.Meta(ge=1)]
    files: dict[str, tuple[int, int]]


def seal(folder: pathlib.Path, process: int = 0, processes: int = 1) -> None:
    """Writes this process's share of the checksums of `folder`."""
    found = _checksums(folder, _content(_files(folder))[process::processes])
    write_atomically(folder / f"checksums.{process}.json", json.dumps({"processes": processes, "files": found}))


def damage(folder: pathlib.Path, process: int = 0, processes: int = 1, below: tuple[str, ...] = ("",)) -> str | None:
    """What is wrong with this process's share of the files of `folder`, or only of those that begin with one of `below`.

    None if nothing is. A folder that was never sealed, or not by every process, is `UNSEALED`; a seal that does not
    list just the files that are there vouches for none of them. Hidden files that it does not list do not count: file
    systems and file managers leave such. Raises OSError where a file cannot be read: that says nothing of what it holds.
    """
    there = _files(folder)
    try:
        wanted = _sealed(folder, there)
    except InputError as error:
        return f"its checksums are unreadable: {error}"
    if wanted is None:
        return UNSEALED
    for prefix in below:
        if not any(name.startswith(prefix) for name in wanted):
            return f"its checksums list no file{f' of {prefix}' if prefix else ''}"
    visible = {name for name in _content(there) if name in wanted or "/." not in f"/{name}"}
    if odd := sorted(wanted.keys() ^ visible):
        return f"{odd[0]} is {'missing' if odd[0] in wanted else 'not in its checksums'}"
    names = sorted(name for name in wanted if name.startswith(below))[process::processes]
    found = _checksums(folder, names)
    wrong = [name for name in names if tuple(found[name]) != wanted[name]]
    return f"{wrong[0]} is not what was written" if wrong else None


def _sealed(folder: pathlib.Path, there: list[str]) -> dict[str, tuple[int, int]] | None:
    """{name: (CRC-32, size)} of all seals together; None where one is absent. Raises InputError for one that is none."""
    names = [name for name in there if _is_ours(name, PATTERN)]
    seals = [parse_json((folder / name).read_bytes(), str(folder / name), _Seal) for name in names]
    whole = set(names) == {f"checksums.{i}.json" for i in range(len(names))}
    if not seals or not whole or any(seal.processes != len(seals) for seal in seals):
        return None
    return {name: value for seal in seals for name, value in seal.files.items()}


def _files(folder: pathlib.Path) -> list[str]:
    """Names below `folder` of all regular files. Raises OSError for a directory that cannot be listed: what is in it is
    not missing."""

    def fail(error: OSError):
        raise error

    found = (pathlib.Path(at, name) for at, _, names in os.walk(folder, onerror=fail) for name in names)
    return sorted(str(path.relative_to(folder)) for path in found if path.is_file())


def _content(names: list[str]) -> list[str]:
    """Without the seals, and what is left of one whose writing was cut off."""
    return [name for name in names if not _is_ours(name, PATTERN) and not _is_ours(name, "checksums.*.part")]


def _is_ours(name: str, pattern: str) -> bool:
    return "/" not in name and fnmatch.fnmatchcase(name, pattern)


def _checksums(folder: pathlib.Path, names: list[str]) -> dict[str, list[int]]:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:  # zlib and reads release the interpreter's lock
        return dict(zip(names, pool.map(lambda name: _checksum(folder / name), names), strict=True))


def _checksum(path: pathlib.Path) -> list[int]:
    value = size = 0
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            value, size = zlib.crc32(block, value), size + len(block)
    return [value, size]
