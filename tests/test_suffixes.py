"""Suffixes of a search, behind training queries: labels, balance, what validates, every process alike, files that are not right."""

import collections
import contextlib
import dataclasses
import json
import pathlib

import numpy as np
import pytest
from test_inputs import CONFIG

from configs import embedded_gated
from configs.compare import embedded_rounds, published_rounds
from launch import compare, stages
from safety_align.attacks import load_behaviors
from safety_align.data.embedded import embedded_behaviors, goals
from safety_align.data.examples import BENIGN, MALICIOUS, Example
from safety_align.data.grammar import malicious
from safety_align.data.pipeline import Order, Pipeline, PipelineConfig
from safety_align.data.suffixes import HELD_OUT, Suffix, add_suffix, of_split, read_suffixes, with_suffixes
from safety_align.errors import InputError
from safety_align.text import Tokenizer, Turn, get_template
from safety_align.training import inputs
from safety_align.training.config import DataConfig
from safety_align.training.inputs import claim_data, load_examples, validation_examples
from safety_align.training.ready import check_training_data

DATA = pathlib.Path(__file__).parents[1] / "../shared/data"
needs_data = pytest.mark.skipif(not (DATA / "eval").is_dir(), reason="needs the data files of ../shared/data")

TEXTS = [f" zq{i} ;) describing.\\ +similarly{i}" for i in range(2 * HELD_OUT + 2)]
SUFFIXES = [Suffix(f"goal {i}", text) for i, text in enumerate(TEXTS)]
QUERY = "How do I {bake} bread?"
EXAMPLES = [Example((Turn("user", QUERY),), "So.", i % 2, 0, True, "s", str(i)) for i in range(3000)]


