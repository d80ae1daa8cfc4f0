"""A digest of source files: what other code made, or changed, is something else."""

import functools
import hashlib
import pathlib


@functools.cache
def code_digest(*files: str) -> str:
    """SHA-256 of the contents of `files`, one after the other."""
    return hashlib.sha256(b"".join(pathlib.Path(file).read_bytes() for file in files)).hexdigest()
