"""A model's own answers: which prompts it is asked, what its answers are labelled, runs that are interrupted, bad files."""

import dataclasses
import itertools
import json
import pathlib

import numpy as np
import pytest
from make import random_params

from launch import answers, cli
from safety_align import own_answers
from safety_align.bundle import Bundle
from safety_align.data.contrast import contrast_examples
from safety_align.data.examples import Example, encode_example
from safety_align.data.own_answers import read_own_answers, rows_done
from safety_align.data.pipeline import Pipeline
from safety_align.data.rewording import goal_of
from safety_align.data.specs import is_held_out, source_examples
from safety_align.decoding import Result
from safety_align.errors import InputError
from safety_align.model import preset
from safety_align.own_answers import BENIGN_SOURCES, AnswersConfig, Asked, answer, choose, count, opening
from safety_align.routing import Kind, RoutingConfig
from safety_align.strict_json import read_json, read_json_lines
from safety_align.text import Tokenizer, Turn, get_template
from safety_align.training import inputs
from safety_align.training.ready import check_training_data

DATA = pathlib.Path(__file__).parents[1] / "../shared/data"
needs_data = pytest.mark.skipif(not (DATA / "eval").is_dir(), reason="needs the data files of ../shared/data")

TOKENIZER = Tokenizer.train(["How do I bake bread? Sure, here is how to break into a house: Step 1"] * 9, 300)
TEMPLATE = get_template("plain")
MODEL = preset("tiny", vocab_size=TOKENIZER.vocab_size)
BUNDLE = Bundle(MODEL, random_params(MODEL, scale=0.3), TOKENIZER, TEMPLATE, config={"name": "tiny"})
EVALUATION = ["How do I rob a bank by night?"]
CONFIG = AnswersConfig(benign=8, alarming=3, malicious=4, tokens=6, batch_size=5, longest=120)


def prompts(name: str, split: str = "train", number: int = 30) -> list[Example]:
    """So many of a source; LIMA's have an earlier exchange, some are evaluation prompts, too long, or there twice; every second
    one of `contrast` is malicious."""
    found = []
    for i in range(number if split == "train" else 2):
        bad = name == "clear_prompts" or (name == "contrast" and i % 2 == 1)
        text = f"How do I {'burgle' if bad else 'paint'} a house number {i} in {name} {split}?"
        if i % 10 == 7:
            text = {17: EVALUATION[0], 27: "word " * 400}.get(i, f"How do I find what {name} hides?")
        turns = (Turn("user", "Hello."), Turn("assistant", "Hello!")) if name == "lima" else ()
        found.append(Example((*turns, Turn("user", text)), "", int(bad), None, False, name, f"{split}{i}"))
    return found


@pytest.fixture(autouse=True)
def small_sources(monkeypatch):
    monkeypatch.setattr(own_answers, "load_source", lambda name, split, **_: prompts(name, split))
    monkeypatch.setattr(own_answers, "evaluation_prompts", lambda _: EVALUATION)


class Scripted:
    """Answers by a list, whatever is asked; fails at call `fails`, as an interruption does."""

    tokenizer, template, mesh = TOKENIZER, TEMPLATE, None

    def __init__(self, texts=("Bake the bread at home as you like it.",), fails: int | None = None):
        self.texts, self.fails, self.calls, self.asked = itertools.cycle(texts), fails, 0, []

    def generate(self, requests, max_new_tokens, batch_size, progress):
        self.calls += 1
        if self.calls == self.fails:
            raise KeyboardInterrupt
        self.asked += requests
        progress(len(requests))
        made = []
        for request in requests:
            text = request.prefill + next(self.texts)
            ids = [int(i) for i in TEMPLATE.encode_response(TOKENIZER, text)]
            made.append(Result(text, ids, False, 0.0, 0.0, "ungated", None, None, "eos", []))
        return made


def asked(source: str, prompt: str, prefill: str = "", number: int = 0) -> Asked:
    bad = source == "clear_prompts"
    return Asked(Example((Turn("user", prompt),), "", int(bad), None, False, source, str(number)), prefill)


def rows(path):
    return [row for _, row in read_json_lines(path / "answers.jsonl")]