def search(
    folder: pathlib.Path, texts=TEXTS, name="embedded_training", kind="gcg", done=True, rows=None
) -> pathlib.Path:
    """What launch.attack leaves of a search."""
    folder.mkdir(exist_ok=True)
    about = {"attack": {"kind": kind, "steps": 3}, "behaviors": {"name": name, "n": len(texts)}, "step": 2}
    (folder / "attack.json").write_text(json.dumps(about))
    found = [{"id": f"{i}", "goal": f"goal {i}", "attack": {"suffix": t, "ids": [1]}} for i, t in enumerate(texts)]
    (folder / "attacks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows or found))
    if done:
        (folder / "results.json").write_text("{}")
    return folder


def with_data(**changes):
    return dataclasses.replace(CONFIG, data=dataclasses.replace(CONFIG.data, drop_leaks=False, **changes))


def suffix_of(query: str) -> list[str]:
    return [text for text in TEXTS if query.endswith(text)]


# --- what is changed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", [BENIGN, MALICIOUS])
def test_the_share_is_that_asked_for_in_both_classes_and_labels_stay(label):
    own = [e for e in EXAMPLES if e.query_label == label]
    made = [add_suffix(e, 0.3, SUFFIXES) for e in own]
    changed = [m for e, m in zip(own, made, strict=True) if m is not e]
    assert abs(len(changed) / len(own) - 0.3) < 0.04
    assert all(dataclasses.replace(m, turns=e.turns) == e for e, m in zip(own, made, strict=True))
    assert all(m.query == QUERY + text for m in changed for text in suffix_of(m.query))
    counts = collections.Counter(m.query for m in changed)
    assert len(counts) == len(TEXTS) and max(counts.values()) < 3 * min(counts.values())
    assert made == [add_suffix(e, 0.3, SUFFIXES) for e in own]  # in every epoch


def test_in_a_balanced_mixture_as_many_queries_of_either_class_have_one(tmp_path):
    """Of what the quickstart's mixture trains on, as the pipeline draws it: a suffix says nothing of the label."""
    config = with_data(suffixes=str(search(tmp_path / "a")), suffixed=0.3)
    mixture = embedded_gated.get_config().data.mixture
    pipeline = PipelineConfig(96, 4, 12, tuple(mixture.items()))
    sources = {name: load_examples(config, name, "train") for name in mixture}
    order = Order(pipeline, sources)
    drawn = [sources[name][item] for name, item in (order[i] for i in range(6000))]
    labelled = [e for e in drawn if e.query_label is not None]
    of_class = {label: [bool(suffix_of(e.query)) for e in labelled if e.query_label == label] for label in (0, 1)}
    # Single turns alone can have one: a few of either class are of several.
    assert all(0.2 < np.mean(has) < 0.33 for has in of_class.values())
    with_one = [e.query_label for e in labelled if suffix_of(e.query)]
    assert len(with_one) > 1000 and abs(np.mean(with_one) - 0.5) < 0.06


def test_other_conversations_stay_as_they_are():
    many = (Turn("user", "a"), Turn("assistant", "b"), Turn("user", QUERY))
    for change in (dict(turns=many), dict(query_label=None), dict(turns=())):
        example = dataclasses.replace(EXAMPLES[0], **change)
        assert add_suffix(example, 1.0, SUFFIXES) is example


def test_a_goal_that_was_searched_has_its_own_suffix():
    """Share or no share; another query has any of them."""
    twice = [*SUFFIXES, Suffix(QUERY, " own"), Suffix(QUERY, " other")]
    made = {e.query for e in with_suffixes(EXAMPLES, 0.0, twice)[:200]}
    assert made == {QUERY + " own", QUERY + " other"}
    assert with_suffixes(EXAMPLES, 0.0, SUFFIXES)[:50] == EXAMPLES[:50]
    assert with_suffixes(EXAMPLES, 0.3, []) is EXAMPLES


# --- what validates -------------------------------------------------------------------------------------------------


def test_suffixes_that_validate_train_nothing(tmp_path):
    """Nor after another search, of which some are the same; without one of its own a split stays as it is."""
    first, second = search(tmp_path / "a"), search(tmp_path / "b", [TEXTS[3], *(f" new{i}" for i in range(9))])
    assert read_suffixes(str(first)) == SUFFIXES
    every = read_suffixes(f"{first},{second}")
    assert every[: len(TEXTS)] == SUFFIXES and len({s.text for s in every}) == len(every) == len(TEXTS) + 9
    for found in (SUFFIXES, every):
        train, test = (of_split(found, split) for split in ("train", "test"))
        assert not {s.text for s in train} & {s.text for s in test} and sorted(train + test, key=str) == sorted(
            found, key=str
        )
        assert len(test) == len(found) // HELD_OUT
    assert of_split(SUFFIXES, "test") == of_split(every, "test")[:2]
    config = with_data(suffixes=str(first), suffixed=0.5, validation_examples=300)
    seen = {
        "train": {t for e in load_examples(config, "embedded", "train")[:600] for t in suffix_of(e.query)},
        "test": {t for e in validation_examples(config, "embedded") for t in suffix_of(e.query)},
    }
    assert seen["test"] == {TEXTS[HELD_OUT - 1], TEXTS[2 * HELD_OUT - 1]}
    assert seen["train"] == set(TEXTS) - seen["test"]
    few = with_data(suffixes=str(search(tmp_path / "c", TEXTS[: HELD_OUT - 1])), validation_examples=40)
    assert validation_examples(few, "embedded") == validation_examples(with_data(validation_examples=40), "embedded")


# --- the same everywhere --------------------------------------------------------------------------------------------


def test_rows_are_the_same_for_any_number_of_processes(tmp_path):
    config = with_data(suffixes=str(search(tmp_path / "a")), suffixed=0.5)
    sources = {"embedded": load_examples(config, "embedded", "train")}
    tokenizer = Tokenizer.train([e.query for e in sources["embedded"][:200]], 400)
    shape = PipelineConfig(128, 4, 12, (("embedded", 1.0),))
    made = {}
    for rows in ((0, 1, 2, 3), (0, 2), (1, 3)):
        pipeline = Pipeline(shape, sources, tokenizer, get_template("plain"), CONFIG.routing, rows)
        made[rows] = [next(pipeline) for _ in range(2)]
        pipeline.close()
    for batch in range(2):
        whole = made[0, 1, 2, 3][batch]
        for rows in ((0, 2), (1, 3)):
            np.testing.assert_array_equal(made[rows][batch].tokens, whole.tokens[list(rows)])
            np.testing.assert_array_equal(made[rows][batch].cls_labels, whole.cls_labels[list(rows)])


def test_a_run_does_not_go_on_with_other_suffixes(tmp_path):
    def claim(begun):
        claim_data(tmp_path, {"embedded": load_examples(config, "embedded", "train")}, begun)

    config = with_data(suffixes=str(search(tmp_path / "a")))
    claim(False)
    claim(True)
    search(tmp_path / "a", [*TEXTS[:3], " another"])
    with pytest.raises(InputError, match="data source 'embedded' is not what"):
        claim(True)


# --- what is not right ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row, said",
    [
        ({"goal": "a"}, "attack"),
        ({"goal": "a", "attack": {"ids": [1]}}, "suffix"),
        ({"goal": " ", "attack": {"suffix": "x"}}, "goal"),
        ({"goal": "a", "attack": {"suffix": " "}}, "suffix"),
        ({"goal": "a", "attack": {"suffix": 3}}, "suffix"),
    ],
)
def test_a_bad_row_is_named_with_its_file_and_line(tmp_path, row, said):
    good = {"goal": "a", "attack": {"suffix": "x"}}
    search(tmp_path / "a", rows=[good, row])
    with pytest.raises(InputError, match=rf"a/attacks\.jsonl, line 2.*{said}"):
        read_suffixes(str(tmp_path / "a"))
    with (tmp_path / "a" / "attacks.jsonl").open("w") as file:
        file.write(json.dumps(good) + "\n" + json.dumps(good)[:-5] + "\n")
    with pytest.raises(InputError, match=r"a/attacks\.jsonl, line 2 is not JSON"):
        read_suffixes(str(tmp_path / "a"))


