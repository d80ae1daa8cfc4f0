"""Disguises: what each form says, read back; which forms there are, and where one is left out."""

import base64
import dataclasses
import string

import numpy as np
import pytest
from test_attack_command import BEHAVIORS, BUNDLE, GATE

from launch import attack
from safety_align.attacks import Disguise, TargetModel
from safety_align.attacks.disguise import FORMS
from safety_align.attacks.framings import JUNK, PERSUASION
from safety_align.data.behavior import Behavior
from safety_align.decoding import Generator
from safety_align.errors import InputError
from safety_align.evaluation.campaign import Campaign
from safety_align.evaluation.judges import RefusalRules
from safety_align.text import get_template
from safety_align.text.jinja_chat import JinjaTemplate

FRESH = int(np.random.SeedSequence().entropy % 2**32)
LETTERS = string.ascii_lowercase


def random_goal() -> str:
    rng = np.random.default_rng(FRESH)
    return "q" + "".join(rng.choice(list(string.printable[:95] + "{}äЖ"), 60)) + "z"


def shifted(text: str, by: int) -> str:
    """Latin letters `by` further on, one by one."""
    found = ""
    for c in text:
        place = LETTERS.find(c.lower())
        new = c if place < 0 else LETTERS[(place + by) % 26]
        found += new.upper() if place >= 0 and c.isupper() else new
    return found


def said(form: str, goal: str) -> str:
    (turn,) = FORMS[form](goal)
    assert turn.role == "user"
    return turn.text


def test_letters_and_ciphers_can_be_read_back():
    goal = random_goal()
    assert said("upper", goal) == goal.upper()
    assert said("spaced", goal)[::2] == goal and set(said("spaced", goal)[1::2]) == {" "}
    assert said("leetspeak", "Take it, ox: bus 9") == "74k3 17, 0x: bu5 9"
    coded = {name: said(name, goal).partition("\n\n") for name in ("base64", "rot13", "caesar", "atbash", "reversed")}
    texts = {name: parts[2] for name, parts in coded.items()}
    assert base64.b64decode(texts["base64"]).decode() == goal, FRESH
    assert shifted(texts["rot13"], 13) == goal and shifted(texts["caesar"], -3) == goal, FRESH
    mirror = dict(zip(LETTERS + LETTERS.upper(), LETTERS[::-1] + LETTERS.upper()[::-1], strict=True))
    assert "".join(mirror.get(c, c) for c in texts["atbash"]) == goal, FRESH
    assert texts["reversed"][::-1] == goal, FRESH
    for name, word in (
        ("base64", "Base64"),
        ("rot13", "ROT13"),
        ("caesar", "Caesar"),
        ("atbash", "Atbash"),
        ("reversed", "back"),
    ):
        assert word in coded[name][0]
        assert goal not in texts[name]


def test_framings_and_junk_hold_the_goal_once_word_for_word():
    goal = random_goal()
    assert len(PERSUASION) >= 10
    for name in (*PERSUASION, "scene", "junk_before", "junk_behind"):
        text = said(name, goal)
        assert text.count(goal) == 1 and len(text) > len(goal) + 80, (name, FRESH)
    assert said("junk_before", goal).endswith(goal) and said("junk_behind", goal).startswith(goal)
    assert (
        JUNK in said("junk_before", goal)
        and len({said(name, "x") for name in (*PERSUASION, "scene")}) == len(PERSUASION) + 1
    )


def test_roles():
    goal = random_goal()
    roles = {
        "system_turn": ["system", "user"],
        "earlier_turn": ["user", "assistant", "user"],
        "second_turn": ["user", "assistant", "user"],
    }
    where = {"system_turn": 0, "earlier_turn": 0, "second_turn": 2}
    for name, expected in roles.items():
        turns = FORMS[name](goal)
        assert [turn.role for turn in turns] == expected and not any(turn.vouched for turn in turns)
        assert [i for i, turn in enumerate(turns) if turn.text == goal] == [where[name]]
        assert sum(goal in turn.text for turn in turns) == 1


@pytest.mark.parametrize("template", ["plain", "llama2_authors"])
def test_every_form_is_content_for_the_checks(template):
    """Whatever the role, the goal's tokens are among those that `[CLS]` may read."""
    bundle = dataclasses.replace(BUNDLE, template=get_template(template))
    for (name, form), request in zip(FORMS.items(), Disguise().requests(BEHAVIORS[:1], bundle)[0], strict=True):
        assert request.turns == form(BEHAVIORS[0].goal)
        prompt = bundle.template.encode(bundle.tokenizer, request.turns)
        read = bundle.tokenizer.decode([int(i) for i in prompt.ids[prompt.content]])
        assert all(turn.text in read for turn in request.turns), name


def test_forms_come_in_the_order_that_was_asked_for():
    made = Disguise(("rot13", "upper"))
    groups = made.requests(BEHAVIORS, BUNDLE)
    assert [[r.turns for r in group] for group in groups] == [
        [FORMS["rot13"](b.goal), FORMS["upper"](b.goal)] for b in BEHAVIORS
    ]
    assert groups == made.requests(BEHAVIORS, BUNDLE) and len({r.seed for group in groups for r in group}) == 6
    assert attack.to_attack("disguise", ["--attack.forms=('rot13','upper')"]) == made
    assert len(Disguise().requests([Behavior("x", "y")], BUNDLE)[0]) == len(FORMS) >= 24


def test_forms_that_are_none_are_named():
    with pytest.raises(InputError, match="'rot14' is not one of upper, spaced"):
        Disguise(("rot13", "rot14"))
    with pytest.raises(InputError, match="names no form"):
        Disguise(())


def test_a_template_without_a_system_turn_is_asked_without_one():
    source = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
        "{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: "
    )
    bundle = dataclasses.replace(BUNDLE, template=JinjaTemplate(source, {}))
    (group,) = Disguise(("upper", "system_turn", "rot13")).requests(BEHAVIORS[:1], bundle)
    assert [r.turns for r in group] == [FORMS[name](BEHAVIORS[0].goal) for name in ("upper", "rot13")]
    with pytest.raises(InputError, match="no system turn"):
        Disguise(("system_turn",)).requests(BEHAVIORS[:1], bundle)


@pytest.mark.slow
def test_a_campaign_keeps_the_earlier_turns():
    target = TargetModel(Generator(BUNDLE, GATE), 4, 2)
    campaign = Campaign(Disguise(("earlier_turn",)), target, BUNDLE, GATE, {"rules": RefusalRules()})
    ((row,),) = campaign.rows(BEHAVIORS[:1])
    turns = FORMS["earlier_turn"](BEHAVIORS[0].goal)
    assert row["prompt"] == "Go on." and row["earlier"] == [[turn.role, turn.text] for turn in turns[:-1]]