# --- which prompts ----------------------------------------------------------------------------------------------------


def test_prompts_are_drawn_by_a_seed_from_every_source():
    found = choose(CONFIG, BUNDLE)
    by_source = {
        name: [a for a in found if a.example.source == name] for name in (*BENIGN_SOURCES, "contrast", "clear_prompts")
    }
    assert {name: len(each) for name, each in by_source.items()} == {
        "alpaca": 2, "dolly": 2, "lima": 2, "gsm8k": 2, "contrast": 3, "clear_prompts": 8,
    }  # fmt: skip
    assert sum(bool(a.prefill) for a in found) == sum(bool(a.prefill) for a in by_source["clear_prompts"]) == 4
    assert not any(a.example.query_label for a in by_source["contrast"])
    assert choose(CONFIG, BUNDLE) == found != choose(dataclasses.replace(CONFIG, seed=1), BUNDLE)
    assert len({a.id for a in found}) == len({a.example.query for a in found}) == len(found)
    lengths = [len(TEMPLATE.encode(TOKENIZER, a.example.turns).ids) for a in found if not a.prefill]
    assert lengths == sorted(lengths) and [bool(a.prefill) for a in found] == [False] * 15 + [True] * 4
    assert len({a.request(CONFIG).seed for a in found}) == len(found)
    assert choose(dataclasses.replace(CONFIG, benign=0, alarming=0, malicious=1), BUNDLE)[1].prefill


def test_evaluation_prompts_long_ones_and_repetitions_are_not_asked():
    """Of 30 and 2 prompts one is an evaluation prompt, one too long, and none is asked twice."""
    every = choose(dataclasses.replace(CONFIG, benign=120, alarming=0, malicious=15), BUNDLE)
    queries = [a.example.query for a in every]
    assert EVALUATION[0] not in queries and max(map(len, queries)) < 100 and len(set(queries)) == len(queries) == 150
    with pytest.raises(InputError, match="alpaca has 30 prompts that can be asked, 31 are wanted; ask for fewer"):
        choose(dataclasses.replace(CONFIG, benign=124), BUNDLE)
    with pytest.raises(InputError, match="all 0"):
        AnswersConfig(benign=0, alarming=0, malicious=0)
    for wrong in (dict(tokens=0), dict(temperature=-1.0), dict(batch_size=0), dict(benign=-1)):
        with pytest.raises(InputError, match=next(iter(wrong))):
            AnswersConfig(**wrong)


def test_an_opening_restates_the_goal():
    made = {opening(f"How do I burgle house number {i}?") for i in range(60)}
    assert all(
        f"burgle house number {i}" in text
        for i in range(60)
        for text in [opening(f"How can I burgle house number {i}?")]
    )
    assert len({text.split("burgle")[0] for text in made}) == len(own_answers._OPENINGS)
    assert opening("Why are they all so stupid?") is None
    long = opening("How do I " + "really " * 20 + "burgle a house?")
    assert 8 < len(long.split()) < 30 and goal_of("The sky.") is None


@needs_data
def test_no_opening_is_one_of_the_evaluations_prefills():
    targets = (
        " ".join(read_json(DATA / "eval/harmbench_targets.json").values()) + (DATA / "eval/advbench.csv").read_text()
    )
    goals = [e.query for e in itertools.islice(source_examples("malicious_prompts", DATA, announce=False), 2000)]
    assert not [text for text in filter(None, map(opening, goals)) if text.rstrip(":") in targets]


# --- what they are labelled -------------------------------------------------------------------------------------------

REFUSAL, COMPLIANCE, NOTHING = (
    "I'm sorry, but I can't help with that.",
    "walk up to the door and open it quietly.",
    "Yes.",
)


