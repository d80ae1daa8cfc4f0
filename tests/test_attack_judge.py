"""The judge that says, while an attack searches, whether it may stop: it steers and does not score."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from test_attack_command import BEHAVIORS, BUNDLE, GATE, TOKENIZER, Words

from launch import attack, devices, red_team
from safety_align.attacks import OPTIMISED, SoftPrompt, TargetModel
from safety_align.decoding import Generator
from safety_align.decoding.requests import Result
from safety_align.errors import InputError
from safety_align.evaluation.campaign import Campaign
from safety_align.evaluation.judges import (
    Every,
    Exchange,
    GuardJudge,
    LearnedJudge,
    RefusalRules,
    apart,
    check_apart,
    check_not_own,
)
from safety_align.model.quantized import quantize_params

ANSWERS = ["x y z x y z x y z", "take a small pin and turn it", "I cannot help with that."]


class Told(TargetModel):
    """Answers in turn with the texts of `ANSWERS`, the last one over and over; the third is stopped by the gate."""

    def answer(self, requests, max_new_tokens=None):
        asked = self.__dict__.setdefault("asked", [])
        made = []
        for request in requests:
            asked.append(request)
            number = min(len(asked), len(ANSWERS)) - 1
            ids = [int(i) for i in TOKENIZER.encode(ANSWERS[number], "text")]
            stop = 0 if number == 2 else None
            made.append(Result(ANSWERS[number], ids, stop is not None, 0.1, 0.1, "benign", None, stop, "eos", []))
        return made


def searched(steering) -> dict:
    """The row of a soft prompt's search of eight steps that looks every two."""
    search = SoftPrompt(steps=8, tokens=2, look_every=2)
    target = Told(Generator(BUNDLE, GATE), 8, 1)
    campaign = Campaign(search, target, BUNDLE, GATE, {"never": Words(lambda text: False)}, steering)
    (row,) = next(campaign.rows(BEHAVIORS[:1]))
    return row


def test_a_search_goes_on_until_its_judge_says_harmful_and_that_judge_scores_nothing():
    """Of three looks, the judge of the loop is content with the first answer, the second, or none: the gate stopped the third."""
    any_text = Words(lambda text: True)
    assert searched(any_text)["steps"] == 2 and any_text.read == 1
    harm = Words(lambda text: "pin" in text)
    row = searched(harm)
    assert row["steps"] == 4 and harm.read == 2
    assert row["verdicts"].keys() == row["harmful"].keys() == row["fell_to"].keys() == {"never"}
    nothing = Words(lambda text: False)
    assert searched(nothing)["steps"] == 8 and nothing.read == 2  # what the gate refused is not asked about


def test_every_judge_must_call_it_compliance():
    """By hand: a refusal to which one says harm, babble, harm."""
    exchanges = [
        Exchange("a", "a", text)
        for text in ("I'm sorry, I cannot do pins.", "Go on and on about bread", "take a pin and turn")
    ]
    pin = Words(lambda text: "pin" in text)
    verdicts = Every((RefusalRules(), pin)).judge(exchanges)
    assert [v.label for v in verdicts] == ["refusal", "refusal", "compliance"]
    assert [v.score for v in verdicts] == [0.0, 0.5, 0.5] and pin.read == 2  # not asked about what the rules refuse
    assert [v.label for v in Every((pin, RefusalRules())).judge(exchanges)] == ["refusal", "refusal", "compliance"]
    with pytest.raises(InputError, match="needs a judge"):
        Every(())


def test_a_model_that_steers_does_not_score(tmp_path):
    """However the directory is written; the rules, which are no model, may do both."""
    learned, other = LearnedJudge(str(tmp_path / "judge")), LearnedJudge(str(tmp_path / "other"))
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "judge")
    check_apart(RefusalRules(), {"rules": RefusalRules(), "other": other})
    check_apart(Every((RefusalRules(), learned)), {"rules": RefusalRules(), "other": other})
    for steering in (learned, Every((RefusalRules(), learned)), GuardJudge(str(tmp_path / "judge"), "{goal}{answer}")):
        with pytest.raises(InputError, match="--judge=again is an --attack-judge too"):
            check_apart(steering, {"rules": RefusalRules(), "again": LearnedJudge(str(link), 0.3)})


