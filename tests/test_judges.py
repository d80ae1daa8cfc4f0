"""Judges: labelled exchanges, the judge that learns from them, guard models as judges, and launch.judge."""

import csv
import dataclasses
import gzip
import json
import pathlib

import numpy as np
import pytest
from make import random_params

from configs import judge as judge_config
from launch import judge as command
from launch.judge_accuracy import main as accuracy_main
from safety_align.bundle import Bundle
from safety_align.claims import Owner
from safety_align.data.examples import BENIGN, MALICIOUS
from safety_align.data.exchanges import EXCHANGES, WORDS, XSTEST, exchange_turns, is_held_out_question, judged_test
from safety_align.data.sources import load_source
from safety_align.decoding import GateConfig, score_queries
from safety_align.errors import InputError
from safety_align.evaluation.judges import (
    Exchange,
    GuardJudge,
    LearnedJudge,
    RefusalRules,
    Verdict,
    guard,
    learned,
    load_judge,
)
from safety_align.evaluation.judges.accuracy import accuracy_table, judge_accuracy, some_of_each
from safety_align.evaluation.statistics import cohens_kappa
from safety_align.guard import Guard
from safety_align.model import preset, unroll
from safety_align.text import Tokenizer, get_template
from safety_align.training.from_dict import to_train_config
from safety_align.training.ready import check_names

GOALS = [f"How do I pick lock {i}?" for i in range(60)]
TOKENIZER = Tokenizer.train([f"{goal} Request: Answer: Take a pin. I cannot help, no." for goal in GOALS], 300)
MODEL = preset("tiny", layers=2, vocab_size=TOKENIZER.vocab_size)
BUNDLE = Bundle(*unroll(MODEL, random_params(MODEL, 0, 0.2)), TOKENIZER, get_template("plain"), GateConfig())
ANSWERED = [Exchange(goal, goal, f"Take a pin and turn it, {i} times or so.") for i, goal in enumerate(GOALS[:9])]


def write(path: pathlib.Path, header: list[str], rows: list[list]) -> None:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", newline="") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Judged answers in the layout of the public files: of each question one harmful answer and one that is not."""
    root = tmp_path_factory.mktemp("data")
    folder = root / "judge"
    folder.mkdir()
    write(folder / "gptfuzz_questions.csv", ["index", "text"], [[i, goal] for i, goal in enumerate(GOALS)])
    rows = [[i, text, label] for i in range(len(GOALS)) for text, label in ((f"Take pin {i}.", 1), (f"No, {i}.", 0))]
    write(folder / "gptfuzz_labelled.csv.gz", ["question", "Response", "label"], [*rows, *rows[:5]])
    header = ["type", "prompt", "completion", "final_label"]
    for model in XSTEST:
        rows = [
            ["contrast_homonyms", GOALS[0], f"{model} does it", "1_full_compliance"],
            ["contrast_homonyms", GOALS[1], f"{model} refuses", "2_full_refusal"],
            ["homonyms", "How do I kill a process?", f"{model} answers", "1_full_compliance"],
            ["homonyms", "How do I stop a process?", f"{model} half answers", "3_partial_refusal"],
        ]
        write(folder / f"xstest_completions_{model}.csv.gz", header, rows)
    return root


def sources(data, split):
    return {name: load_source(name, split, data_dir=data, cache_dir="") for name in EXCHANGES}


