"""Contrast pairs: queries that sound alarming and are safe, and harmful ones in the same words; for query checks only.

A head that has seen harmful prompts and everyday instructions alone learns alarming words. Here each pair of forms
(`grammar/contrast`) gives as many queries to either class, asked for in the same ways. A sixth of each category's pairs is
in the "test" split only, and so are some ways to ask. No query is an evaluation prompt, or nearly one: the tests hold all
that the tables can make to `leakage.py`.
"""

import functools
import hashlib
import itertools
import math

import numpy as np

from safety_align.data.examples import BENIGN, MALICIOUS, Example
from safety_align.data.grammar.contrast import Pair
from safety_align.data.grammar.contrast.tables import PAIRS
from safety_align.errors import InputError
from safety_align.text import Turn

TEST_SHARE = 1 / 6
"""Of the pairs of a category."""

PER_FORM = 12
"""Queries of a form: as many for both sides of a pair."""


def contrast_pairs(split: str) -> list[Pair]:
    """The pairs of a split, in a fixed order."""
    if split not in ("train", "test"):
        raise InputError(f"split {split!r} is not train or test")
    return [pair for pair in PAIRS if (pair in _held_out()) == (split == "test")]


def contrast_examples(split: str, seed: int = 0, per_form: int = PER_FORM) -> list[Example]:
    """The queries of a split, without answers: of each pair `per_form` safe and as many harmful ones, in turn; of both
    fewer where a side has not so many. The same for the same seed. Ids are "category/safe pattern/number.class"."""
    found = []
    for pair in contrast_pairs(split):
        name = f"{pair.category}/{pair.safe.pattern}"
        rng = np.random.default_rng((seed, _number(name)))
        asks = _shuffled(pair.asks[split], rng)
        both = (_queries(_shuffled(side.texts(), rng), asks, per_form) for side in (pair.safe, pair.unsafe))
        for number, (safe, harmful) in enumerate(zip(*both)):
            for text, label, kind in ((safe, BENIGN, "safe"), (harmful, MALICIOUS, "harmful")):
                turns = (Turn("user", text),)
                found.append(Example(turns, "", label, None, False, "contrast", f"{name}/{number}.{kind}"))
    return found


def every_query(split: str) -> list[str]:
    """All that the tables can make of a split, whatever the seed."""
    return [
        ask.format(text)
        for pair in contrast_pairs(split)
        for text in (*pair.safe.texts(), *pair.unsafe.texts())
        for ask in pair.asks[split]
    ]


def _queries(texts: list[str], asks: list[str], count: int) -> list[str]:
    """At most `count` different queries: number k is asked in way k, modulo their number, whatever the texts are."""
    period = math.lcm(len(texts), len(asks))
    every = (
        asks[k % len(asks)].format(texts[(k + k // period) % len(texts)])
        for k in range(len(texts) * len(asks))  # each of both with each, once
    )
    return list(itertools.islice(dict.fromkeys(every), count))


def _shuffled(items, rng: np.random.Generator) -> list[str]:
    return [items[i] for i in rng.permutation(len(items))]


@functools.cache
def _held_out() -> frozenset[Pair]:
    """Of each category the pairs whose patterns have the lowest hashes."""
    chosen: list[Pair] = []
    for category in {pair.category for pair in PAIRS}:
        pairs = sorted((p for p in PAIRS if p.category == category), key=lambda p: _number(p.safe.pattern))
        chosen += pairs[: round(TEST_SHARE * len(pairs))]
    return frozenset(chosen)


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])
