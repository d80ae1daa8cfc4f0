"""Requests written otherwise: which, how many, in which forms, and that nothing else of an example changes."""

import collections
import dataclasses

import pytest

from safety_align.data.disguised import FORMS, REASONS, disguise, with_disguises
from safety_align.data.draws import Draws
from safety_align.data.examples import Example
from safety_align.errors import InputError
from safety_align.text import Turn
from safety_align.training.config import DataConfig

QUERY = "How do I {bake} a loaf of white bread at home?"
EXAMPLES = [Example((Turn("user", QUERY),), "So.", i % 2, 0, True, "s", str(i)) for i in range(2000)]


def letters(text: str) -> collections.Counter:
    return collections.Counter(c for c in text.lower() if c.isalpha())


def test_the_share_is_that_asked_for_in_both_classes_and_only_the_request_changes():
    for label in (0, 1):
        own = [e for e in EXAMPLES if e.query_label == label]
        made = [disguise(e, 0.4) for e in own]
        changed = [m for e, m in zip(own, made, strict=True) if m is not e]
        assert abs(len(changed) / len(own) - 0.4) < 0.05
        assert len({m.query for m in changed}) > len(changed) / 2
        assert all(dataclasses.replace(m, turns=e.turns) == e for e, m in zip(own, made, strict=True))
        assert made == [disguise(e, 0.4) for e in own]
    assert all(disguise(e, 0.0) is e for e in EXAMPLES)
    assert sum(disguise(e, 1.0) is e for e in EXAMPLES) == 0


def test_other_conversations_stay_as_they_are():
    many = (Turn("user", "a"), Turn("assistant", "b"), Turn("user", QUERY))
    for e in (
        dataclasses.replace(EXAMPLES[0], turns=many),
        dataclasses.replace(EXAMPLES[0], query_label=None),
        dataclasses.replace(EXAMPLES[0], turns=()),
    ):
        assert disguise(e, 1.0) is e


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("text", [QUERY, "a", "Ünïcode {x} 漢字 %s \\1", " two  blanks ", "é\n\nz"])
def test_a_form_is_text_and_the_same_for_the_same_draws(name, text):
    seen = set()
    for i in range(30):
        made = FORMS[name](text, Draws(f"{name} {i}"))
        assert made.strip() and made == FORMS[name](text, Draws(f"{name} {i}"))
        seen.add(made)
    assert len(seen) > 1 or name in ("upper", "lower", "title", "alternating") or len(text) < 6


@pytest.mark.parametrize("name", ["upper", "lower", "title", "alternating", "some_capitals", "parted", "scrambled"])
def test_a_form_of_letters_keeps_the_letters(name):
    for i in range(30):
        assert letters(FORMS[name](QUERY, Draws(str(i)))) == letters(QUERY)


@pytest.mark.parametrize("name", ["noise_behind", "noise_before", "noise_around", "reason"])
def test_noise_and_reasons_leave_the_request_as_it_is(name):
    for i in range(50):
        made = FORMS[name](QUERY, Draws(str(i)))
        assert made.count(QUERY) == 1 and len(made) > len(QUERY)
    assert all(reason.count("{query}") == 1 for reason in REASONS)


def test_draws_are_even():
    """Chi-square of 7,000 draws of 7, with 6 degrees of freedom: above 30 once in 25,000 streams; this one is fixed."""
    draw = Draws("x")
    counts = collections.Counter(draw.below(7) for _ in range(7000))
    assert sum((counts[i] - 1000) ** 2 / 1000 for i in range(7)) < 30
    orders = collections.Counter("".join(draw.shuffled("abc")) for _ in range(6000))
    assert len(orders) == 6 and sum((n - 1000) ** 2 / 1000 for n in orders.values()) < 30


def test_a_source_is_changed_as_it_is_read_and_says_so():
    source = with_disguises(EXAMPLES, 0.5)
    assert len(source) == len(EXAMPLES) and source[3] == disguise(EXAMPLES[3], 0.5)
    assert with_disguises(EXAMPLES, 0.0) is EXAMPLES

    class Known(list):
        fingerprint = "abc"

    prints = {with_disguises(Known(EXAMPLES), share).fingerprint for share in (0.0, 0.25, 0.5)}
    assert len(prints) == 3


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_named(share):
    with pytest.raises(InputError, match=r"data\.disguised"):
        DataConfig(disguised=share)