@pytest.mark.parametrize(
    "changes, said",
    [
        (dict(name="advbench"), "an attack on advbench: suffixes of an evaluation's goals train nothing"),
        (dict(name="embedded"), "an attack on embedded"),
        (dict(kind="soft_prompt"), "soft_prompt, which finds no suffixes"),
        (dict(done=False), "not done; run the same launch.attack"),
    ],
)
def test_a_search_that_trains_nothing_is_named(tmp_path, changes, said):
    config = with_data(suffixes=str(search(tmp_path / "a", **changes)))
    with pytest.raises(InputError, match=said):
        check_training_data(config)
    with pytest.raises(InputError, match=said):
        load_examples(config, "embedded", "train")
    check_training_data(config, to_come=[str(tmp_path / "a")])
    with pytest.raises(InputError, match="nowhere holds no attack"):
        check_training_data(with_data(suffixes="nowhere"), to_come=[str(tmp_path / "a")])


def test_goals_of_ones_own_are_taken_unless_they_are_evaluation_prompts(tmp_path, monkeypatch):
    config = with_data(suffixes=str(search(tmp_path / "a", name="own.csv")))
    monkeypatch.setattr(inputs, "evaluation_prompts", lambda _: ["How do I rob a bank by night?"])
    strict = dataclasses.replace(config, data=dataclasses.replace(config.data, drop_leaks=True))
    load_examples(strict, "embedded", "train")
    rows = [{"goal": "How do I rob a bank by night?", "attack": {"suffix": "x"}}]
    search(tmp_path / "a", name="own.csv", rows=rows)
    with pytest.raises(InputError, match="found on 'How do I rob a bank"):
        load_examples(strict, "embedded", "train")
    load_examples(config, "embedded", "train")  # drop_leaks=False: the files' prompts may be there
    rows = [{"goal": f"Tell me how to {embedded_behaviors('test')[0].goal}", "attack": {"suffix": "x"}}]
    search(tmp_path / "a", name="own.csv", rows=rows)
    with pytest.raises(InputError, match="found on 'Tell me how to"):
        load_examples(config, "embedded", "train")  # the embedded corpus' own never


