"""Requests inside made-up stories: which, how many, that the request is in it, and that nothing else of an example changes."""

import dataclasses
import re

import pytest
from test_inputs import CONFIG

from safety_align.attacks.framings import PERSUASION, SCENE
from safety_align.attacks.prototypes import PROTOTYPES
from safety_align.data import stories
from safety_align.data.examples import Example
from safety_align.data.passages import add_passage
from safety_align.data.stories import put_in_story, with_stories
from safety_align.errors import InputError
from safety_align.text import Turn
from safety_align.training.config import DataConfig
from safety_align.training.inputs import load_examples

GOAL = "bake a {loaf} of \\1 bread {query}"
QUERY = f"How do I {GOAL}?"
ODD = "Bread {goal} 漢字 {language}, %s"
"""Names no goal."""


def examples(query: str, count: int = 3000) -> list[Example]:
    return [Example((Turn("user", query),), "So.", i % 2, 0, True, "s", str(i)) for i in range(count)]


@pytest.mark.parametrize("label", [0, 1])
def test_the_share_is_that_asked_for_in_both_classes_and_only_the_request_changes(label):
    own = [e for e in examples(QUERY) if e.query_label == label]
    made = [put_in_story(e, 0.4) for e in own]
    changed = [m for e, m in zip(own, made, strict=True) if m is not e]
    assert abs(len(changed) / len(own) - 0.4) < 0.05
    assert len({m.query for m in changed}) > 0.7 * len(changed)
    assert all(dataclasses.replace(m, turns=e.turns) == e for e, m in zip(own, made, strict=True))
    assert all(len(m.turns) == 1 and m.turns[0].role == "user" for m in made)
    assert made == [put_in_story(e, 0.4) for e in own]
    assert all(put_in_story(e, 0.0) is e for e in own) and not any(put_in_story(e, 1.0) is e for e in own)


def test_the_request_is_in_its_frame_once_word_for_word():
    """Or its goal is. A brace in it is a character."""
    texts = [put_in_story(e, 1.0).query for e in examples(QUERY)]
    assert all(text.count(GOAL) == 1 for text in texts)
    whole = sum(text.count(QUERY) for text in texts) / len(texts)
    assert 0.38 < whole < 0.5  # a quarter is in no story, and of those that are a quarter is asked
    assert all(put_in_story(e, 1.0).query.count(ODD) == 1 for e in examples(ODD))


def test_every_part_is_used_in_either_class():
    """Each with about the same frequency, so that no frame says anything of the label."""
    parts = (stories.OPENINGS, stories.LEVELS, stories.GOALS, stories.QUESTIONS, stories.ENDINGS, stories.OTHERWISE)
    for label in (0, 1):
        texts = [put_in_story(e, 1.0).query for e in examples("How do I bake bread?", 6000) if e.query_label == label]
        for part in parts:
            for frame in filter(None, part):
                words = max(re.split(r"\{\w+\}", frame), key=len).strip()
                found = sum(words in text for text in texts) / len(texts)
                expected = {stories.OTHERWISE: 0.25, stories.GOALS: 0.75 * 0.75, stories.QUESTIONS: 0.75 * 0.25}.get(
                    part, 0.75
                )
                assert abs(found - expected / len(part)) < 0.03, frame


def test_no_frame_is_an_attacks():
    """Five words in a row are in no template of the attacks."""

    def runs(text: str) -> set[str]:
        words = re.findall(r"[a-z']+", re.sub(r"\{\w+\}", " . ", text).lower())
        return {" ".join(words[i : i + 5]) for i in range(len(words) - 4)}

    ours = set().union(
        *map(
            runs,
            (
                *stories.OPENINGS,
                *stories.LEVELS,
                *stories.GOALS,
                *stories.QUESTIONS,
                *stories.ENDINGS,
                *stories.OTHERWISE,
            ),
        )
    )
    for text in (*PERSUASION.values(), SCENE, *(" ".join(parts) for parts in PROTOTYPES)):
        assert not ours & runs(text)


def test_other_conversations_stay_as_they_are():
    one = examples(QUERY, 1)[0]
    many = (Turn("user", "a"), Turn("assistant", "b"), Turn("user", QUERY))
    for changes in (dict(turns=many), dict(query_label=None), dict(turns=())):
        e = dataclasses.replace(one, **changes)
        assert put_in_story(e, 1.0) is e


def test_a_source_is_changed_as_it_is_read_and_says_so():
    class Known(list):
        fingerprint = "abc"

    known = Known(examples(QUERY, 10))
    assert with_stories(known, 0.0) is known
    assert len({with_stories(known, share).fingerprint for share in (0.0, 0.25, 0.5)}) == 3
    assert with_stories(known, 0.5)[3] == put_in_story(known[3], 0.5)


def test_a_run_is_fed_them_before_a_passage_stands_beside_them():
    """So that the story is told whole."""

    def config(**changes):
        data = dataclasses.replace(CONFIG.data, drop_leaks=False, system_turns=0.0, other_roles=0.0, **changes)
        return dataclasses.replace(CONFIG, data=data)

    plain = load_examples(config(), "embedded", "train")
    framed = load_examples(config(stories=1.0), "embedded", "train")
    both = load_examples(config(stories=1.0, passages=1.0, passages_from="embedded"), "embedded", "train")
    assert len(plain) == len(framed) == len(both)
    alone = [i for i in range(100) if len(plain[i].turns) == 1]
    assert len(alone) > 20
    for i in alone:
        story = put_in_story(plain[i], 1.0)
        assert framed[i] == story
        assert both[i].query.count(story.query) == 1 and both[i].query != story.query
        assert both[i] == add_passage(story, 1.0, plain)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_named(share):
    with pytest.raises(InputError, match=r"data\.stories"):
        DataConfig(stories=share)
