"""What the gate is compared with, and whether it changes answers; the short version of a comparison."""

import dataclasses

import numpy as np
import pytest
from make import random_params

from launch import cli
from launch.compare import filled, shorten
from safety_align.attacks import TargetModel
from safety_align.bundle import Bundle
from safety_align.decoding import GateConfig, Generator, Request, Result, score_queries
from safety_align.decoding.config import FIXED_REFUSAL
from safety_align.errors import InputError
from safety_align.evaluation.changed import ANSWERS, with_changes
from safety_align.evaluation.defences import OPENING, Defence, InputFilter, SystemPrompt, with_system_prompt
from safety_align.model import preset
from safety_align.text import Tokenizer, Turn, get_template

TOKENIZER = Tokenizer.train(
    ["How do I bake bread? You are kind. Sorry, I cannot fulfill your request because"] * 9, 300
)
MODEL = preset("tiny", vocab_size=TOKENIZER.vocab_size)
GATE = GateConfig(visible=False)
BUNDLE = Bundle(MODEL, random_params(MODEL, scale=0.3), TOKENIZER, get_template("plain"), GATE)
REQUESTS = [
    Request((Turn("user", text),), seed=i) for i, text in enumerate(("bread", "how do", "bake", "I do", "you?"))
]


@pytest.mark.slow
def test_a_filter_refuses_what_its_check_flags_and_answers_the_rest_as_the_model_does():
    scores = score_queries(BUNDLE, [request.turns for request in REQUESTS])
    gate = dataclasses.replace(GATE, threshold=float(np.median(scores)))
    plain = TargetModel(Generator(BUNDLE, "off"), 8, 4)
    answers = plain.answer(REQUESTS)
    found = InputFilter(plain.generator, 8, 4, None, BUNDLE, gate).answer(REQUESTS)
    for score, ours, theirs in zip(scores, found, answers, strict=True):
        assert ours.refused == (score >= gate.threshold) and ours.query_score == pytest.approx(score)
        assert (ours.response, ours.token_ids == theirs.token_ids) == (
            (FIXED_REFUSAL, False) if ours.refused else (theirs.response, True)
        )
    assert {answer.refused for answer in found} == {True, False}


class Scripted:
    """A generator that answers by the request's text and prefill."""

    def __init__(self, answers: dict):
        self.answers, self.asked = answers, []

    def generate(self, requests, *_):
        self.asked.append([(r.turns[-1].text, r.prefill) for r in requests])
        return [self.answers[r.turns[-1].text, r.prefill] for r in requests]


def said(response: str, query: float = 0.01, refused: bool = False, status: str = "benign") -> Result:
    return Result(response, [], refused, query, query, status, None, None, "eos", [])


def test_a_refusal_in_words_is_reconsidered_where_the_query_is_clearly_benign_and_nowhere_else():
    no, yes = "I'm sorry, but I can't help with that.", "Sure, twist the cap off with an opener."
    generator = Scripted(
        {
            ("beer", ""): said(no), ("beer", OPENING): said(yes),
            ("still no", ""): said(no), ("still no", OPENING): said("Sure. But I cannot help you with this."),
            ("turns", ""): said(no), ("turns", OPENING): said(yes, refused=True, status="malicious_response"),
            ("fine", ""): said(yes),
            ("unsure", ""): said(no, query=0.1),
            ("gate", ""): said(no, refused=True, status="malicious_query"),
            ("alert", ""): said(no, status="alert"),
            ("given", "Sure, "): said(no),
            ("nan", ""): said(no, query=float("nan")),
        }
    )  # fmt: skip
    requests = [Request((Turn("user", text),), prefill) for text, prefill in generator.answers if prefill != OPENING]
    found = Defence(reconsider=0.1).target(generator, (9, 4), BUNDLE, GATE, None).answer(requests)
    expected = [
        generator.answers[r.turns[-1].text, OPENING if r.turns[-1].text == "beer" else r.prefill] for r in requests
    ]
    assert found == expected
    assert generator.asked[1:] == [[("beer", OPENING), ("still no", OPENING), ("turns", OPENING)]]
    plain = Defence().target(generator, (9, 4), BUNDLE, GATE, None)
    assert plain.answer(requests) == [generator.answers[r.turns[-1].text, r.prefill] for r in requests]


def test_a_system_prompt_opens_conversations_that_have_none_and_is_no_content():
    bundle = with_system_prompt(BUNDLE, "You are kind.")
    user = (Turn("user", "bread"),)
    ours = bundle.template.encode(TOKENIZER, user)
    theirs = BUNDLE.template.encode(TOKENIZER, (Turn("system", "You are kind.", vouched=True), *user))
    np.testing.assert_array_equal(ours.ids, theirs.ids)
    np.testing.assert_array_equal(ours.content, theirs.content)
    assert TOKENIZER.decode(ours.ids[ours.content].tolist()).strip() == "bread"
    own = (Turn("system", "Be brief."), *user)
    np.testing.assert_array_equal(
        bundle.template.encode(TOKENIZER, own).ids, BUNDLE.template.encode(TOKENIZER, own).ids
    )
    assert with_system_prompt(BUNDLE, None) is BUNDLE
    assert isinstance(bundle.template, SystemPrompt)
    np.testing.assert_array_equal(
        bundle.template.encode_response(TOKENIZER, "bread"), BUNDLE.template.encode_response(TOKENIZER, "bread")
    )


def test_changed_answers_are_counted_where_the_gate_did_not_refuse():
    def measured(*answers):
        return {"benign_refused": {"a": {"rate": 0.0, ANSWERS: list(answers)}}, "attacks": {}}

    found = with_changes({"plain": measured("x", "y", "z"), "gated": measured("x", None, "w")}, {"gated": "plain"})
    assert found["gated"]["changed_answers"] == {"n": 2, "identical": 1}
    assert "changed_answers" not in found["plain"]
    assert found["gated"]["benign_refused"] == {"a": {"rate": 0.0}}
    alone = with_changes({"gated": measured("x")}, {"gated": "plain"})["gated"]
    assert "changed_answers" not in alone and ANSWERS not in alone["benign_refused"]["a"]


def test_a_comparison_s_short_version_measures_less_of_the_same():
    path = "configs/compare/published.py"
    values = cli.load_config(path).to_dict()
    attacks = dict(values["eval"]["measurements"]["attacks"])
    shorten(values, path)
    values = filled(values, "DIR")
    assert set(values["variants"]) == set(values["order"]) == {"ungated", "gated"}
    assert values["variants"]["ungated"]["checkpoint"] == "DIR"
    (answers, asked), (workdir, _, changes) = values["train"]
    assert asked["answers_of"] == "DIR" and changes["data.own_answers"] == answers
    assert workdir == values["variants"]["gated"]["checkpoint"] == "runs/DIR_probe" and changes["init_from"] == "DIR"
    kept = {name for name, attack in values["eval"]["measurements"]["attacks"].items() if attack is not None}
    assert {"direct", "prefill_10", "prefill_20", "gcg_transfer"} == kept < set(attacks)
    with pytest.raises(InputError, match="short version"):
        shorten({}, "other.py")
