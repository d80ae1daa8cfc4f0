"""Suffixes that a gradient search has found against a head, behind training queries of both classes [ours].

A suffix is found by GCG on malicious goals of the training data, through the present head and its gate (`launch.attack`), and
trained against: behind a malicious query it is malicious still, and behind a benign one benign, so that it is no sign of
either. The searches are the buffer; one more, against what was trained meanwhile, renews it.

DIR/attack.json     which attack on which goals (`launch.attack` writes it)
DIR/attacks.jsonl   a line a goal: {"goal", "attack": {"suffix", …}, …}
DIR/results.json    there once all goals have been searched
"""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Annotated, TypedDict

import msgspec

from safety_align.data.examples import Example
from safety_align.data.mapped import Mapped, chosen
from safety_align.errors import InputError
from safety_align.strict_json import read_json, read_json_lines
from safety_align.text import Turn

TRAINING, EMBEDDED_TRAINING = "training", "embedded_training"
"""Sets of behaviours that may be trained against: malicious goals of the training data, and of the embedded corpus."""

TRAINABLE = (TRAINING, EMBEDDED_TRAINING)

HELD_OUT = 5
"""Of so many suffixes the last one validates, and is in no training query."""

_Text = Annotated[str, msgspec.Meta(pattern=r"\S")]


@dataclasses.dataclass(frozen=True)
class Suffix:
    """text: what stands behind a query, blanks included; goal: the query that it was found for."""

    goal: str
    text: str


class _Found(TypedDict):
    suffix: _Text


class _Row(TypedDict):
    goal: _Text
    attack: _Found


class _Kind(TypedDict):
    kind: str


class _Behaviors(TypedDict):
    name: str


class _About(TypedDict):
    attack: _Kind
    behaviors: _Behaviors


def directories(names: str) -> list[pathlib.Path]:
    """Of `data.suffixes`, "DIR,DIR": each, without what a path has twice; InputError for one that is empty or there twice."""
    found = [name.strip() for name in names.split(",")] if names else []
    paths = [os.path.normpath(name) for name in found]
    if not all(found) or len(set(paths)) < len(paths):
        raise InputError(f"data.suffixes must be different directories, joined by commas, got {names!r}")
    return [pathlib.Path(path) for path in paths]


def read_suffixes(names: str) -> list[Suffix]:
    """The suffixes of all directories that `names` joins by commas, in order, each text once.

    Raises InputError, which names the file and the line, for a row that is none; and for a directory that holds no search by
    GCG, one that is not done, or one on goals of an evaluation.
    """
    found: dict[str, Suffix] = {}
    for directory in directories(names):
        _check(directory)
        for _, row in read_json_lines(directory / "attacks.jsonl", _Row):
            suffix = Suffix(row["goal"].strip(), row["attack"]["suffix"])
            found.setdefault(suffix.text, suffix)
    return list(found.values())


def of_split(suffixes: Sequence[Suffix], split: str) -> list[Suffix]:
    """Those that train, or ("test") validate: of each `HELD_OUT` in order the last one. A later search changes nothing about the
    earlier ones, as long as its directory is named behind theirs."""
    held_out = split == "test"
    return [suffix for i, suffix in enumerate(suffixes) if (i % HELD_OUT == HELD_OUT - 1) == held_out]


def with_suffixes(examples: Sequence[Example], share: float, suffixes: Sequence[Suffix]) -> Sequence[Example]:
    """`examples`, changed as they are read; as they are where there are no suffixes."""
    if not suffixes:
        return examples
    by_goal: dict[str, list[Suffix]] = {}
    for suffix in suffixes:
        by_goal.setdefault(suffix.goal, []).append(suffix)
    mark = f"suffixed {share} {list(map(dataclasses.astuple, suffixes))}"
    return Mapped(examples, lambda example: add_suffix(example, share, suffixes, by_goal), mark)


def add_suffix(
    example: Example, share: float, suffixes: Sequence[Suffix], by_goal: dict[str, list[Suffix]] | None = None
) -> Example:
    """The example with a suffix behind its query, if it is one of the `share` that have one (`mapped.chosen`).

    A query that suffixes were found for (`by_goal`) gets one of these, whether it is one of the share or not: they are few. Written
    otherwise before (data/disguised.py, data/stories.py), it is a query like any other.
    """
    own = (by_goal or {}).get(example.query.strip()) if example.turns else None
    draw = chosen(example, "suffixes", 1.0 if own else share)
    if draw is None:
        return example
    return dataclasses.replace(example, turns=(Turn("user", example.query + draw.one_of(own or suffixes).text),))


def _check(directory: pathlib.Path) -> None:
    try:
        about = read_json(directory / "attack.json", _About)
    except InputError as error:
        raise InputError(f"data.suffixes: {directory} holds no attack ({error}); make it with launch.attack") from error
    if (kind := about["attack"]["kind"]) != "gcg":
        raise InputError(
            f"data.suffixes: {directory} holds an attack by {kind}, which finds no suffixes; take one by gcg"
        )
    name = about["behaviors"]["name"]
    if name not in TRAINABLE and not name.endswith(".csv"):
        raise InputError(
            f"data.suffixes: {directory} is an attack on {name}: suffixes of an evaluation's goals train nothing; attack "
            f"{' or '.join(TRAINABLE)}, or goals of your own in a CSV file"
        )
    if not (directory / "results.json").is_file():
        raise InputError(f"data.suffixes: {directory} is not done; run the same launch.attack command again")