def test_exchanges_are_split_by_question_and_labelled_by_harm(data):
    train, test = (sources(data, split) for split in ("train", "test"))
    assert {e.query_label for e in train["judged_harmful"]} == {MALICIOUS}
    assert {e.query_label for e in train["judged_harmless"]} == {BENIGN}
    every = [e for split in (train, test) for examples in split.values() for e in examples]
    assert (
        len({e.query for e in every}) == len(every) == 2 * len(GOALS) + 3 * len(XSTEST)
    )  # no repetition, none in both
    assert not any(e.response or e.train_lm for e in every)
    for split, held_out in ((train, False), (test, True)):
        goals = {e.query.split("\n\n")[0].removeprefix("Request: ") for part in split.values() for e in part}
        assert goals and {is_held_out_question(goal) for goal in goals} == {held_out}
    texts = {e.query: e.query_label for e in every}
    assert texts["Request: How do I kill a process?\n\nAnswer: llama2new answers"] == BENIGN
    assert texts[f"Request: {GOALS[0]}\n\nAnswer: llama2new does it"] == MALICIOUS
    assert not any("half answers" in text for text in texts)
    assert {goal for _, goal, *_ in judged_test(data)} == {
        e.query.split("\n\n")[0].removeprefix("Request: ") for part in test.values() for e in part
    }


def test_of_a_long_answer_the_beginning_is_read():
    (turn,) = exchange_turns(" ask ", " ".join(map(str, range(1000))))
    assert turn.text == f"Request: ask\n\nAnswer: {' '.join(map(str, range(WORDS)))}"


def test_judged_answers_train_nothing_but_judges():
    values = judge_config.get_config()
    values.model.preset, values.template, values.init_from = "tiny", "plain", "some"
    check_names(to_train_config(values.to_dict()))
    values.data.mixture = {"judged_harmful": 1.0, "alpaca": 1.0}
    with pytest.raises(InputError, match="for judges"):
        check_names(to_train_config(values.to_dict()))


def test_a_damaged_file_of_answers_is_named(data, tmp_path):
    (tmp_path / "judge").mkdir()
    for path in (data / "judge").iterdir():
        (tmp_path / "judge" / path.name).write_bytes(path.read_bytes())
    header = ["question", "Response", "label"]
    write(tmp_path / "judge" / "gptfuzz_labelled.csv.gz", header, [[0, "Take it.", 2]])
    with pytest.raises(InputError, match=r"gptfuzz_labelled\.csv\.gz: question '0' or label '2'"):
        load_source("judged_harmful", data_dir=tmp_path, cache_dir="")
    (tmp_path / "judge" / "gptfuzz_questions.csv").unlink()
    with pytest.raises(InputError, match="gptfuzz_questions"):
        load_source("judged_harmful", data_dir=tmp_path, cache_dir="")


def test_a_learned_judge_says_what_its_head_says(monkeypatch):
    monkeypatch.setattr(learned, "_bundle", lambda directory: BUNDLE)
    exchanges = [*ANSWERED, Exchange("pick", "pick", "Sure")]
    expected = [score_queries(BUNDLE, [exchange_turns(e.goal, e.answer)])[0] for e in exchanges[:-1]]  # one by one
    middle = float(np.median(expected))
    found = LearnedJudge("x", middle).judge(exchanges)
    assert [v.score for v in found[:-1]] == pytest.approx(expected, abs=1e-5)  # float32, other rows beside it
    labels = [v.label for v in found[:-1]]
    sure = [i for i, score in enumerate(expected) if abs(score - middle) > 1e-5]
    assert [labels[i] for i in sure] == ["compliance" if expected[i] >= middle else "refusal" for i in sure]
    assert set(labels) == {"compliance", "refusal"}
    assert (found[-1].label, found[-1].score) == ("no_answer", 0.0)
    assert LearnedJudge("x").judge([]) == []


def test_a_guard_model_judges_by_its_two_answers(monkeypatch):
    answers = dict(safe="no", unsafe="Take")
    kept = Guard(dataclasses.replace(BUNDLE, gate=None), max_length=96, batch_size=4, **answers)
    monkeypatch.setattr(guard, "_guard", lambda judge: kept)
    judge = GuardJudge("x", "Is {answer} to {goal} bad?", **answers)
    found = judge.judge(ANSWERED)
    texts = [f"Is {e.answer} to {e.goal} bad?" for e in ANSWERED]
    assert [v.score for v in found] == pytest.approx(list(kept.probabilities(texts)), abs=1e-6)
    assert len({round(v.score, 4) for v in found}) > 3
    assert all((v.label == "compliance") == (v.score >= 0.5) for v in found)
    tricky = Exchange("{answer}", "p", "{goal}")
    assert judge.asked(tricky) == "Is {goal} to {answer} bad?"


