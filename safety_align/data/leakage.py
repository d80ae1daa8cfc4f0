"""Keeps evaluation prompts out of training: exact and near-duplicate queries are dropped (method.md section 9)."""

import collections
import hashlib
import json
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import TypedDict

from safety_align.data import examples as examples_module
from safety_align.data import sources as sources_module
from safety_align.data.examples import Example
from safety_align.data.rows import read_csv, read_text_lines
from safety_align.errors import InputError
from safety_align.files import write_atomically
from safety_align.strict_json import read_json, read_json_lines

SHINGLE = 3
"""Words of a shingle."""

NEAR = 0.5
"""Share of common shingles (Jaccard) from which two prompts are near-duplicates."""


def normalise(text: str) -> str:
    """Lower case, letters and digits only, single spaces."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def shingles(text: str) -> frozenset[str]:
    """Runs of `SHINGLE` words of the normalised text; the whole text where it is shorter."""
    words = normalise(text).split()
    if len(words) <= SHINGLE:
        return frozenset([" ".join(words)])
    return frozenset(" ".join(words[i : i + SHINGLE]) for i in range(len(words) - SHINGLE + 1))


class LeakIndex:
    """Answers "is this prompt, nearly, one of those?" """

    def __init__(self, prompts: Iterable[str]):
        self._sets: list[frozenset[str]] = []
        self._by_shingle: dict[str, list[int]] = collections.defaultdict(list)
        self._exact = set()
        for prompt in prompts:
            self._exact.add(normalise(prompt))
            for shingle in (found := shingles(prompt)):
                self._by_shingle[shingle].append(len(self._sets))
            self._sets.append(found)

    def verdict(self, prompt: str) -> str | None:
        """ "exact", "near" or None."""
        if normalise(prompt) in self._exact:
            return "exact"
        own = shingles(prompt)
        common = collections.Counter(i for s in own for i in self._by_shingle.get(s, ()))
        near = any(count >= NEAR * (len(own) + len(self._sets[i]) - count) for i, count in common.items())
        return "near" if near else None


def drop_leaks(examples: Sequence[Example], index: LeakIndex) -> tuple[list[int], collections.Counter]:
    """Indices of the examples whose query is in no evaluation set, and a count of the others by verdict."""
    kept, dropped = [], collections.Counter()
    for i in range(len(examples)):
        example = examples[i]
        verdict = index.verdict(example.query) if example.turns else None
        if verdict:
            dropped[verdict] += 1
        else:
            kept.append(i)
    return kept, dropped


class _Kept(TypedDict):
    kept: list[int]
    dropped: dict[str, int]


def remembered_drop_leaks(
    examples: Sequence[Example], fingerprint: str, prompts: Sequence[str], cache_dir: pathlib.Path
) -> tuple[list[int], collections.Counter]:
    """`drop_leaks` against `prompts`, kept in `cache_dir`: reading every row of every source takes ten seconds of a start.

    What is kept is found by all that it depends on: the source's `fingerprint`, the prompts, and the code that answers.
    """
    code = [pathlib.Path(file).read_bytes() for file in (__file__, examples_module.__file__, sources_module.__file__)]
    parts = [fingerprint.encode(), *code, *(prompt.encode() for prompt in prompts)]
    key = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:24]
    path = cache_dir / "leaks" / f"{key}.json"
    try:
        found = read_json(path, _Kept)
        return found["kept"], collections.Counter(found["dropped"])
    except InputError:  # not there, or not whole
        kept, dropped = drop_leaks(examples, LeakIndex(prompts))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps({"kept": kept, "dropped": dropped}))
    return kept, dropped


class _Nested(TypedDict):
    plain_attack: str


class _Goal(TypedDict):
    goal: str


class _Prompt(TypedDict):
    prompt: str


def evaluation_prompts(data_dir: pathlib.Path) -> list[str]:
    """Every prompt of the evaluation files below `data_dir`."""
    folder = pathlib.Path(data_dir) / "eval"
    prompts = [row["goal"] for row in read_csv(folder / "advbench.csv", ["goal"])]
    prompts += [row["Behavior"] for row in read_csv(folder / "harmbench_behaviors.csv", ["Behavior"])]
    prompts += [row["prompt"] for row in read_csv(folder / "xstest_prompts.csv", ["prompt"])]
    prompts += read_text_lines(folder / "malicious_instruct.txt")
    prompts += [row["plain_attack"] for row in read_json(folder / "deepinception.json", list[_Nested])]
    prompts += [row["goal"] for _, row in read_json_lines(folder / "gcg_suffixes.jsonl.gz", _Goal)]
    prompts += [row["prompt"] for _, row in read_json_lines(folder / "beavertails_test.jsonl.gz", _Prompt)]
    return [prompt for prompt in prompts if prompt.strip()]
