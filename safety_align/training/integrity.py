"""Checksums of a checkpoint's files: array chunks on disk carry none, so a flipped bit would be read as a number.

A checkpoint counts once it is sealed: `checksums.<process>.json` in its folder lists CRC-32 and size of every file.
Several processes divide the files among them, for sealing and for verifying.
"""

import concurrent.futures
import json
import pathlib
import zlib
from typing import Annotated

import msgspec

from safety_align.errors import InputError
from safety_align.files import write_atomically
from safety_align.strict_json import read_json

PATTERN = "checksums.*.json"
CHUNK = 1 << 24


class _Seal(msgspec.Struct):
    """One process's share. processes: how many seals there are; files: name below the folder → (CRC-32, size)."""

    processes: Annotated[int, msgspec.Meta(ge=1)]
    files: dict[str, tuple[int, int]]


def seal(folder: pathlib.Path, process: int = 0, processes: int = 1) -> None:
    """Writes this process's share of the checksums of `folder`."""
    found = _checksums(folder, _files(folder)[process::processes])
    write_atomically(folder / f"checksums.{process}.json", json.dumps({"processes": processes, "files": found}))


def damage(folder: pathlib.Path, process: int = 0, processes: int = 1, below: tuple[str, ...] = ("",)) -> str | None:
    """What is wrong with this process's share of the files of `folder`, or only of those that begin with one of `below`.

    None if nothing is. A folder that was never sealed, or not by every process, is "not sealed"; a seal that does not
    list just the files that are there vouches for none of them.
    """
    try:
        wanted = _sealed(folder)
    except InputError as error:
        return f"its checksums are unreadable: {error}"
    if wanted is None:
        return "it is not sealed: its writing was cut off"
    for prefix in below:
        if not any(name.startswith(prefix) for name in wanted):
            return f"its checksums list no file{f' of {prefix}' if prefix else ''}"
    if odd := sorted(wanted.keys() ^ set(_files(folder))):
        return f"{odd[0]} is {'missing' if odd[0] in wanted else 'not in its checksums'}"
    names = sorted(name for name in wanted if name.startswith(below))[process::processes]
    try:
        found = _checksums(folder, names)
    except OSError as error:
        return f"{error.strerror}: {error.filename}"
    wrong = [name for name in names if tuple(found[name]) != wanted[name]]
    return f"{wrong[0]} is not what was written" if wrong else None


def _sealed(folder: pathlib.Path) -> dict[str, tuple[int, int]] | None:
    """{name: (CRC-32, size)} of all seals together; None where one is absent. Raises InputError for one that is none."""
    paths = {path.name: path for path in folder.glob(PATTERN)}
    seals = [read_json(path, _Seal) for path in paths.values()]
    whole = paths.keys() == {f"checksums.{i}.json" for i in range(len(paths))}
    if not seals or not whole or any(seal.processes != len(seals) for seal in seals):
        return None
    return {name: value for seal in seals for name, value in seal.files.items()}


def _files(folder: pathlib.Path) -> list[str]:
    ours = set(folder.glob(PATTERN)) | set(folder.glob("checksums.*.part"))
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p not in ours)


def _checksums(folder: pathlib.Path, names: list[str]) -> dict[str, list[int]]:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:  # zlib and reads release the interpreter's lock
        return dict(zip(names, pool.map(lambda name: _checksum(folder / name), names), strict=True))


def _checksum(path: pathlib.Path) -> list[int]:
    value = size = 0
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            value, size = zlib.crc32(block, value), size + len(block)
    return [value, size]