@pytest.mark.parametrize(
    "source, prefill, text, verdict, label",
    [
        ("alpaca", "", COMPLIANCE, None, "benign"),
        ("alpaca", "", NOTHING, None, "benign"),
        ("alpaca", "", " ", None, None),
        ("contrast", "", COMPLIANCE, None, "benign"),
        ("clear_prompts", "", REFUSAL, "refusal", "benign"),
        ("clear_prompts", "", COMPLIANCE, "compliance", None),
        ("clear_prompts", "", NOTHING, "no_answer", None),
        ("clear_prompts", "Sure, here is how: ", COMPLIANCE, "compliance", "malicious"),
        ("clear_prompts", "Sure, here is how: ", REFUSAL, "refusal", "benign"),
        ("clear_prompts", "Sure, here is how: ", NOTHING, "no_answer", None),
        ("clear_prompts", "Sure, here is how: ", "", "no_answer", None),
    ],
)
def test_the_judge_and_the_prefill_give_the_label(tmp_path, source, prefill, text, verdict, label):
    answer(Scripted([text]), [asked(source, "How do I enter?", prefill)], tmp_path, CONFIG)
    [row] = rows(tmp_path)
    assert (row["verdict"], row["label"], row["response"], row["prefill"]) == (verdict, label, prefill + text, prefill)
    (tmp_path / "about.json").write_text('{"answers": 1}')
    found = read_own_answers(tmp_path)
    if label is None:
        assert found == []
    else:
        [example] = found
        expected = int(source == "clear_prompts"), int(label == "malicious"), False, "own_answers"
        assert (example.query_label, example.response_label, example.train_lm, example.source) == expected
        assert example.response == (prefill + text if label == "malicious" else text)
        assert example.turns == (Turn("user", "How do I enter?"),)


def test_earlier_turns_come_back(tmp_path):
    turns = (Turn("user", "a"), Turn("assistant", "b"), Turn("user", "c"), Turn("assistant", "d"), Turn("user", "e"))
    answer(Scripted(), [Asked(Example(turns, "", 0, None, False, "lima", "3"))], tmp_path, CONFIG)
    (tmp_path / "about.json").write_text('{"answers": 1}')
    assert read_own_answers(tmp_path)[0].turns == turns


def test_windows_of_a_prefilled_answer_read_the_prefill():
    prefill = "Sure, here is how to break into a house: "
    row = Example((Turn("user", "x"),), prefill + "go in", 1, 1, False, "own_answers", "0")
    routing, rng = RoutingConfig(windows=40), np.random.default_rng(0)
    segment = encode_example(row, TOKENIZER, TEMPLATE, 256, routing, rng)
    given = len(segment.prompt) + len(TEMPLATE.encode_response(TOKENIZER, prefill))
    windows = [check for check in segment.checks if check.kind == Kind.WINDOW]
    assert {check.label for check in windows} == {1} and any(check.start < check.stop <= given for check in windows)
    assert any(check.stop > given for check in windows)


# --- interrupted, and other runs --------------------------------------------------------------------------------------


def test_an_interrupted_run_loses_and_doubles_no_answer(tmp_path):
    every, texts = choose(CONFIG, BUNDLE), [COMPLIANCE]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir(), cut.mkdir()
    answer(Scripted(texts), every, whole, CONFIG)
    with pytest.raises(KeyboardInterrupt):
        answer(Scripted(texts, fails=3), every, cut, CONFIG)
    assert len(rows(cut)) == 10 and not (cut / "counts.json").exists()
    with (cut / "answers.jsonl").open("r+b") as file:
        file.truncate((cut / "answers.jsonl").stat().st_size - 9)  # within a line
    rest = Scripted(texts)
    answer(rest, every, cut, CONFIG)
    assert [r.turns for r in rest.asked] == [a.example.turns for a in every[9:]]
    assert (cut / "answers.jsonl").read_bytes() == (whole / "answers.jsonl").read_bytes()
    assert read_json(cut / "counts.json") == count(whole / "answers.jsonl")
    again = Scripted(texts)
    assert answer(again, every, cut, CONFIG) == 0 and again.calls == 0


def test_a_file_of_other_answers_is_left_alone(tmp_path):
    every = choose(CONFIG, BUNDLE)
    answer(Scripted(), every, tmp_path, CONFIG)
    path = tmp_path / "answers.jsonl"
    before = path.read_bytes()
    for ids, said in (
        ([a.id for a in every[1:]], "has 19 answers, 18 are wanted"),
        (["x"] * 19, "line 1.*in place of 'x'"),
    ):
        with pytest.raises(InputError, match=said):
            rows_done(path, ids)
    assert path.read_bytes() == before
    path.write_bytes(b'{"id": 5}\n')
    with pytest.raises(InputError, match="line 1"):
        rows_done(path, ["x"])


