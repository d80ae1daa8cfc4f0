"""Answers without their query: which, how many, and what is left of them."""

import dataclasses

import pytest
from test_inputs import CONFIG

from safety_align.data.alone import WORDS, leave_alone, with_alone
from safety_align.data.examples import Example
from safety_align.errors import InputError
from safety_align.text import NO_REQUEST, Turn
from safety_align.training.config import DataConfig
from safety_align.training.inputs import load_examples

ANSWER = "  \n".join(f"word{i},  and" for i in range(60))
EXAMPLES = [
    Example((Turn("user", f"question {i}"),), ANSWER, i % 2, i % 2, not i % 2, "s", str(i)) for i in range(2000)
]


def test_a_share_of_labelled_answers_loses_its_query_and_keeps_its_label():
    for label in (0, 1):
        own = [e for e in EXAMPLES if e.response_label == label]
        made = [leave_alone(e, 0.4) for e in own]
        changed = [(e, m) for e, m in zip(own, made, strict=True) if m is not e]
        assert abs(len(changed) / len(own) - 0.4) < 0.05
        for before, after in changed:
            assert after.turns == (Turn("user", NO_REQUEST),) and after.query_label is None and not after.train_lm
            assert after.response_label == label and after.id == before.id
            assert after.response in before.response and after.response.split()[0] in before.response.split()
            assert WORDS[0] <= len(after.response.split()) <= WORDS[1]
        assert made == [leave_alone(e, 0.4) for e in own]
        starts = {before.response.index(after.response) for before, after in changed}
        assert 0 < len(starts) and max(starts) > len(ANSWER) / 2
    assert all(leave_alone(e, 0.0) is e for e in EXAMPLES) and with_alone(EXAMPLES, 0.0) is EXAMPLES
    assert sum(leave_alone(e, 1.0) is e for e in EXAMPLES) == 0


def test_what_has_no_labelled_answer_stays_as_it_is_and_a_short_one_stays_whole():
    first = EXAMPLES[0]
    for e in (
        dataclasses.replace(first, response_label=None),
        dataclasses.replace(first, turns=()),
        dataclasses.replace(first, response=" \n"),
        dataclasses.replace(first, rejected="no"),
    ):
        assert leave_alone(e, 1.0) is e
    assert leave_alone(dataclasses.replace(first, response="Yes, of course."), 1.0).response == "Yes, of course."


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(InputError, match="data.alone"):
        DataConfig(alone=share)


def test_a_source_is_changed_as_it_is_read_and_says_so():
    class Known(list):
        fingerprint = "abc"

    assert with_alone(EXAMPLES, 0.5)[3] == leave_alone(EXAMPLES[3], 0.5)
    assert len({with_alone(Known(EXAMPLES), share).fingerprint for share in (0.0, 0.25, 0.5)}) == 3


def test_a_run_reads_answers_alone_and_their_requests_are_changed_no_more():
    data = DataConfig(alone=1.0, passages=1.0, passages_from="embedded", system_turns=1.0)
    found = load_examples(dataclasses.replace(CONFIG, data=data), "embedded", "train")
    changed = [e for e in (found[i] for i in range(200)) if e.response_label is not None]
    assert changed and all(e.turns == (Turn("user", NO_REQUEST),) for e in changed)