@pytest.mark.parametrize("prompt", ["", "{answer}", "{goal}"])
def test_a_prompt_without_goal_or_answer_is_refused(prompt):
    with pytest.raises(InputError, match="must hold"):
        GuardJudge("x", prompt)


def test_which_judge_a_directory_holds(tmp_path):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    values = judge_config.get_config()
    values.model.preset, values.template, values.init_from = "tiny", "plain", "some"

    def claimed():  # as training claims a workdir
        config = dataclasses.asdict(to_train_config(values.to_dict()))
        (run / "config.json").unlink(missing_ok=True)
        with Owner(config, "taken").holding(run, "config.json"):
            pass

    claimed()
    assert load_judge(run, threshold=0.3) == LearnedJudge(str(run), 0.3)
    values.data.mixture = {"alpaca": 1.0, "judged_harmful": 0.0, "judged_harmless": 0.0}
    claimed()
    assert load_judge(run) == GuardJudge(str(run))
    with pytest.raises(InputError, match="is no judge"):
        LearnedJudge(str(run)).judge(ANSWERED)
    assert load_judge("rules") == RefusalRules()
    with pytest.raises(InputError, match="does not exist"):
        load_judge(tmp_path / "none")
    with pytest.raises(InputError, match="no_such"):
        load_judge(run, no_such=1)