def command(monkeypatch, *arguments):
    monkeypatch.setattr("safety_align.interop.load_unrolled", lambda *_: BUNDLE)
    monkeypatch.setattr(
        "sys.argv",
        ["answers", "--checkpoint=tiny", "--benign=4", "--alarming=2", "--malicious=1", "--tokens=4", *arguments],
    )
    return answers.main()


@pytest.mark.slow
def test_the_command_answers_and_goes_on(tmp_path, monkeypatch, capsys):
    output = tmp_path / "out"
    assert command(monkeypatch, f"--output={output}", "--batch_size=3") == cli.EXIT_OK
    said = capsys.readouterr()
    assert "new tokens" in said.out and "alpaca  " in said.out and "answers: 100%" in said.err
    found = rows(output)
    assert len(found) == 8 and all(row["response"].startswith(row["prefill"]) for row in found)
    about = read_json(output / "about.json")
    assert (about["answers"], about["tokens"], about["model"]) == (8, 4, {"name": "tiny"})
    assert sum(sum(labels.values()) for labels in read_json(output / "counts.json").values()) == 8
    first = (output / "answers.jsonl").read_bytes()
    (output / "answers.jsonl").write_bytes(b"\n".join(first.split(b"\n")[:4]) + b"\n")
    assert command(monkeypatch, f"--output={output}", "--batch_size=3") == cli.EXIT_OK
    assert (output / "answers.jsonl").read_bytes() == first
    assert command(monkeypatch, f"--output={output}", "--batch-size=9") == cli.EXIT_OK  # as large as one likes
    with pytest.raises(InputError, match="answers of another model, or to other prompts .*tokens: 4 there, 5 here"):
        command(monkeypatch, f"--output={output}", "--tokens=5")
    for wrong in ("--benign=-1", "--tokens=0", "--temperature=x"):
        with pytest.raises(InputError, match=wrong.split("=")[0]):
            command(monkeypatch, f"--output={output}", wrong)


# --- read by a run ----------------------------------------------------------------------------------------------------


def written(tmp_path, *changed, answers=2):
    good = dict(
        id="alpaca/1", source="alpaca", history=[], prompt="p", prefill="", response="r", verdict=None, label="benign"
    )
    lines = [json.dumps(good | {"id": f"alpaca/{i}"} | row) for i, row in enumerate(changed)]
    (tmp_path / "answers.jsonl").write_text("".join(line + "\n" for line in lines))
    (tmp_path / "about.json").write_text(json.dumps({"answers": answers}))
    return tmp_path


@pytest.mark.parametrize(
    "row, said",
    [
        ({"source": "nobody"}, "line 2: 'nobody' is no source"),
        ({"source": "text_imdb"}, "line 2: 'text_imdb' is no source"),
        ({"label": "malicious"}, "line 2: a malicious answer to a benign prompt, of alpaca"),
        ({"label": "perhaps"}, "line 2: label"),
        ({"response": " "}, "line 2: the prompt or the response is empty"),
        ({"prefill": "Sure"}, "line 2: the response does not begin with its prefill"),
        ({"prefill": "r"}, "line 2: the prompt or the response is empty"),
        ({"history": [["a"]]}, "line 2: history"),
        ({"prompt": 5}, "line 2: prompt"),
        ({"id": "alpaca/0"}, "line 2: the answer 'alpaca/0' is already in line 1"),
    ],
)
def test_a_bad_row_is_named(tmp_path, row, said):
    with pytest.raises(InputError, match=said):
        read_own_answers(written(tmp_path, {}, row))


def test_answers_are_all_there_or_refused(tmp_path):
    assert [e.id for e in read_own_answers(written(tmp_path, {}, {"label": None, "response": ""}))] == ["alpaca/0"]
    with pytest.raises(InputError, match="holds 1 answers of 2: run the same launch.answers command again"):
        read_own_answers(written(tmp_path, {}))
    with pytest.raises(InputError, match="holds no answers"):
        read_own_answers(written(tmp_path, {}, answers=0))
    with pytest.raises(InputError, match="holds no answers"):
        read_own_answers(tmp_path / "nothing")


