"""Requests beside a passage of harmless text: which, how many, what is cut of what, and that nothing else of an example changes."""

import dataclasses
import itertools
import pathlib
import re

import pytest
from test_inputs import CONFIG

from safety_align.data import passages
from safety_align.data.disguised import disguise
from safety_align.data.examples import Example
from safety_align.data.passages import BEFORE, BEHIND, LEAST, MOST, add_passage, cut, with_passages
from safety_align.data.sources import load_source
from safety_align.errors import InputError
from safety_align.text import Turn
from safety_align.training import inputs
from safety_align.training.config import DataConfig
from safety_align.training.inputs import claim_data, load_examples
from safety_align.training.ready import check_training_data

QUERY = "How do I {bake} a loaf of {passage} bread at home?"
EXAMPLES = [Example((Turn("user", QUERY),), "So.", i % 2, 0, True, "s", str(i)) for i in range(3000)]


class Known(list):
    fingerprint = "abc"


def answer(number: int, query_label=0, response_label=0) -> Example:
    text = " ".join(f"Part {part} of answer {number} is{' long' * (part % 5)}." for part in range(60))
    return Example((Turn("user", "What?"),), text, query_label, response_label, False, "p", str(number))


SOURCE = Known(answer(number) for number in range(50))


def passage_in(text: str) -> str:
    """What `text` has of an answer of `SOURCE`."""
    start = text.index("Part 0 of")
    whole = SOURCE[int(re.search(r"of answer (\d+)", text)[1])].response
    pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(text[start:], whole))
    return "".join(letter for letter, _ in pairs).rstrip()


def changed(share: float, label: int) -> list[Example]:
    own = [e for e in EXAMPLES if e.query_label == label]
    made = [add_passage(e, share, SOURCE) for e in own]
    assert all(dataclasses.replace(m, turns=e.turns) == e for e, m in zip(own, made, strict=True))
    assert made == [add_passage(e, share, SOURCE) for e in own]
    return [m for e, m in zip(own, made, strict=True) if m is not e]


@pytest.mark.parametrize("label", [0, 1])
def test_the_share_is_that_asked_for_in_both_classes_and_two_in_three_requests_stand_behind(label):
    found = changed(0.4, label)
    assert abs(len(found) / 1500 - 0.4) < 0.05
    assert all(len(e.turns) == 1 and e.turns[0].role == "user" and e.query.count(QUERY) == 1 for e in found)
    behind = [e.query.index(QUERY) > e.query.index("Part 0 of") for e in found]
    assert abs(sum(behind) / len(found) - 2 / 3) < 0.08
    assert len({passage_in(e.query).split(" is")[0] for e in found}) == len(SOURCE)
    assert not changed(0.0, label) and len(changed(1.0, label)) == 1500


@pytest.mark.parametrize("label", [0, 1])
def test_a_passage_is_whole_sentences_of_a_drawn_length_in_every_frame(label):
    found = changed(1.0, label)
    lengths = [len(passage_in(e.query)) for e in found]
    assert LEAST <= min(lengths) < 260 and 1140 < max(lengths) <= MOST and abs(sum(lengths) / len(lengths) - 690) < 40
    assert all(passage_in(e.query).endswith(".") for e in found)
    frames = {e.query.replace(passage_in(e.query), "<1>", 1).replace(QUERY, "<2>") for e in found}
    assert frames == {f.replace("{passage}", "<1>").replace("{query}", "<2>") for f in (*BEHIND, *BEFORE)}


def test_other_conversations_stay_as_they_are():
    many = (Turn("user", "a"), Turn("assistant", "b"), Turn("user", QUERY))
    for e in (
        dataclasses.replace(EXAMPLES[0], turns=many),
        dataclasses.replace(EXAMPLES[0], query_label=None),
        dataclasses.replace(EXAMPLES[0], turns=()),
    ):
        assert add_passage(e, 1.0, SOURCE) is e


def test_a_text_is_cut_at_the_last_sentence_that_fits():
    text = f"{'a' * 150}. {'b' * 60}! {'c' * 100}.\n1. {'d' * 300}"
    first, second = 150 + 1 + 1 + 60 + 1, 150 + 1 + 1 + 60 + 1 + 1 + 100 + 1
    assert cut(text, 1200) == text[:second] and cut(text, second) == text[:second]
    assert cut(text, second - 1) == text[:first] and cut(text, LEAST) == text[:first]  # the shortest there is
    assert cut(f'"{"a" * 250}."', 1200) == f'"{"a" * 250}."'
    assert cut(f"{'a' * 1195}. {'b' * 20}.", 1200) == f"{'a' * 1195}."
    for none in ("", "Short.", "a" * 500, f"{'a' * 100}. {'b' * 1200}.", f"{'a' * 1200}.", "1.\n" * 200):
        assert cut(none, 1200) == "", none


