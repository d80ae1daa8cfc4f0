"""Keeps evaluation prompts out of training (docs/method.md section 9): a conversation is dropped if any of its turns, or
a sentence of one, is an evaluation prompt: in the same words, nearly, or in other words.

A prompt dropped without need costs one row of many; one that is kept makes a figure too good. So the bounds are low.
"""

import collections
import functools
import hashlib
import json
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import TypedDict

from safety_align.data import examples as examples_module
from safety_align.data import paraphrase
from safety_align.data import sources as sources_module
from safety_align.data.examples import Example
from safety_align.data.paraphrase import ParaphraseIndex, content_words
from safety_align.data.rows import read_csv, read_text_lines
from safety_align.errors import InputError
from safety_align.files import write_atomically
from safety_align.strict_json import read_json, read_json_lines

SHINGLE = 3
"""Words of a shingle."""

NEAR = 0.5
"""Share of common shingles (Jaccard) from which two prompts are near-duplicates."""

PARAPHRASE = 0.55
"""Score of `paraphrase.py` from which two prompts ask for the same: chosen by reading pairs of the real data. Above it most
are one request, or one with another detail; below 0.5 they share a subject."""

SENTENCE_WORDS, SENTENCE = 3, 0.7
"""Content words from which a sentence of a longer text is looked at by itself, and the score from which it asks for the same:
sentences of stories and sums are like many a prompt by chance."""


VERDICTS = ("exact", "near", "paraphrase")
"""How a text can match a prompt, the plainest first."""


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
    """Answers "is this text, nearly or in other words, one of those prompts?" """

    def __init__(self, prompts: Iterable[str]):
        prompts = sorted(set(prompts))
        self._paraphrases = ParaphraseIndex(prompts)
        self._sets: list[frozenset[str]] = []
        self._by_shingle: dict[str, list[int]] = collections.defaultdict(list)
        self._exact = set()
        for prompt in prompts:
            self._exact.add(normalise(prompt))
            for shingle in (found := shingles(prompt)):
                self._by_shingle[shingle].append(len(self._sets))
            self._sets.append(found)
        self._known: dict[str, tuple[str | None, float, str]] = {}

    def verdict(self, text: str) -> str | None:
        """One of `VERDICTS`, or None."""
        return self.closest(text)[0]

    def closest(self, text: str) -> tuple[str | None, float, str]:
        """(verdict, score, prompt): of the text, or of that sentence of it that gives it away most."""
        if text not in self._known:  # several sources are made of one file
            whole, *sentences = _parts(text)
            found = [self._closest(whole, PARAPHRASE), *(self._closest(part, SENTENCE) for part in sentences)]
            self._known[text] = min(found, key=lambda f: (VERDICTS.index(f[0]) if f[0] else len(VERDICTS), -f[1]))
        return self._known[text]

    def _closest(self, text: str, bound: float) -> tuple[str | None, float, str]:
        score, prompt = self._paraphrases.closest(text)
        return self._same_words(text) or ("paraphrase" if score >= bound else None), score, prompt

    def _same_words(self, text: str) -> str | None:
        if (plain := normalise(text)) and plain in self._exact:
            return "exact"
        own = shingles(text)
        common = collections.Counter(i for s in own for i in self._by_shingle.get(s, ()))
        near = any(count >= NEAR * (len(own) + len(self._sets[i]) - count) for i, count in common.items())
        return "near" if near else None


def _parts(text: str) -> list[str]:
    """The text, and those of its sentences that say enough to be a request."""
    sentences = re.split(r"(?<=[.!?])\s+|\n+", text.strip())
    if len(sentences) < 2:
        return [text]
    return [text, *(s for s in sentences if len(content_words(s)) >= SENTENCE_WORDS)]


def drop_leaks(examples: Sequence[Example], index: LeakIndex) -> tuple[list[int], collections.Counter]:
    """Indices of the examples of which no turn is in an evaluation set, and a count of the others by verdict."""
    kept, dropped = [], collections.Counter()
    for i in range(len(examples)):
        found = [verdict for turn in examples[i].turns if (verdict := index.verdict(turn.text))]
        if found:
            dropped[min(found, key=VERDICTS.index)] += 1
        else:
            kept.append(i)
    return kept, dropped


class _Kept(TypedDict):
    kept: list[int]
    dropped: dict[str, int]


def closest_kept(examples: Sequence[Example], index: LeakIndex, count: int) -> list[tuple[float, str, str]]:
    """Of kept examples, the `count` (score, turn, evaluation prompt) that are most alike: what is left."""
    texts = {turn.text for i in range(len(examples)) for turn in examples[i].turns}
    pairs = ((score, text, prompt) for text in texts for _, score, prompt in [index.closest(text)])
    return sorted(pairs, reverse=True)[:count]


@functools.lru_cache(1)
def leak_index(prompts: tuple[str, ...]) -> LeakIndex:
    """The index of `prompts`: one for all sources of a run."""
    return LeakIndex(prompts)


def remembered_drop_leaks(
    examples: Sequence[Example], fingerprint: str, prompts: Sequence[str], cache_dir: pathlib.Path
) -> tuple[list[int], collections.Counter]:
    """`drop_leaks` against `prompts`, kept in `cache_dir`: reading every row of every source takes tens of seconds of a start.

    What is kept is found by all that it depends on: the source's `fingerprint`, the prompts, and the code that answers.
    """
    modules = (examples_module, sources_module, paraphrase)
    code = [pathlib.Path(file).read_bytes() for file in (__file__, *(module.__file__ for module in modules))]
    parts = [fingerprint.encode(), *code, *(prompt.encode() for prompt in prompts)]
    key = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:24]
    path = cache_dir / "leaks" / f"{key}.json"
    try:
        found = read_json(path, _Kept)
        return found["kept"], collections.Counter(found["dropped"])
    except InputError:  # not there, or not whole
        kept, dropped = drop_leaks(examples, leak_index(tuple(prompts)))
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
    for row in read_csv(folder / "harmbench_behaviors.csv", ["Behavior"]):
        prompts += [row["Behavior"], row.get("ContextString") or ""]
    prompts += [row["prompt"] for row in read_csv(folder / "xstest_prompts.csv", ["prompt"])]
    prompts += read_text_lines(folder / "malicious_instruct.txt")
    prompts += [row["plain_attack"] for row in read_json(folder / "deepinception.json", list[_Nested])]
    prompts += [row["goal"] for _, row in read_json_lines(folder / "gcg_suffixes.jsonl.gz", _Goal)]
    prompts += [row["prompt"] for _, row in read_json_lines(folder / "beavertails_test.jsonl.gz", _Prompt)]
    return [prompt for prompt in prompts if prompt.strip()]
