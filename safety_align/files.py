"""Files that are there only once they are whole."""

import contextlib
import os
import pathlib
from collections.abc import Iterator


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