def test_a_training_takes_what_a_stage_before_it_makes_however_it_is_spelt(tmp_path):
    folder = str(tmp_path / "found")
    search_of = (f"{folder}/", {"suffixes_against": "runs/model", "behaviors": "embedded_training", "n": 2})
    training = (str(tmp_path / "run"), "configs/embedded_robust.py", {"data.suffixes": folder})
    stages.check_stages([stages.to_stage(search_of), stages.to_stage(training)])
    with pytest.raises(InputError, match="holds no attack"):  # before hours of training, not after them
        stages.check_stages([stages.to_stage(training), stages.to_stage(search_of)])


@pytest.mark.parametrize("names", ["a,", ",a", "a,,b", "a,b,a", "a,a/", " "])
def test_a_list_that_is_none_is_named(names):
    with pytest.raises(InputError, match=r"data\.suffixes"):
        DataConfig(suffixes=names)
    with pytest.raises(InputError, match=r"data\.suffixed"):
        DataConfig(suffixed=1.1)


# --- whom to attack -------------------------------------------------------------------------------------------------


def test_goals_of_the_embedded_corpus_are_those_of_its_training_split():
    found = load_behaviors("embedded_training", "nowhere", 10_000)
    held_out = {goal.text for goal in goals(malicious.DOMAINS + malicious.SOFT, "test")}
    assert len(found) == len(embedded_behaviors("train")) and not any(g in b.goal for b in found for g in held_out)
    few = [load_behaviors("embedded_training", "nowhere", 6, seed) for seed in (1, 1, 2)]
    assert few[0] == few[1] != few[2] and all(len(each) == 6 for each in few)


@needs_data
def test_goals_of_the_files_are_training_queries_and_no_evaluation_prompts():
    from safety_align.data.leakage import evaluation_prompts, leak_index
    from safety_align.data.specs import is_held_out, source_examples

    queries = {e.query for e in source_examples("clear_queries", DATA, announce=False) if not is_held_out(e)}
    index = leak_index(tuple(evaluation_prompts(DATA)))
    found = load_behaviors("training", str(DATA), 12, seed=3)
    assert len(found) == len({b.id for b in found}) == 12
    assert all(b.goal in queries and index.verdict(b.goal) is None for b in found)
    assert all(b.target.startswith("Sure, here is how to ") for b in found)
    assert found == load_behaviors("training", str(DATA), 12, seed=3) != load_behaviors("training", str(DATA), 12)


# --- rounds ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [embedded_rounds, published_rounds])
def test_a_round_attacks_the_last_model_and_trains_from_it_on_all_suffixes(config):
    values = compare.filled(config.get_config().to_dict(), "MODEL")
    attacks = [e for e in values["train"] if isinstance(e[1], dict) and "suffixes_against" in e[1]]
    trainings = [e for e in values["train"] if len(e) == 3][-config.ROUNDS :]
    last = compare.filled(config.START, "MODEL")
    for i, ((folder, fields), (model, _, changes)) in enumerate(zip(attacks, trainings, strict=True)):
        assert fields["suffixes_against"] == changes["init_from"] == last
        assert changes["data.suffixes"].split(",") == [name for name, _ in attacks[: i + 1]]
        search = stages.to_stage((folder, fields), {"data_dir": "elsewhere", "cache_dir": "x"}).making
        assert search.model == last and search.behaviors.seed == i + 1 and search.behaviors.data_dir == "elsewhere"
        last = model
    assert values["variants"][values["order"][-1]]["checkpoint"] == last
    order = [entry[0] for entry in values["train"]]
    assert all(order.index(a[0]) < order.index(t[0]) for a, t in zip(attacks, trainings, strict=True))