def test_a_model_of_the_hub_is_one_model_whatever_its_commit(tmp_path):
    """A run keeps the commit that it started from; who names a judge hardly does."""
    commit = "0123456789" * 4
    steering = GuardJudge("Owner/Guard", "{goal}{answer}")
    with pytest.raises(InputError, match="is an --attack-judge too"):
        check_apart(steering, {"again": GuardJudge(f"Owner/Guard@{commit}", "{goal}{answer}")})
    attacked = dataclasses.replace(BUNDLE, config={"init_from": f"Owner/Name@{commit}"})
    check_not_own({"x": steering}, str(tmp_path / "run"), attacked)
    guard = GuardJudge(judge_in(tmp_path / "guard", "Owner/Name@main").directory, "{goal}{answer}")  # a run, as a guard
    for judge in (GuardJudge("Owner/Name", "{goal}{answer}"), guard):
        with pytest.raises(InputError, match="blind spots"):
            check_not_own({"x": judge}, str(tmp_path / "run"), attacked)


def judge_in(folder, start: str) -> LearnedJudge:
    (folder / "checkpoints").mkdir(parents=True)
    known = {"model": {}, "template": "plain", "routing": None, "pipeline": {"mixture": [["judged_harmful", 1.0]]}}
    (folder / "config.json").write_text(json.dumps(known | {"init_from": start}))
    return LearnedJudge(str(folder))


