"""Checksums of a checkpoint's files: array chunks on disk carry none, so a flipped bit would be read as a number.

A checkpoint counts once it is sealed: `checksums.<process>.json` in its folder lists CRC-32 and size of every file.
Several processes divide the files among them, for sealing and for verifying.
"""

import concurrent.futures
import json
import pathlib
import zlib

from safety_align.files import write_atomically

PATTERN = "checksums.*.json"
CHUNK = 1 << 24


def seal(folder: pathlib.Path, process: int = 0, processes: int = 1) -> None:
    """Writes this process's share of the checksums of `folder`."""
    found = _checksums(folder, _files(folder)[process::processes])
    write_atomically(folder / f"checksums.{process}.json", json.dumps({"processes": processes, "files": found}))


def damage(folder: pathlib.Path, process: int = 0, processes: int = 1, below: str = "") -> str | None:
    """What is wrong with this process's share of the files of `folder` (or only those in its subfolder `below`).

    None if nothing is; a folder that was never sealed, or not by every process, is "not sealed".
    """
    try:
        seals = [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob(PATTERN))]
        if not seals or len(seals) != seals[0]["processes"]:
            return "it is not sealed: its writing was cut off"
        wanted = {name: tuple(value) for part in seals for name, value in part["files"].items()}
    except (OSError, ValueError, KeyError) as error:
        return f"its checksums are unreadable: {error}"
    names = sorted(name for name in wanted if name.startswith(below))[process::processes]
    try:
        found = _checksums(folder, names)
    except OSError as error:
        return f"{error.strerror}: {error.filename}"
    wrong = [name for name in names if tuple(found[name]) != wanted[name]]
    return f"{wrong[0]} is not what was written" if wrong else None


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