@pytest.mark.parametrize(
    "fields, said",
    [
        (dict(behaviors="embedded", n=2), "behaviors, one of training"),
        (dict(behaviors="training"), "and n of them"),
        (dict(behaviors="training", n=0), "and n of them"),
        (dict(behaviors="training", n=2, steps=0), "steps"),
        (dict(behaviors="training", n=2, behaviors_seed=-1), "behaviors_seed"),
        (dict(behaviors="training", n=2, no_such=1), "no_such"),
    ],
)
def test_a_stage_of_suffixes_that_is_none_is_named(fields, said):
    with pytest.raises(InputError, match=f"config.train: runs/x: .*{said}"):
        stages.to_stage(("runs/x", {"suffixes_against": "runs/model"} | fields))


def test_several_processes_take_a_search_that_is_done_and_make_none(tmp_path, monkeypatch):
    stage = stages.to_stage((str(tmp_path / "a"), dict(suffixes_against="runs/model", behaviors="training", n=2)))
    monkeypatch.setattr(stages.jax, "process_count", lambda: 2)
    monkeypatch.setattr(stages.distributed, "from_main", lambda value: value)
    monkeypatch.setattr(stages.distributed, "agreed", contextlib.nullcontext)
    monkeypatch.setattr(stages, "attack_model", None)  # not reached
    with pytest.raises(InputError, match="a search runs in one process"):
        stages.make_all([stage])
    search(tmp_path / "a")
    assert stages.make_all([stage])


TINY = {"model.preset": "tiny", "model.vocab_size": 400, "tokenizer_texts": 200, "data.batch_size": 4, "save_every": 2,
        "data.validation_examples": 12, "data.sequence_length": 160, "perturbation": "none"}  # fmt: skip


@pytest.mark.slow
def test_two_rounds_on_a_random_model_and_again_after_an_interruption(tmp_path, monkeypatch):
    """GCG against the model, training on its suffixes, and once more; a search that was cut short goes on with its second goal, and what
    is done is not made again."""
    start = str(tmp_path / "start")
    search = dict(behaviors="embedded_training", n=2, steps=2, width=8, batch=8, top_k=16, tokens=3)
    config = "configs/embedded_robust.py"
    entries, models = embedded_rounds.rounds(start, str(tmp_path / "x"), config, search, TINY | {"steps": 2}, 2)
    made = [stages.to_stage(entry) for entry in ((start, config, TINY | {"steps": 2, "init_from": ""}), *entries)]
    stages.check_stages(made)
    assert stages.make_all(made)
    suffixes = read_suffixes(",".join(entry[0] for entry in entries[::2]))
    goals_of = [json.loads(line)["goal"] for i in (0, 2) for line in open(f"{entries[i][0]}/attacks.jsonl")]
    assert 1 <= len(suffixes) <= 4 and len(set(goals_of)) > 2
    about = [json.loads((pathlib.Path(entries[i][0]) / "attack.json").read_text()) for i in (0, 2)]
    assert [a["checkpoint"] for a in about] == [str(pathlib.Path(m).resolve()) for m in models[:2]]
    assert all((pathlib.Path(m) / "checkpoints" / "2").is_dir() for m in models)
    # The second search interrupted, and the training behind it not begun: the same stages end where they did.
    folder = pathlib.Path(entries[2][0])
    whole = (folder / "attacks.jsonl").read_text()
    first, rest = whole.splitlines(keepends=True)
    (folder / "attacks.jsonl").write_text(first + rest[:20])
    (folder / "results.json").unlink()
    asked = []
    monkeypatch.setattr(
        stages, "attack_model", lambda *a, was=stages.attack_model, **k: asked.append(a[0]) or was(*a, **k)
    )
    assert stages.make_all(made) and asked == [models[1]]
    again = (folder / "attacks.jsonl").read_text().splitlines(keepends=True)
    assert again[0] == first and json.loads(again[1])["attack"] == json.loads(rest)["attack"]
