"""An output directory of one's own: what `evaluate`, `compare` and `quickstart` write into."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import msgspec

from safety_align import distributed
from safety_align.claims import check_same, locked_directory, read_mark


@contextlib.contextmanager
def own_output(output: pathlib.Path, about: dict, name: str = "results.json") -> Iterator[None]:
    """Within it `output` is this evaluation's alone. InputError if it holds another's results, a file of that `name` with its
    "about", which is not overwritten then, or if another evaluates there.

    Of several processes the first looks; all must do the same evaluation.
    """
    distributed.must_equal(about)
    results = output / name
    with contextlib.ExitStack() as held:
        with distributed.agreed():
            if distributed.is_main():
                held.enter_context(locked_directory(output))
                taken, advice = f"{results} belongs to another evaluation", "choose another --output"
                if there := read_mark(results, advice, _Results):
                    check_same(there.about, about, taken, advice)
        yield


class _Results(msgspec.Struct):
    """What tells whose a results.json is."""

    about: dict[str, Any]
