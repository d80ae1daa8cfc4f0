"""Whose a place is: the directory or file that a command writes belongs to one run, and to one process at a time.

A *mark* (a JSON file) says which run a place belongs to; the same command goes on there, another is refused. A *lock*
(flock on a small file beside it) keeps a second process out while the first is at work, and dies with it. Nothing that
was there before is overwritten.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from typing import Any

from safety_align import distributed
from safety_align.errors import InputError
from safety_align.files import check_path, make_directory, not_writable, write_atomically
from safety_align.strict_json import read_json
from safety_align.visible import visible


def flatten(config: dict, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} → {"a.b": 1}."""
    flat = {}
    for key, value in config.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return flat


def check_same(there: Any, here: dict, taken: str, advice: str, may_differ: tuple[str, ...] = ()) -> None:
    """Raises InputError "`taken` (what differs); `advice`" unless two identities (JSON) are the same.

    `may_differ` names dotted keys that do not count.
    """
    old, new = (flatten(c if isinstance(c, dict) else {}) for c in (there, json.loads(json.dumps(here))))
    # A field that is new since then, and None, changes nothing.
    if keys := sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k) and k not in may_differ):
        shown = "; ".join(f"{k}: {_short(old, k)} there, {_short(new, k)} here" for k in keys[:4])
        raise InputError(f"{taken} ({shown}{'; …' if len(keys) > 4 else ''}); {advice}")


def read_mark(mark: pathlib.Path, advice: str, schema: Any = Any) -> Any:
    """What stands at `mark`, JSON of `schema`; None if nothing does. InputError, which ends in `advice`, for anything else."""
    if not os.path.lexists(mark):
        return None
    try:
        return read_json(mark, schema)
    except InputError as error:
        raise InputError(f"{error}; {advice}") from error


@dataclasses.dataclass(frozen=True)
class Owner:
    """A run, as the owner of the places that it writes.

    Attributes:
      identity: what its marks hold (JSON); another identity is another run.
      taken, advice: what another run is told, "`taken` (what differs); `advice`".
      may_differ: dotted keys of the identity that do not count.
      option: where the place was named, for messages.
      completed: what a mark stands for that was written when the identity had fewer fields.
    """

    identity: dict
    taken: str
    advice: str = "choose another --output"
    may_differ: tuple[str, ...] = ()
    option: str = "--output"
    completed: Callable[[Any], Any] = lambda there: there

    def claim(self, mark: pathlib.Path) -> None:
        """Makes the place of `mark` this run's: `check_same` with what stands there; the first process then writes it."""
        there = read_mark(mark, self.advice)
        if os.path.lexists(mark):
            check_same(self.completed(there), self.identity, self.taken, self.advice, self.may_differ)
        text = json.dumps(self.identity, indent=2, sort_keys=True)
        if distributed.is_main() and there != json.loads(text):
            make_directory(mark.parent, self.option)
            try:
                write_atomically(mark, text)
            except OSError as error:
                raise not_writable(mark, error) from error

    @contextlib.contextmanager
    def holding(self, directory: pathlib.Path, mark: str) -> Iterator[None]:
        """Within it `directory` is this run's, and of no other process than the run's own: `claim` of `directory / mark`
        under a lock, which the first process holds. All processes of the run come here together."""
        with contextlib.ExitStack() as held:
            with distributed.main_first(mark):
                if distributed.is_main():
                    held.enter_context(locked_directory(directory, self.option))
                self.claim(directory / mark)
            yield


@contextlib.contextmanager
def locked_directory(path: pathlib.Path, option: str = "--output") -> Iterator[None]:
    """`locked`, of a directory that is made where it is not there."""
    check_path(path, option)
    make_directory(path, option)
    with locked(path):
        yield


@contextlib.contextmanager
def locked(path: pathlib.Path) -> Iterator[None]:
    """Within it, this process alone works on `path`, a directory or a file; InputError if another does already.

    The lock is of the file `PATH/.lock`, or `PATH.lock` beside a file; it goes with the process, however that ends. Where
    the file system has no locks, stderr says so.
    """
    file = path / ".lock" if path.is_dir() else path.with_name(f"{path.name}.lock")
    handle = _lock(file, path)
    try:
        yield
    finally:
        if _is_at(file, handle):  # and no one else's, made after ours was deleted
            with contextlib.suppress(OSError):
                file.unlink()
        os.close(handle)


_HOLDER = "process "
"""What a lock begins with."""


def _lock(file: pathlib.Path, path: pathlib.Path) -> int:
    for attempt in range(10):
        try:
            handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
        except OSError as error:
            raise not_writable(file, error) from error
        holder = os.read(handle, 200).decode("utf-8", "replace") if stat.S_ISREG(os.fstat(handle).st_mode) else "?"
        if holder and not holder.startswith(_HOLDER):
            os.close(handle)
            raise InputError(f"{file} is not a lock of ours; choose another place than {path}")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise InputError(
                f"{path} is in use by another run ({visible(holder.strip()) or 'which just began'}); wait until it has "
                f"ended, or choose another place (if its machine is gone for good, delete {file})"
            ) from None
        except OSError as error:
            print(
                f"note: no locks at {visible(str(path))} ({error.strerror}): see to it that no other run writes there",
                file=sys.stderr,
            )
            return handle
        # If it is not there any more, the one before has removed it between our two steps. Or the file system, of which
        # there are some, gives one file several numbers.
        if _is_at(file, handle) or attempt == 9:
            break
        os.close(handle)
    with contextlib.suppress(OSError):  # a full disk
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{_HOLDER}{os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    return handle


def _is_at(file: pathlib.Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(file))
    except OSError:
        return False


def _short(flat: dict, key: str) -> str:
    text = repr(flat[key]) if key in flat else "nothing"
    return text if len(text) <= 60 else f"{text[:57]}…"
