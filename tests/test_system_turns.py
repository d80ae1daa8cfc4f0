"""Operators' prompts and requests in other turns: shares, labels, and what the first check then reads."""

import collections
import dataclasses

import numpy as np
import pytest

from safety_align.data.examples import Example, encode_example
from safety_align.data.system_turns import PROMPTS, Roles, give_roles, with_roles
from safety_align.errors import InputError
from safety_align.routing import RoutingConfig
from safety_align.text import Tokenizer, Turn, get_template
from safety_align.training.config import DataConfig

QUERY = "How do I {bake} bread?"
EXAMPLES = [Example((Turn("user", QUERY),), "So.", i % 2, 0, True, "s", str(i)) for i in range(3000)]
ROLES = Roles(system=0.3, elsewhere=0.3)
TOKENIZER = Tokenizer.train([QUERY, *PROMPTS], 300)


def forms(examples) -> collections.Counter:
    return collections.Counter(tuple(t.role + "!" * t.vouched for t in e.turns) for e in examples)


def test_shares_are_those_asked_for_and_the_same_for_both_classes():
    made = [give_roles(e, ROLES) for e in EXAMPLES]
    for label in (0, 1):
        found = forms(e for e in made if e.query_label == label)
        total = sum(found.values())
        operators = sum(count for roles, count in found.items() if roles[0] == "system!")
        assert abs(operators / total - 0.3 * 0.9) < 0.04  # all but those whose request is the system turn
        in_system = found["system", "user"]
        assert abs(in_system / total - 0.1) < 0.03
        in_dialogue = sum(count for roles, count in found.items() if "assistant" in roles)
        assert abs(in_dialogue / total - 0.2) < 0.03


def test_only_the_turns_change_and_the_request_stands_once():
    for e in EXAMPLES[:400]:
        made = give_roles(e, ROLES)
        assert dataclasses.replace(made, turns=e.turns) == e
        assert sum(QUERY in t.text for t in made.turns) == 1 and made.turns[-1].role == "user"
        (where,) = (t for t in made.turns if QUERY in t.text)
        assert not where.vouched
        assert made == give_roles(e, ROLES)


def test_the_request_is_content_wherever_it_stands_and_the_operators_prompt_is_not():
    template = get_template("plain")
    for e in EXAMPLES[:200]:
        made = give_roles(e, ROLES)
        segment = encode_example(made, TOKENIZER, template, 256, RoutingConfig(windows=0), np.random.default_rng(0))
        read = TOKENIZER.decode(segment.prompt[segment.prompt_content])
        assert QUERY in read
        for turn in made.turns:
            assert (turn.text in read) == (not turn.vouched)


def test_conversations_of_several_turns_plain_text_and_unlabelled_queries_keep_their_turns():
    several = Example((Turn("user", "a"), Turn("assistant", "b"), Turn("user", "c")), "d", 1, 0, True, "s", "0")
    text = Example((), "text", None, None, True, "s", "1")
    unlabelled = [dataclasses.replace(e, query_label=None) for e in EXAMPLES[:200]]
    everything = Roles(system=1.0, elsewhere=1.0)
    assert [give_roles(e, everything) for e in (several, text)] == [several, text]
    assert forms(give_roles(e, everything) for e in unlabelled) == {("system!", "user"): 200}


def test_a_fixed_prompt_goes_before_every_question():
    found = [give_roles(e, Roles(system=1.0, prompt="Be kind.")) for e in EXAMPLES[:50]]
    assert {e.turns[0] for e in found} == {Turn("system", "Be kind.", vouched=True)}
    assert all(e.turns[1:] == EXAMPLES[0].turns for e in found)


def test_examples_are_changed_as_they_are_read_and_named_for_it():
    class Known(list):
        fingerprint = "abc"

    assert with_roles(EXAMPLES, Roles(prompt="unused")) is EXAMPLES
    changed = with_roles(Known(EXAMPLES), ROLES)
    assert len(changed) == len(EXAMPLES) and changed[7] == give_roles(EXAMPLES[7], ROLES)
    assert changed.fingerprint != with_roles(Known(EXAMPLES), Roles(system=0.3)).fingerprint
    assert not hasattr(with_roles(EXAMPLES, ROLES), "fingerprint")


def test_config_fields_are_shares():
    assert DataConfig(system_turns=0.2, other_roles=0.1).roles == Roles(0.2, 0.1, "")
    for field in ("system_turns", "other_roles"):
        with pytest.raises(InputError, match=f"data.{field} must be a share"):
            DataConfig(**{field: 1.5})