def test_a_run_reads_them_by_split_without_evaluation_prompts(tmp_path, monkeypatch):
    from test_inputs import CONFIG as RUN

    texts = [f"Question number {i}?" for i in range(200)]
    folder = written(tmp_path, *({"prompt": text} for text in [*texts, EVALUATION[0]]), answers=201)
    mixture = dataclasses.replace(RUN.pipeline, mixture=(("own_answers", 1.0),))
    data = dataclasses.replace(RUN.data, own_answers=str(folder), data_dir=str(tmp_path))
    config = dataclasses.replace(RUN, pipeline=mixture, data=data)
    monkeypatch.setattr(inputs, "evaluation_prompts", lambda _: EVALUATION)
    train, test = (inputs.load_examples(config, "own_answers", split) for split in ("train", "test"))
    assert {e.query for e in train} | {e.query for e in test} == set(texts) and 0 < len(test) < 25
    assert all(is_held_out(e) for e in test) and not any(is_held_out(e) for e in train)
    with pytest.raises(InputError, match="eval does not exist"):
        check_training_data(config)
    (tmp_path / "eval").mkdir()
    check_training_data(config)
    for value, said in (
        ("", "own_answers is empty; give the directory of launch.answers"),
        ("no", "about.json does not exist"),
    ):
        with pytest.raises(InputError, match=said):
            check_training_data(dataclasses.replace(config, data=dataclasses.replace(data, own_answers=value)))


@needs_data
def test_one_mixture_takes_them_all(tmp_path):
    """Benign answers of four sources, unsafe ones, the model's own, and contrast pairs: by weights of conversations."""
    from test_inputs import CONFIG as RUN

    prompt = [{"id": f"malicious_prompts/{i}", "source": "clear_prompts", "label": "malicious"} for i in range(9)]
    folder = written(tmp_path, *prompt, answers=9)
    names = (*BENIGN_SOURCES, "beavertails", "own_answers", "contrast")
    pipeline = dataclasses.replace(RUN.pipeline, mixture=tuple((name, 1.0) for name in names))
    data = dataclasses.replace(RUN.data, own_answers=str(folder), data_dir=str(DATA))
    check_training_data(dataclasses.replace(RUN, pipeline=pipeline, data=data))
    made = {"own_answers": read_own_answers(folder), "contrast": contrast_examples("test", per_form=1)}
    files = {n: list(itertools.islice(source_examples(n, DATA, announce=False), 1029)) for n in names if n not in made}
    batches = Pipeline(
        dataclasses.replace(pipeline, sequence_length=512), made | files, TOKENIZER, TEMPLATE, RUN.routing
    )
    try:
        drawn = [next(batches) for _ in range(12)]
    finally:
        batches.close()
    for kind in (Kind.QUERY, Kind.WINDOW):
        found = [b.cls_labels[(b.cls_kinds == kind) & (b.cls_weights > 0)] for b in drawn]
        assert 0.1 < np.concatenate(found).mean() < 0.7, kind


@needs_data
@pytest.mark.parametrize("source", BENIGN_SOURCES)
def test_benign_answers_of_files_give_windows_all_along(source):
    """Long ones, too, and those of several turns."""
    routing, rng = RoutingConfig(windows=8), np.random.default_rng(0)
    examples = list(itertools.islice(source_examples(source, DATA, announce=False), 1030))[-40:]
    places, kinds = [], set()
    for example in examples:
        segment = encode_example(example, TOKENIZER, TEMPLATE, 8192, routing, rng)
        begin, length = len(segment.prompt), len(segment.response)
        kinds |= {(check.kind, check.label) for check in segment.checks}
        places += [(c.stop - begin) / length for c in segment.checks if c.kind == Kind.WINDOW]
    assert kinds == {(kind, 0) for kind in (Kind.QUERY, Kind.ALERTED, Kind.WINDOW)}
    assert all(len([p for p in places if low <= p <= low + 0.25]) > 0.15 * len(places) for low in (0, 0.25, 0.5, 0.75))
    if source == "lima":
        assert {len(example.turns) for example in examples} > {1}
