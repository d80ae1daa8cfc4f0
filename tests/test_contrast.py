"""Contrast pairs: balanced classes in the same forms, split by forms, none of them an evaluation prompt."""

import collections
import pathlib
import re

import numpy as np
import pytest

from safety_align.data.contrast import PER_FORM, contrast_examples, contrast_pairs, every_query
from safety_align.data.grammar.contrast import ASK, LISTS, table
from safety_align.data.grammar.contrast.tables import PAIRS
from safety_align.data.leakage import LeakIndex, evaluation_prompts, normalise
from safety_align.data.pipeline import Order, PipelineConfig
from safety_align.data.sources import load_source
from safety_align.errors import InputError
from safety_align.training.recipe import LABELLED, balanced

DATA = pathlib.Path(__file__).parents[1] / "../shared/data"
needs_data = pytest.mark.skipif(not (DATA / "eval").is_dir(), reason="needs the evaluation prompts of ../shared/data")
SPLITS = ("train", "test")


def forms(split):
    return {pattern for pair in contrast_pairs(split) for pattern in (pair.safe.pattern, pair.unsafe.pattern)}


@pytest.mark.parametrize("split", SPLITS)
def test_every_pair_has_as_many_queries_of_either_class(split):
    found = contrast_examples(split)
    counts = collections.Counter((e.id.rpartition("/")[0], e.query_label) for e in found)
    assert set(counts.values()) == {PER_FORM} and len(counts) == 2 * len(contrast_pairs(split))
    assert len({e.query for e in found}) == len({e.id for e in found}) == len(found)
    assert {(e.response, e.response_label, e.train_lm, e.source) for e in found} == {("", None, False, "contrast")}
    assert all(re.fullmatch(r"[^_@{}|]{10,220}", e.query) for e in found)


def test_there_are_hundreds_of_forms_in_a_dozen_kinds():
    assert len(contrast_pairs("train")) > 300 and len(contrast_pairs("test")) > 60
    for split in SPLITS:
        kinds = collections.Counter(pair.category for pair in contrast_pairs(split))
        assert len(kinds) == 16 and min(kinds.values()) >= 4
    assert len(contrast_examples("train")) > 8000


def test_both_sides_of_a_pair_are_asked_for_in_the_same_ways():
    by_ask = collections.Counter()
    for example in contrast_examples("train"):
        for ask in ASK["train"] if example.id.split("/")[1][0].islower() else ():
            before, after = ask.split("{}")
            if example.query.startswith(before) and example.query.endswith(after):
                by_ask[ask, example.query_label] += 1
    for ask in ASK["train"]:
        assert by_ask[ask, 0] == by_ask[ask, 1] > 50, ask


def test_no_form_and_no_way_to_ask_is_in_both_splits():
    assert not forms("train") & forms("test") and not set(ASK["train"]) & set(ASK["test"])
    assert len(forms("train") | forms("test")) == len(
        {p for pair in PAIRS for p in (pair.safe.pattern, pair.unsafe.pattern)}
    )
    assert not {e.query for e in contrast_examples("train")} & {e.query for e in contrast_examples("test")}


def test_a_pattern_belongs_to_one_pair():
    owners = collections.defaultdict(set)
    for pair in PAIRS:
        for side in (pair.safe, pair.unsafe):
            owners[side.pattern].add(pair)
            assert len(side.texts()) == len(set(side.texts())) >= 2
    assert not [pattern for pattern, pairs in owners.items() if len(pairs) > 1]


def test_a_seed_says_which_queries():
    first, again, other = (contrast_examples("train", seed) for seed in (0, 0, 1))
    assert first == again and first != other and [e.id for e in first] == [e.id for e in other]
    assert load_source("contrast", data_dir="", cache_dir="") == first
    assert len(contrast_examples("test", per_form=2)) == 4 * len(contrast_pairs("test"))
    with pytest.raises(InputError, match="'both' is not train or test"):
        contrast_examples("both")


def test_words_alone_tell_less_than_half_of_what_there_is_to_tell():
    """Alarming words are in both classes: a verb that a pattern starts with is as often safe as harmful."""
    words = collections.Counter()
    for example in contrast_examples("train"):
        for word in set(normalise(example.query).split()):
            words[word, example.query_label] += 1
    for word in ("kill", "shoot", "poison", "bomb", "steal", "murder", "hack", "beat", "cut", "drug", "stab", "rob"):
        safe, harmful = words[word, 0], words[word, 1]
        assert min(safe, harmful) > 0.15 * (safe + harmful) > 0, (word, safe, harmful)


@pytest.mark.parametrize(
    "line", ["kill _ | a", "kill _ | a | Kill _? | b", "kill | a | b", "kill _ | | b", "a | b | c | d | e"]
)
def test_a_line_that_is_no_pair_is_named(line):
    with pytest.raises(ValueError):
        table("x", line)
    [pair] = table("x", "kill _ | time; a process | hurt _ | =")
    assert pair.unsafe.texts() == ["hurt time", "hurt a process"]
    [pair] = table("x", "kill _ | @person | b")
    assert len(pair.safe.texts()) == len(LISTS["person"])


@needs_data
def test_no_query_is_nearly_an_evaluation_prompt():
    """By the check that leaves training prompts out."""
    index = LeakIndex(evaluation_prompts(DATA))
    queries = [example.query for split in SPLITS for example in contrast_examples(split)]
    assert not [query for query in queries if index.verdict(query)][:5]


@needs_data
def test_no_song_and_no_book_of_an_evaluation_prompt_stands_in_the_table_of_texts():
    def titles(text):
        return {normalise(title) for title in re.findall(r'"([^"]+)"', text)}

    asked = {title for prompt in evaluation_prompts(DATA) for title in titles(prompt)}
    ours = {t for p in PAIRS if p.category == "texts" for s in (p.safe, p.unsafe) for q in s.texts() for t in titles(q)}
    assert len(ours) > 150 and "jolene" in asked and not ours & asked


@needs_data
@pytest.mark.slow
def test_no_seed_makes_an_evaluation_prompt():
    """Of all that the tables can make: 120,000 queries, half a minute."""
    index = LeakIndex(evaluation_prompts(DATA))
    for split in SPLITS:
        queries = every_query(split)
        assert {example.query for example in contrast_examples(split)} <= set(queries)
        assert not [query for query in queries if index.verdict(query)][:5]


def test_a_mixture_with_contrast_pairs_is_balanced():
    assert LABELLED["contrast"] == (1.0, 0.5)
    mixture = balanced({"contrast": 2.0, "malicious_queries": 1.0}, by="benign_queries")
    assert mixture["benign_queries"] == 1.0
    queries = {name: [0] * 50 for name in ("malicious_queries", "benign_queries")}
    sources = queries | {"contrast": contrast_examples("train")}
    order = Order(PipelineConfig(64, 4, 4, tuple(mixture.items())), sources)
    drawn = [order[i] for i in range(1200)]
    pairs = [sources[name][item].query_label for name, item in drawn if name == "contrast"]
    assert len(pairs) == 600 and abs(np.mean(pairs) - 0.5) < 0.06
