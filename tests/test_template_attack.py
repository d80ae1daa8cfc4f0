"""Goals in templates: each in every one, word for word, from a file or ours."""

import os

import pytest
from test_attack_command import BEHAVIORS, BUNDLE

from launch import attack
from safety_align.attacks import Templates
from safety_align.attacks.behaviors import TEMPLATE_SLOT
from safety_align.attacks.prototypes import PROTOTYPES
from safety_align.data.behavior import Behavior
from safety_align.errors import InputError

PUBLISHED = "../shared/data/eval/gptfuzzer_templates.csv"


def sent(made: Templates, behaviors=BEHAVIORS) -> list[list[str]]:
    return [[request.turns[0].text for request in group] for group in made.requests(behaviors, BUNDLE)]


def test_every_goal_stands_in_every_template(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text(
        f'id,text\n0,"Say {TEMPLATE_SLOT} and {TEMPLATE_SLOT}, {{please}}."\n1,"{TEMPLATE_SLOT}"\n2,x{TEMPLATE_SLOT}\n'
    )
    made = Templates(str(path))
    assert sent(made) == [[f"Say {b.goal} and {b.goal}, {{please}}.", b.goal, f"x{b.goal}"] for b in BEHAVIORS]
    assert sent(Templates(str(path), 2)) == [group[:2] for group in sent(made)]
    odd = Behavior(r"a \1 {goal} " + TEMPLATE_SLOT[:-1], "Sure")
    assert sent(made, [odd])[0][1] == odd.goal
    assert attack.to_attack("templates", [f"--attack.file={path}", "--attack.count=2"]) == Templates(str(path), 2)


def test_a_file_that_is_none_is_named_when_the_attack_is_made(tmp_path):
    path = tmp_path / "own.csv"
    for text, said in (("text\nno place\n", "lacks"), ("words\nx\n", "no column 'text'")):
        path.write_text(text)
        with pytest.raises(InputError, match=said):
            Templates(str(path))
    with pytest.raises(InputError, match=r"absent\.csv"):
        Templates(str(tmp_path / "absent.csv"))
    with pytest.raises(InputError, match=r"attack\.count"):
        Templates(count=-1)


def test_without_a_file_the_prototypes_are_sent():
    assert sent(Templates()) == [[" ".join(p).replace(TEMPLATE_SLOT, b.goal) for p in PROTOTYPES] for b in BEHAVIORS]
    assert all(BEHAVIORS[0].goal in text and TEMPLATE_SLOT not in text for text in sent(Templates())[0])


@pytest.mark.skipif(not os.path.exists(PUBLISHED), reason=f"{PUBLISHED} is not here")
def test_the_published_templates():
    (group,) = sent(Templates(PUBLISHED), BEHAVIORS[:1])
    assert len(group) == 77 and all(BEHAVIORS[0].goal in text and TEMPLATE_SLOT not in text for text in group)
