"""Rows, sources, the embedded corpus and the pipeline, on small synthetic files."""

import collections
import dataclasses
import gzip
import json
import pathlib

import jax
import numpy as np
import pytest

from safety_align.data import embedded, labelled, system_turns
from safety_align.data.examples import BadExample, Example, TooLong, encode_example
from safety_align.data.grammar import benign, malicious
from safety_align.data.parts import part_path
from safety_align.data.pipeline import Order, Pipeline, PipelineConfig, fixed_batches
from safety_align.data.rewording import reword
from safety_align.data.rows import MAX_CHARACTERS, BadRow, RowReport, read_json_rows
from safety_align.data.sources import load_source
from safety_align.data.specs import SPECS, is_held_out, source_examples
from safety_align.data.system_turns import Roles, with_roles
from safety_align.errors import InputError
from safety_align.placement import Batch, RowShape
from safety_align.routing import IGNORED, RoutingConfig
from safety_align.text import Tokenizer, Turn, get_template
from safety_align.text.budget import RunsAway
from safety_align.training.inputs import claim_data

TEMPLATE = get_template("plain")
SOURCES = {"embedded": embedded.embedded_examples("train", 120), "embedded_text": embedded.embedded_text("train", 40)}
TOKENIZER = Tokenizer.train([e.response for e in SOURCES["embedded"]], 500)
ROUTING = RoutingConfig(4, 4, 4, windows=2)


def write(path, lines: list[bytes]):
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wb") as file:
        file.write(b"\n".join(lines) + b"\n")


def pair(prompt="How?", response="So.", **more) -> bytes:
    return json.dumps({"prompt": prompt, "response": response, **more}).encode()


# --- rows and sources -------------------------------------------------------------------------------------------------