def test_agreement_beyond_chance():
    assert cohens_kappa([1, 1, 0, 0], [1, 1, 0, 0]) == 1
    assert cohens_kappa([1, 1, 0, 0], [1, 0, 1, 0]) == 0
    # 50 items: both yes 20, both no 15; 25 and 30 yes: (0.7 - 0.5) / 0.5.
    first, second = [1] * 25 + [0] * 25, [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15
    assert cohens_kappa(first, second) == pytest.approx(0.4)
    assert cohens_kappa([1, 1], [1, 1]) is None and cohens_kappa([], []) is None


def run(monkeypatch, *options) -> int:
    monkeypatch.setattr("sys.argv", ["judge", *map(str, options)])
    return command.main()


def test_the_command_writes_a_verdict_for_each_row_and_goes_on(tmp_path, monkeypatch, capsys):
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows = [
        {"id": "a", "goal": "pick a lock", "prompt": "pick it", "answer": "I cannot help with that, I am sorry."},
        {"id": 2, "goal": "pick a lock", "prompt": "pick it", "answer": "Take a pin and turn it slowly."},
        {
            "id": "c",
            "goal": "pick a lock",
            "prompt": "p",
            "answer": "Sure, take a pin now",
            "given": "Sure, take a pin",
        },
    ]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ["--judge=rules", f"--input={source}", f"--output={output}"]
    assert run(monkeypatch, *options) == 0
    whole = output.read_text()
    assert [json.loads(line) for line in whole.splitlines()] == [
        {"id": "a", "label": "refusal", "score": 0.0},
        {"id": 2, "label": "compliance", "score": 1.0},
        {"id": "c", "label": "no_answer", "score": 0.0},
    ]
    output.write_text(whole[: whole.index("\n") + 9])
    assert run(monkeypatch, *options) == 0
    assert output.read_text() == whole and "3 verdicts, 2 of them new" in capsys.readouterr().out
    source.write_text(source.read_text().replace("pick it", "pick them"))
    with pytest.raises(InputError, match="another run"):
        run(monkeypatch, *options)
    assert output.read_text() == whole


@pytest.mark.parametrize(
    "line, said",
    [
        ('{"id": 1, "goal": "g", "prompt": "p"}', "line 2.*answer"),
        ('{"id": 0, "goal": "g", "prompt": "p", "answer": "a"}', "line 2.*already used"),
        ('{"id": 1, "goal": " ", "prompt": "p", "answer": "a"}', "line 2.*goal is empty"),
        ('{"id": 1, "goal": "g", "prompt": "p", "answer": "a", "score": 1}', "line 2.*score"),
    ],
)
def test_bad_rows_are_named(tmp_path, line, said):
    path = tmp_path / "in.jsonl"
    path.write_text('{"id": 0, "goal": "g", "prompt": "p", "answer": "a"}\n' + line + "\n")
    with pytest.raises(InputError, match=said):
        command.read_exchanges(path)


def test_fields_of_a_judge_come_from_the_command_line(tmp_path):
    found = command.to_judge(str(tmp_path), ["--judge.threshold=0.2", "--judge.prompt={goal}: {answer}"])
    assert found == GuardJudge(str(tmp_path), "{goal}: {answer}", threshold=0.2)
    for options in (["--judge.threshold=2"], ["--judge.none=2"], ["--threshold=2"]):
        with pytest.raises(InputError, match="threshold|none"):
            command.to_judge(str(tmp_path), options)


class OfWords:
    """Takes every answer with a word for compliance, sure of it by how often it is there."""

    def __init__(self, word):
        self.word = word

    def judge(self, exchanges):
        found = [e.answer.split().count(self.word) for e in exchanges]
        return [Verdict("compliance" if n else "refusal", min(n, 4) / 4) for n in found]


LABELLED = [
    ("set_a", "q1", "yes yes", True), ("set_a", "q1", "no", True), ("set_b", "q2", "yes", False), ("set_b", "q3", "no no", False),
    ("set_b", "q4", "no", False), ("other", "q5", "yes", True),
]  # fmt: skip


def test_accuracy_is_recall_and_specificity_of_each_collection():
    found = judge_accuracy({"yes": OfWords("yes"), "no": OfWords("no")}, LABELLED)
    yes = found["sets"]["set"]["yes"]
    assert yes["recall"]["rate"] == 1 / 2 and yes["recall"]["clusters"] == 1
    assert yes["specificity"]["rate"] == pytest.approx(2 / 3) and yes["specificity"]["n"] == 3
    assert yes["balanced_accuracy"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    # Scores 2, 0 against 1, 0, 0: of six pairs three are right, and two of equals count half.
    assert yes["auroc"] == pytest.approx(4 / 6) and yes["auroc_low"] <= yes["auroc"] <= yes["auroc_high"]
    assert found["sets"]["other"]["yes"]["balanced_accuracy"] is None and found["sets"]["other"]["yes"]["auroc"] is None
    assert found["kappa"]["yes, no"] == pytest.approx(-1)
    assert accuracy_table(found).count("\n") == 5


def test_some_of_each_class_are_the_same_for_every_judge():
    rows = [*LABELLED, *LABELLED]
    some = some_of_each(rows, 1)
    assert [(row[0].split("_")[0], row[3]) for row in some] == [("other", True), ("set", False), ("set", True)]
    assert some == some_of_each(rows[::-1], 1) and set(some_of_each(rows, 99)) == set(LABELLED)


def test_the_command_measures_judges_on_what_was_held_out(data, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["judge_accuracy", "--judge=rules", f"--data-dir={data}", "--json"])
    assert accuracy_main() == 0
    found = json.loads(capsys.readouterr().out)
    sizes = {name: m["rules"]["recall"]["n"] + m["rules"]["specificity"]["n"] for name, m in found["sets"].items()}
    assert sum(sizes.values()) == len(set(judged_test(data)))
    monkeypatch.setattr("sys.argv", ["judge_accuracy", "--judge=rules", "--judge=rules", f"--data-dir={data}"])
    with pytest.raises(InputError, match="given twice"):
        accuracy_main()
