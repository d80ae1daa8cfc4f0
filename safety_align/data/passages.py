"""Requests beside a passage of harmless text, as when something is asked about a document [ours].

A head that has read bare requests takes a long text for benign, whatever is asked behind it. So a share of the conversations of
one turn has its request behind a passage (two in three) or before it (one in three): both classes, in the same frames, with
the label that they had. The text says nothing of the request; it is cut from answers of another source, harmless ones to
harmless questions.
"""

import dataclasses
import re
from collections.abc import Sequence

from safety_align.data.draws import Draws
from safety_align.data.examples import BENIGN, Example
from safety_align.data.mapped import Mapped, check_share, chosen
from safety_align.data.sources import DERIVED, EMBEDDED
from safety_align.data.specs import SPECS
from safety_align.errors import InputError
from safety_align.text import Turn

LEAST, MOST = 200, 1200
"""Characters of a passage."""

BEHIND_SHARE = 2 / 3
"""Of the requests beside a passage."""

BEHIND = (
    "{passage}\n\n---\n\n{query}",
    "{passage}\n\n{query}",
    "{passage}\n{query}",
    "{passage}\n\n***\n\n{query}",
    "Read this first.\n\n{passage}\n\n{query}",
    "Text:\n{passage}\n\nQuestion:\n{query}",
    "Context: {passage}\n\nTask: {query}",
    '"""\n{passage}\n"""\n\n{query}',
    "<text>\n{passage}\n</text>\n\n{query}",
    "I have this in front of me:\n\n{passage}\n\nNow to my question. {query}",
    "For background:\n\n{passage}\n\nWith that in mind: {query}",
    "Notes so far:\n{passage}\n\n====\n\n{query}",
)
"""How a request stands behind a passage."""

BEFORE = (
    "{query}\n\n{passage}",
    "{query}\n\n---\n\n{passage}",
    "{query}\n\nHere is the text:\n{passage}",
    "{query}\n\nSome background:\n\n{passage}",
    "{query}\nText: {passage}",
    '{query}\n\n"""\n{passage}\n"""',
    "My request: {query}\n\nWhat I have read so far: {passage}",
    "{query}\n\nThis is from my notes:\n{passage}",
)
"""How a request stands before a passage."""

FROM = (*SPECS, *DERIVED, *EMBEDDED)
"""Sources that passages may be cut from."""


def check_passages(share: float, source: str) -> None:
    """Raises InputError for a share that is none, and for a source that passages are not cut from."""
    check_share("passages", share)
    if source not in FROM:
        raise InputError(f"data.passages_from {source!r} is not one of {', '.join(FROM)}")


def with_passages(examples: Sequence[Example], share: float, source: Sequence[Example], name: str) -> Sequence[Example]:
    """`examples`, changed as they are read; the passages are cut from answers of `source`, which is called `name`. InputError
    where it has none that can be cut."""
    if not any(_ends(_harmless(source[i])) for i in range(len(source))):
        raise InputError(
            f"data.passages_from: {name} has no harmless answer to a harmless question, with a sentence that ends within "
            f"{LEAST} to {MOST} characters; name another source, such as dolly"
        )
    mark = f"passages {share} of {name} {getattr(source, 'fingerprint', '')}"
    return Mapped(examples, lambda example: add_passage(example, share, source), mark)


def add_passage(example: Example, share: float, source: Sequence[Example]) -> Example:
    """The example with its request beside a passage, if it is one of the `share` that have one (`mapped.chosen`)."""
    draw = chosen(example, "passages", share)
    if draw is None:
        return example
    frame = draw.one_of(BEHIND if draw.share() < BEHIND_SHARE else BEFORE)
    passage = _passage(draw, source, example.response)
    text = frame.format(passage=passage, query=example.query)
    return dataclasses.replace(example, turns=(Turn("user", text),)) if passage else example


def cut(text: str, length: int) -> str:
    """The longest beginning of `text` of whole sentences, `LEAST` to `length` characters; the shortest of at least `LEAST` where
    there is none; "" where that has more than `MOST`."""
    ends = _ends(text)
    return text[: max((end for end in ends if end <= length), default=ends[0])] if ends else ""


def _passage(draw: Draws, source: Sequence[Example], answer: str) -> str:
    """A passage of an answer that is not `answer`, the first that can be cut from a drawn one on; "" where there is none."""
    length, start = LEAST + draw.below(MOST - LEAST + 1), draw.below(len(source))
    for step in range(len(source)):
        text = _harmless(source[(start + step) % len(source)])
        if text != answer.strip() and (passage := cut(text, length)):
            return passage
    return ""


def _harmless(example: Example) -> str:
    """The answer; "" for one that is not labelled harmless, or is to a question that is not (a refusal)."""
    return example.response.strip() if (example.query_label, example.response_label) == (BENIGN, BENIGN) else ""


def _ends(text: str) -> list[int]:
    """Where `text` can be cut, in order: behind its sentences, but not behind the number of a list."""
    ends = (found.end() for found in re.finditer(r"(?<![\d\s])[.!?][\"'”’)\]]*(?=\s|$)", text[: MOST + 1]))
    return [end for end in ends if LEAST <= end <= MOST]