def test_bad_rows_are_counted_by_reason(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    lines = [pair(f"prompt {i}") for i in range(20)]
    lines += [
        b'{"prompt": "x"}',
        pair(""),
        b"\xff\xfe",
        b"{",
        pair(response=3),
        pair("x" * (MAX_CHARACTERS + 1)),
        b"[1]",
        b'{"prompt": ' + b"[" * 100_000,
        b'{"prompt": "half \\ud83d emoji", "response": "x"}',
        b'{"prompt": "x", "prompt": "y", "response": "z"}',
    ]
    write(path, lines)

    def parse(row):
        if not row["prompt"]:
            raise BadRow("empty")
        return row["prompt"]

    report = RowReport(path, 0.5)
    found = [value for _, value in read_json_rows(path, {"prompt": str, "response": str}, report, parse)]
    assert found == [f"prompt {i}" for i in range(20)]
    assert report.bad == {
        "missing field": 1, "empty": 1, "not UTF-8": 1, "not JSON": 2, "wrong type": 2, "over length": 1,
        "nested too deeply": 1, "half of a surrogate pair": 1,
    }  # fmt: skip
    report.close()
    report.max_bad_fraction = 0.2
    with pytest.raises(InputError, match="10 of 30 rows are bad"):
        report.close()
    assert "20 rows used, 10 not" in str(report)


def test_lines_end_at_newlines_only(tmp_path):
    write(tmp_path / "a.jsonl.gz", ['{"prompt": "a\u2028b", "response": "c\x85d"}'.encode()])
    report = RowReport(tmp_path / "a.jsonl.gz", 0.0)
    (row,) = read_json_rows(tmp_path / "a.jsonl.gz", {"prompt": str, "response": str}, report, lambda row: row)
    assert row[1] == {"prompt": "a\u2028b", "response": "c\x85d"}


def test_a_truncated_file_is_named(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    write(path, [pair(f"prompt number {i} {np.random.default_rng(i).random()}") for i in range(500)])
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(InputError, match="truncated"):
        list(read_json_rows(path, {"prompt": str}, RowReport(path, 0.0), lambda row: row))


def test_sources_are_built_once_split_and_rebuilt_when_the_file_changes(tmp_path):
    path = tmp_path / "raw" / SPECS["beavertails"].file
    rows = [pair(f"Question number {i}?", f"Answer {i}.", is_safe=i % 4 == 0) for i in range(300)]
    write(path, rows)
    options = dict(data_dir=tmp_path / "raw", cache_dir=tmp_path / "cache")
    train, test = (load_source("beavertails", split, **options) for split in ("train", "test"))
    assert len(train) + len(test) == 300 and 0 < len(test) < 40
    direct = {e.id: e for e in source_examples("beavertails", tmp_path / "raw")}
    for split, held_out in ((train, False), (test, True)):
        for i in range(len(split)):
            assert split[i] == direct[split[i].id]
            assert is_held_out(split[i]) == held_out
    for i in range(len(train)):
        safe = int(train[i].query.split()[-1].rstrip("?")) % 4 == 0
        assert (train[i].query_label, train[i].response_label) == ((None, 0) if safe else (1, 1))
        assert not train[i].train_lm
    assert [e.id for e in test] == [test[i].id for i in range(len(test))]
    write(path, rows[:200])
    assert sum(len(load_source("beavertails", split, **options)) for split in ("train", "test")) == 200


def test_too_many_bad_rows_leave_nothing_prepared(tmp_path):
    path = tmp_path / "raw" / SPECS["safe_responses"].file
    write(path, [pair(f"question {i}") for i in range(150)] + [b"{}"] * 50)
    options = dict(data_dir=tmp_path / "raw", cache_dir=tmp_path / "cache")
    for _ in range(2):
        with pytest.raises(InputError, match="50 of 200 rows are bad"):
            load_source("safe_responses", **options)
    splits = [load_source("safe_responses", split, **options, max_bad_fraction=0.5) for split in ("train", "test")]
    assert sum(map(len, splits)) == 150
    write(path, [pair()])
    with pytest.raises(InputError, match="too few rows"):
        load_source("safe_responses", **options)


@pytest.mark.parametrize(
    "source, row",
    [
        ("lima", {"instruction": "x", "input": "", "output": "y", "history": 5}),
        ("lima", {"instruction": "x", "input": "", "output": "y", "history": {"a": "b"}}),
        ("lima", {"instruction": "x", "input": "", "output": "y", "history": [["a", 1]]}),
        ("lima", {"instruction": ["x"], "input": "", "output": "y"}),
        ("beavertails", {"prompt": "x", "response": "y", "is_safe": "no"}),
        ("text_books", {"text": 5}),
    ],
)
def test_a_row_of_wrong_types_is_one_bad_row(tmp_path, source, row):
    good = row | {"history": [], "instruction": "x", "is_safe": True, "text": "some words"}
    write(tmp_path / SPECS[source].file, [json.dumps(r).encode() for r in (good, row, good)])
    assert len(list(source_examples(source, tmp_path, max_bad_fraction=0.4, announce=False))) == 2
    with pytest.raises(InputError, match="1 of 3 rows are bad.*wrong type"):
        list(source_examples(source, tmp_path, max_bad_fraction=0.3, announce=False))


def test_labelled_text_is_whole_or_refused(tmp_path):
    examples = [Example((), f"text {i}", None, None, True, "s", str(i)) for i in range(3)]
    about, part = tmp_path / "about.json", part_path(tmp_path, 0)
    about.write_text('{"passages": 3}')
    with pytest.raises(InputError, match="missing"):
        labelled.read_labelled(tmp_path)
    labelled.write_part(part, examples, [0.0, 0.5, 1.0])
    assert [e.text_label for e in labelled.read_labelled(tmp_path)] == [0.0, 0.5, 1.0]
    for text in ("{}", "[]", '{"passages": 0}', '{"passages": "3"}', '{"passages": true}', "[" * 10**5):
        about.write_text(text)
        with pytest.raises(InputError, match="holds no labelled text"):
            labelled.read_labelled(tmp_path)
    about.write_text('{"passages": 4}')
    with pytest.raises(InputError, match="3 passages of 4"):
        labelled.read_labelled(tmp_path)
    about.write_text('{"passages": 3}')
    labelled.write_part(part, examples, [0.0, 0.5, 1.5])
    with pytest.raises(InputError, match="line 3.*unsafe.*launch.label"):
        labelled.read_labelled(tmp_path)
    whole = part.read_bytes()
    for damaged in (whole[:-4], whole[:20] + b"\0\0\0" + whole[23:], b"not gzip"):
        part.write_bytes(damaged)
        with pytest.raises(InputError, match="launch.label again"):
            labelled.read_labelled(tmp_path)


def test_unknown_sources_and_absent_files_are_named(tmp_path):
    with pytest.raises(InputError, match="alpca"):
        load_source("alpca", data_dir=tmp_path, cache_dir=tmp_path)
    with pytest.raises(InputError, match=r"lima\.jsonl\.gz"):
        load_source("lima", data_dir=tmp_path, cache_dir=tmp_path)


def test_unsafe_answers_cannot_enter_the_lm_loss():
    with pytest.raises(InputError, match="unsafe answer"):
        Example((Turn("user", "x"),), "y", 1, 1, True, "s", "0")
    unsafe = Example((Turn("user", "x"),), "y", 1, 1, False, "s", "0")
    for example in (unsafe, dataclasses.replace(unsafe, response_label=0, train_lm=True)):
        segment = encode_example(example, TOKENIZER, TEMPLATE, 96, ROUTING, np.random.default_rng(0))
        row = Batch.of([[segment]], RowShape(96, 12))
        assert row.loss_weights.any() == example.train_lm and row.cls_weights.any()


def test_reworded_queries_are_other_forms_of_the_same_goal():
    for query, goal in (
        ("How do I pick a lock at home?", "pick a lock at home"),
        ("Write a poem about rain.", "write a poem about rain"),
    ):
        forms = reword(query)
        assert forms == reword(query) and len(set(forms)) == 2 and query not in forms
        assert all(goal in form for form in forms)
    assert reword("The sky is blue.") == [] and reword("Why?") == []


# --- the embedded corpus ----------------------------------------------------------------------------------------------


def test_the_embedded_corpus_is_deterministic_balanced_and_split():
    train, again = embedded.embedded_examples("train", 1200), embedded.embedded_examples("train", 1200)
    assert list(train) == list(again)
    labels = collections.Counter(e.query_label for e in train)
    assert labels[0] == labels[1] == 600
    for domains in (benign.DOMAINS, benign.LOOKALIKES, malicious.DOMAINS, malicious.SOFT):
        seen, held_out = ({g.text for g in embedded.goals(domains, s)} for s in ("train", "test"))
        assert seen and held_out and not seen & held_out
    queries = " ".join(t.text for e in train for t in e.turns)
    for behavior in embedded.embedded_behaviors("test"):
        assert behavior.goal not in queries
    assert not embedded.nested_wrappers("train") and not embedded.suffixes("train")
    assert all(not e.train_lm for e in train if e.response_label == 1)


# --- the pipeline -----------------------------------------------------------------------------------------------------


def make(batch_size=4, seed=0, rows=None, weights=(3.0, 1.0), sources=SOURCES, length=96):
    config = PipelineConfig(length, batch_size, 12, tuple(zip(sources, weights)), seed)
    return Pipeline(config, sources, TOKENIZER, TEMPLATE, ROUTING, rows)


NUMBERED = [Example((Turn("user", f"number {i}"),), "", 1, None, False, "a", str(i)) for i in range(4000)]


def take(pipeline, count: int):
    batches = [next(pipeline) for _ in range(count)]
    pipeline.close()
    return batches


def same(a, b):
    for x, y in zip(a, b, strict=True):
        jax.tree.map(np.testing.assert_array_equal, x, y)


def test_batches_are_a_function_of_the_seed():
    first = take(make(), 6)
    same(first, take(make(), 6))
    assert any((a.tokens != b.tokens).any() for a, b in zip(first, take(make(seed=1), 6), strict=True))


@pytest.mark.parametrize("stop", [1, 3, 7])
def test_a_resumed_pipeline_goes_on_to_the_bit(stop):
    whole = take(make(), 10)
    pipeline = make()
    for _ in range(stop):
        next(pipeline)
    state = pipeline.get_state()
    pipeline.close()
    resumed = make()
    resumed.set_state(state)
    jax.tree.map(np.testing.assert_array_equal, resumed.get_state(), state)
    same(whole[stop:], take(resumed, 10 - stop))


def test_processes_make_their_rows_and_read_nothing_else():
    class Watched(list):
        def __getitem__(self, index):
            read.add(index)
            return super().__getitem__(index)

    whole, numbers = take(make(), 4), take(make(sources={"a": NUMBERED}, weights=(1.0,)), 4)
    for rows in ([0], [2, 3], [1, 3]):
        same([batch.take(rows) for batch in whole], take(make(rows=rows), 4))
        read: set[int] = set()
        pipeline = make(sources={"a": Watched(NUMBERED)}, weights=(1.0,), rows=rows)
        same([batch.take(rows) for batch in numbers], take(pipeline, 4))
        order = Order(pipeline.config, {"a": NUMBERED})
        assert read <= {order[order.index(row, n)][1] for row in rows for n in range(500)}


def test_rows_go_on_in_another_number_of_processes():
    alone = make()
    whole, end = take(alone, 7), alone.get_state()
    halves = [make(rows=[0, 1]), make(rows=[2, 3])]
    for half in halves:
        take(half, 3)
    states = [half.get_state() for half in halves]
    state = {key: np.concatenate([s[key] for s in states]) for key in states[0]}
    for rows in ([0, 1, 2, 3], [3], [1, 2]):
        resumed = make(rows=rows)
        resumed.set_state({key: value[rows] for key, value in state.items()})
        same([batch.take(rows) for batch in whole[3:]], take(resumed, 4))
        found = resumed.get_state()
        assert found.keys() == end.keys() and all((found[key] == end[key][rows]).all() for key in end)


def test_every_example_of_the_order_is_used_once_or_waits():
    """Over a stop and a resume: what went into batches and what waits is exactly what was taken."""
    pipeline = make(sources={"a": NUMBERED}, weights=(1.0,))
    seen = []
    for _ in range(3):
        batches = take(pipeline, 5)
        state = pipeline.get_state()
        pipeline = make(sources={"a": NUMBERED}, weights=(1.0,))
        pipeline.set_state(state)
        for batch in batches:
            for tokens, segments, content in zip(batch.tokens, batch.segments, batch.content, strict=True):
                seen += [TOKENIZER.decode(tokens[(segments == n) & content]) for n in range(1, segments.max() + 1)]
    order = Order(pipeline.config, {"a": NUMBERED})
    rows = range(pipeline.config.batch_size)
    taken = [order.index(row, n) for row in rows for n in range(state["next"][row])]
    waits = [order.index(row, n) for row in rows for n in state["held"][row] if n >= 0]
    assert len(set(taken)) == len(taken)
    expected = [f"number {order[i][1]}" for i in set(taken) - set(waits)]
    assert sorted(seen) == sorted(expected) and len(seen) > 200


def test_sampling_is_without_replacement_and_by_weight():
    """Queries of one source are all distinct: in an epoch each must come up exactly once before any comes twice."""
    examples = [Example((Turn("user", f"number {i}"),), "", 1, None, False, "a", str(i)) for i in range(50)]
    other = [Example((Turn("user", f"other {i}"),), "", 0, None, False, "b", str(i)) for i in range(50)]
    pipeline = make(sources={"a": examples, "b": other}, weights=(1.0, 1.0), batch_size=1)
    seen = []
    for batch in take(pipeline, 60):
        for number in range(1, batch.segments.max() + 1):
            ids = batch.tokens[0][(batch.segments[0] == number) & batch.content[0]]
            seen.append(TOKENIZER.decode(ids))
    from_a = [int(s.split()[1]) for s in seen if s.startswith("number")]
    counts = collections.Counter(from_a)
    # Packing lets some segments wait, so an epoch's end is blurred by the pool: what came is at most one epoch apart.
    assert max(counts.values()) - min(counts[i] for i in range(50)) <= 2
    assert abs(len(from_a) / len(seen) - 0.5) < 0.1
    assert len(set(pipeline_head(pipeline, "a"))) == 50


def pipeline_head(pipeline, name):
    """The first 50 items that the global order takes from a source."""
    items = [pipeline._order[i] for i in range(400)]
    return [item for source, item in items if source == name][:50]


def test_every_row_is_whole_segments():
    for batch in take(make(), 5):
        for i in range(len(batch.tokens)):
            used = batch.cls_index[i][batch.cls_index[i] != IGNORED]
            assert ((batch.tokens[i] == -1) == np.isin(np.arange(96), used)).all()
            assert (batch.tokens[i][batch.segments[i] == 0] == 0).all()


def test_prompts_too_long_are_skipped_and_too_many_refused():
    long = Example((Turn("user", "word " * 60),), "", 0, None, False, "s", "0")
    with pytest.raises(TooLong):
        encode_example(long, TOKENIZER, TEMPLATE, 64, ROUTING, np.random.default_rng(0))
    few = {"s": [long] + [Example((Turn("user", f"a {i}"),), "", 0, None, False, "s", str(i)) for i in range(60)]}
    pipeline = make(sources=few, weights=(1.0,))
    take(pipeline, 3)
    assert pipeline.skipped >= 1
    with pytest.raises(InputError, match="left out .*leaves no room in 96.*raise data.sequence_length"):
        take(make(sources={"s": [long, few["s"][1]] * 30}, weights=(1.0,), batch_size=64), 20)


def test_what_a_template_or_tokenizer_refuses_is_left_out_and_too_much_of_it_refused():
    turns = (Turn("user", "x"), Turn("assistant", "y"), Turn("tool", "z"))
    bad = Example(turns, "Yes.", 0, None, True, "s", "7")
    with pytest.raises(BadExample, match="example s/7: chat template 'plain' has no place for turn 2, a tool's"):
        encode_example(bad, TOKENIZER, TEMPLATE, 96, ROUTING, np.random.default_rng(0))
    few = {"s": [bad] + [Example((Turn("user", f"a {i}"),), "", 0, None, False, "s", str(i)) for i in range(60)]}
    pipeline = make(sources=few, weights=(1.0,))
    take(pipeline, 3)
    assert pipeline.skipped >= 1
    with pytest.raises(
        InputError, match="left out .the last: example s/7: chat template 'plain'.*; raise data.max_skipped"
    ):
        take(make(sources={"s": [bad, few["s"][1]] * 30}, weights=(1.0,), batch_size=64), 20)
    config = PipelineConfig(96, 4, 12, (("s", 1.0),))
    assert fixed_batches([bad, few["s"][1]], config, TOKENIZER, TEMPLATE, ROUTING)[1] == 1

    class Endless:
        def encode(self, *_):
            raise RunsAway("no end")

    with pytest.raises(RunsAway):  # its time has run out, which on another machine it would not
        encode_example(bad, TOKENIZER, Endless(), 96, ROUTING, np.random.default_rng(0))


def test_validation_batches_hold_each_example_once():
    examples = SOURCES["embedded"][:30]
    config = PipelineConfig(96, 4, 12, (("embedded", 1.0),))
    long = Example((Turn("user", "word " * 300),), "", 0, None, False, "s", "0")
    batches, skipped = fixed_batches([long, *examples], config, TOKENIZER, TEMPLATE, ROUTING)
    assert skipped == 1
    assert sum(int(row.max()) for batch in batches for row in batch.segments) == 30
    assert all(batch.tokens.shape == (4, 96) for batch in batches)


def test_bad_mixtures_are_named():
    with pytest.raises(InputError, match="mixture"):
        PipelineConfig(96, 4, 12, ())
    with pytest.raises(InputError, match="nothing"):
        make(sources=SOURCES | {"nothing": []}, weights=(1.0, 1.0, 1.0))
    with pytest.raises(InputError, match="row 4"):
        make(rows=[0, 4])


def test_examples_that_other_code_changes_are_other_examples(tmp_path, monkeypatch):
    """A phrase of system_turns.py, which few of a run's examples have: the run does not go on."""
    examples = embedded.embedded_examples("train", 120)
    assert with_roles(examples, Roles(0.2, 0.2))[:3] == [with_roles(examples, Roles(0.2, 0.2))[i] for i in range(3)]
    claim_data(tmp_path, {"embedded": with_roles(examples, Roles(0.2, 0.2))}, begun=False)
    claim_data(tmp_path, {"embedded": with_roles(examples, Roles(0.2, 0.2))}, begun=True)
    changed = tmp_path / "system_turns.py"
    changed.write_text(pathlib.Path(system_turns.__file__).read_text() + "# another phrase")
    monkeypatch.setattr(system_turns, "__file__", str(changed))
    with pytest.raises(InputError, match="embedded"):
        claim_data(tmp_path, {"embedded": with_roles(examples, Roles(0.2, 0.2))}, begun=True)