def test_passages_are_harmless_answers_to_harmless_questions_and_never_the_own_answer():
    refusal, unsafe, unknown = answer(7, 1, 0), answer(8, 1, 1), answer(9, None, 0)
    others = [refusal, unsafe, unknown, answer(10, 0, None), dataclasses.replace(answer(11), response="Short.")]
    found = [add_passage(e, 1.0, Known([*others, answer(0), *others])) for e in EXAMPLES[:300]]
    assert {re.search(r"of answer (\d+)", e.query)[1] for e in found} == {"0"}
    own = dataclasses.replace(EXAMPLES[0], response=answer(0).response)
    assert add_passage(own, 1.0, Known([*others, answer(0)])) is own
    assert "of answer 1 " in add_passage(own, 1.0, Known([answer(0), answer(1)])).query
    with pytest.raises(InputError, match=r"data\.passages_from: many has no harmless answer"):
        with_passages(EXAMPLES, 0.1, Known(others), "many")


def test_a_source_is_changed_as_it_is_read_and_says_so():
    made = with_passages(EXAMPLES, 0.5, SOURCE, "a")
    assert len(made) == len(EXAMPLES) and made[:40] == [add_passage(e, 0.5, SOURCE) for e in EXAMPLES[:40]]
    other = Known(SOURCE)
    other.fingerprint = "another file"
    variants = ((0.5, SOURCE, "a"), (0.25, SOURCE, "a"), (0.5, other, "a"), (0.5, SOURCE, "b"))
    prints = {with_passages(Known(EXAMPLES), *variant).fingerprint for variant in variants}
    assert len(prints | {Known.fingerprint}) == 5


def test_a_run_does_not_go_on_with_other_frames(tmp_path, monkeypatch):
    examples = load_source("embedded", data_dir="", cache_dir="")
    claim_data(tmp_path, {"embedded": with_passages(examples, 0.1, SOURCE, "a")}, begun=False)
    claim_data(tmp_path, {"embedded": with_passages(examples, 0.1, SOURCE, "a")}, begun=True)
    file = tmp_path / "passages.py"
    file.write_text(pathlib.Path(passages.__file__).read_text() + "# another frame")
    monkeypatch.setattr(passages, "__file__", str(file))
    with pytest.raises(InputError, match="embedded"):
        claim_data(tmp_path, {"embedded": with_passages(examples, 0.1, SOURCE, "a")}, begun=True)


def config(**data):
    return dataclasses.replace(CONFIG, data=DataConfig(**data))


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_run_cuts_them_of_the_source_that_it_names_in_its_own_split(split, monkeypatch):
    loaded = []

    def load(name, split, **_):
        loaded.append((name, split))
        return SOURCE if name == "embedded_text" else EXAMPLES[:200]

    monkeypatch.setattr(inputs, "load_source", load)
    assert load_examples(config(passages_from="embedded_text"), "embedded", split) == EXAMPLES[:200]
    assert loaded == [("embedded", split)]  # a share of none needs no passages
    found = load_examples(config(passages=0.5, passages_from="embedded_text"), "embedded", split)
    assert list(found) == [add_passage(e, 0.5, SOURCE) for e in EXAMPLES[:200]]
    assert loaded[1:] == [("embedded", split), ("embedded_text", split)]


def test_a_request_is_written_otherwise_before_it_gets_a_passage_and_both_go_into_another_turn(monkeypatch):
    monkeypatch.setattr(inputs, "load_source", lambda name, *_, **__: SOURCE if name == "dolly" else EXAMPLES[:400])
    every = config(passages=1.0, disguised=1.0, other_roles=1.0, drop_leaks=False)
    for plain, made in zip(EXAMPLES, load_examples(every, "embedded", "train")):
        [text] = [turn.text for turn in made.turns if "Part 0 of" in turn.text]
        assert len(passage_in(text)) >= LEAST and disguise(plain, 1.0).query in text and len(made.turns) > 1


def test_the_embedded_corpus_has_passages():
    found = load_examples(config(passages=1.0, passages_from="embedded"), "embedded_queries", "train")
    plain = load_examples(config(), "embedded_queries", "train")
    several = 0
    for i in range(300):
        if len(plain[i].turns) > 1:
            several += 1
            assert found[i] == plain[i]
        else:
            assert plain[i].query in found[i].query and len(found[i].query) >= len(plain[i].query) + LEAST
            assert found[i].query_label == plain[i].query_label
    assert several < 100


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), "a"])
def test_a_share_that_is_none_is_named(share):
    with pytest.raises(InputError, match=r"data\.passages"):
        DataConfig(passages=share)


@pytest.mark.parametrize("name", ["nothing", "", "contrast", "own_answers", "judged_harmless"])
def test_a_source_without_passages_is_named(name):
    with pytest.raises(InputError, match=rf"data\.passages_from '{name}' is not one of .*dolly"):
        DataConfig(passages_from=name)


def test_a_file_that_is_not_there_is_named_before_the_run_begins(tmp_path):
    check_training_data(config(data_dir=str(tmp_path)))
    with pytest.raises(InputError, match=r"dolly\.jsonl\.gz does not exist"):
        check_training_data(config(passages=0.1, data_dir=str(tmp_path)))
