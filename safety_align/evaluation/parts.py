"""Measurements that are done, kept so that an interrupted evaluation goes on where it was, and never mixed with others.

A part is found by all that it depends on: the weights, the gate, what is asked (as text, and as the ids that the tokenizer
and the template make of it), and this package's code, the judge's and the decoder's above all.
"""

import functools
import hashlib
import json
import pathlib
import sys
from collections.abc import Callable, Iterable, Sequence

from tqdm import tqdm

import safety_align
from safety_align import distributed
from safety_align.bundle import Bundle
from safety_align.decoding import Request
from safety_align.files import write_atomically
from safety_align.text import Turn


@functools.cache
def code_digest() -> str:
    """Of every module of this package."""
    folder = pathlib.Path(safety_align.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(hashlib.sha256(path.relative_to(folder).as_posix().encode() + path.read_bytes()).digest())
    return digest.hexdigest()


def digest(items: Iterable) -> str:
    """Of values by their `repr`; arrays must come as lists, which are shown whole."""
    found = hashlib.sha256()
    for item in items:
        found.update(hashlib.sha256(repr(item).encode("utf-8", "surrogatepass")).digest())
    return found.hexdigest()


def prompt_ids(bundle: Bundle, conversations: Iterable[Sequence[Turn]]) -> list[list[int]]:
    """Prompts as this model's tokenizer and template encode them."""
    return [bundle.template.encode(bundle.tokenizer, turns).ids.tolist() for turns in conversations]


def asked(bundle: Bundle, requests: Sequence[Request]) -> list:
    """What the answers to `requests` depend on, beside the model."""
    return [*requests, *prompt_ids(bundle, (request.turns for request in requests))]


class Parts:
    """The parts of one variant.

    Args:
      folder: where they are kept; None keeps nothing. Of several processes the first reads and writes.
      name: the variant's.
      identity: what all of its parts depend on.
      progress: show a bar on stderr for each.
    """

    def __init__(self, folder: pathlib.Path | None, name: str, identity: Iterable, progress: bool = True):
        self._folder, self._name, self._progress = folder, name, progress
        self._identity = digest((*identity, code_digest()))

    def measure(
        self, part: str, inputs: Iterable, run: Callable[[Callable[[int], None]], dict], total: int = 0
    ) -> dict:
        """What `run(advance)` returns, or returned before on the same `inputs`; it calls `advance(n)` after n answers of the
        `total` that it gives, or more where answers are asked for again."""
        key = digest((self._identity, *inputs))[:16]
        saved = self._folder / f"{self._name}.{part}.{key}.json" if self._folder else None
        first = distributed.is_main()
        found = distributed.from_main(_read(saved) if first and saved else None)
        if found is not None:
            return found
        silent = not (self._progress and first)
        description = f"{self._name}: {part}"
        with tqdm(total=total, desc=description, unit="answer", disable=silent, file=sys.stderr, leave=False) as bar:

            def advance(count: int) -> None:
                bar.update(count)
                distributed.stop_if_requested()

            value = run(advance)
        if first and saved:
            saved.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(saved, json.dumps(value))
        return value


def _read(path: pathlib.Path) -> dict | None:
    """A part that is there; None if it is not, or is nothing that was written here."""
    try:
        found = json.loads(path.read_text("utf-8"))  # of our own writing, so with NaN where a measure has none
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
