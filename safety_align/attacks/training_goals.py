"""Goals of the training data, to be attacked for suffixes that are then trained against (data/suffixes.py): never an evaluation's."""

import hashlib
import itertools
import pathlib
import re

import numpy as np

from safety_align.data import embedded
from safety_align.data.behavior import Behavior
from safety_align.data.grammar import frames
from safety_align.data.leakage import evaluation_prompts, leak_index
from safety_align.data.rewording import goal_of
from safety_align.data.specs import is_held_out, source_examples

SOURCE = "clear_queries"
"""Whose queries are the goals: those that are plainly malicious, of the files' training split."""


_ODD = re.compile(r"^\w+ (?:me|us)\b|[.?!]\s")
"""Goals that "Sure, here is how to" does not go before: "give me a …", and several sentences."""


def embedded_training() -> list[Behavior]:
    """The malicious goals of the embedded corpus' training split, asked for as its training queries are."""
    asks = frames.ASK["train"]
    return [
        Behavior(asks[i % len(asks)].format(goal=b.goal), b.target, b.category, b.id)
        for i, b in enumerate(embedded.embedded_behaviors("train"))
    ]


def training_goals(data_dir: pathlib.Path, n: int, seed: int) -> list[Behavior]:
    """At most `n` malicious training queries that name a goal, drawn by `seed`; a target restates the goal.

    None is of the "test" split, and none is an evaluation prompt, nearly or in other words (data/leakage.py).
    """
    found: dict[str, str] = {}
    for example in source_examples(SOURCE, data_dir, announce=False):
        goal = goal_of(example.query)
        if goal is not None and not _ODD.search(goal) and not is_held_out(example):
            found.setdefault(example.query, goal)
    queries, index = list(found), leak_index(tuple(evaluation_prompts(data_dir)))
    order = np.random.default_rng(seed).permutation(len(queries))
    chosen = itertools.islice((int(i) for i in order if index.verdict(queries[i]) is None), n)
    return [
        Behavior(queries[i], f"Sure, here is how to {found[queries[i]]}", SOURCE, _id(queries[i]))
        for i in sorted(chosen)
    ]


def _id(query: str) -> str:
    """The query's own: an interrupted search takes no other goal for it, whatever the files have become."""
    return f"{SOURCE}-{hashlib.sha256(query.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"