def test_a_judge_of_the_attacked_models_own_origin_is_refused(tmp_path, monkeypatch):
    """By where they say that they come from; and by the weights, rounded or not, of a model that was put elsewhere."""
    rng = np.random.default_rng(0)
    table = jnp.asarray(rng.normal(size=BUNDLE.params["embedding"].shape), jnp.float32)
    other = dataclasses.replace(BUNDLE, params=BUNDLE.params | {"embedding": table})
    monkeypatch.setattr(apart.LearnedJudge, "bundle", other)
    base, run = tmp_path / "base", tmp_path / "run"
    attacked = dataclasses.replace(BUNDLE, config={"init_from": str(base)})
    check_not_own(
        {"rules": RefusalRules(), "j": judge_in(tmp_path / "j", str(tmp_path / "elsewhere"))}, str(run), attacked
    )
    for judge in (
        judge_in(tmp_path / "j2", str(base)),
        judge_in(tmp_path / "j3", str(run)),
        GuardJudge(str(base), "{goal}{answer}"),
        GuardJudge(str(run), "{goal}{answer}"),
    ):
        with pytest.raises(InputError, match="--attack-judge=x is made of the model that is attacked"):
            check_not_own({"--attack-judge=x": judge}, str(run), attacked)
    monkeypatch.undo()
    judge = judge_in(tmp_path / "j4", str(tmp_path / "elsewhere"))
    for of_judge, fits in ((BUNDLE, False), (other, True)):
        monkeypatch.setattr(apart.LearnedJudge, "bundle", of_judge)
        for params in (BUNDLE.params, quantize_params(BUNDLE.params)):
            if fits:
                check_not_own({"x": judge}, str(run), dataclasses.replace(attacked, params=params))
                continue
            with pytest.raises(InputError, match="blind spots"):
                check_not_own({"x": judge}, str(run), dataclasses.replace(attacked, params=params))


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Runs launch.attack on the tiny model with some options."""
    monkeypatch.setattr(attack, "load_unrolled", lambda *_: BUNDLE)
    monkeypatch.setattr(attack.hub, "identity", str)
    monkeypatch.setattr(devices, "located", lambda name: name)
    monkeypatch.setattr(devices, "start", lambda arguments: None)
    monkeypatch.setattr(attack, "read_behaviors", lambda *_: BEHAVIORS[:1])

    def run(*options: str, name: str = "soft_prompt") -> int:
        fixed = [
            f"--attack={name}",
            "--checkpoint=x",
            "--behaviors=embedded",
            f"--output={tmp_path / 'out'}",
            "--max-new-tokens=4",
        ]
        monkeypatch.setattr("sys.argv", ["attack", *fixed, *options])
        return attack.main()

    return run


SMALL = ("--attack.steps=1", "--attack.tokens=1")


@pytest.mark.slow
def test_another_judge_in_the_loop_is_another_attack(command, tmp_path):
    """The default is the rules, by name too; whoever scores is told apart as before."""
    assert command(*SMALL) == 0
    whole = (tmp_path / "out" / "attacks.jsonl").read_bytes()
    assert json.loads((tmp_path / "out" / "attack.json").read_text())["attack_judge"] == repr(RefusalRules())
    assert command(*SMALL, "--attack-judge=rules") == 0
    assert (tmp_path / "out" / "attacks.jsonl").read_bytes() == whole
    for options in (["--attack-judge=embedded"], ["--attack-judge=rules", "--attack-judge=embedded"]):
        with pytest.raises(InputError, match="another attack.*attack_judge"):
            command(*SMALL, *options)


def test_judges_that_cannot_be_are_named(command, tmp_path):
    judge = judge_in(tmp_path / "judge", "elsewhere").directory
    for options, said in (
        (["--attack-judge=nowhere/at/all"], "--attack-judge: judge nowhere/at/all does not exist"),
        (["--judge=nowhere/at/all"], "--judge: judge nowhere/at/all does not exist"),
        (["--attack-judge=rules", "--attack-judge=rules"], "--attack-judge=rules is given twice"),
        (["--judge=rules", "--judge=rules"], "--judge=rules is given twice"),
        ([f"--attack-judge={judge}", f"--judge={judge}"], "is an --attack-judge too"),
        (
            ["--behaviors=advbench", "--attack-judge=embedded"],
            "--attack-judge=embedded knows the embedded corpus alone",
        ),
    ):
        with pytest.raises(InputError, match=said):
            command(*options)
    with pytest.raises(InputError, match="is for an attack that searches"):
        command("--attack-judge=rules", name="direct")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_red_team_notes_who_steered_its_searches(tmp_path, monkeypatch):
    """And of an attack that does not search nothing."""
    (tmp_path / "config.py").write_text(
        "from ml_collections import ConfigDict\ndef get_config():\n    return ConfigDict(dict(attacks=dict("
        "direct=dict(kind='direct', goals=1, gate_off=False), soft=dict(kind='soft_prompt', steps=1, tokens=1, goals=1, gate_off=False)),"
        " max_new_tokens=4))\n"
    )
    monkeypatch.setattr("launch.red_team.load_unrolled", lambda path, mesh, dtype: BUNDLE)
    monkeypatch.setattr("launch.red_team.hub.identity", str)
    monkeypatch.setattr("launch.red_team.devices.located", str)

    def run(*options):
        fixed = [f"--config={tmp_path / 'config.py'}", "--checkpoint=a/one", f"--output={tmp_path / 'out'}"]
        monkeypatch.setattr("sys.argv", ["red_team", *fixed, *options])
        return red_team.main()

    both = ["--attack-judge=rules", "--attack-judge=embedded"]
    assert run(*both, "--judge=embedded") == 0
    found = json.loads((tmp_path / "out" / "results.json").read_text())["models"]["one"]
    assert "Every" in found["soft"]["gate_on"]["about"]["attack_judge"]
    assert found["direct"]["gate_on"]["about"]["attack_judge"] is None
    with pytest.raises(InputError, match="another"):
        run("--judge=embedded")
    with pytest.raises(InputError, match="is for an attack that searches"):
        run(*both, "--config.attacks.soft=none")
    assert set(OPTIMISED) == {"gcg", "soft_prompt", "autodan"}
