"""What a run is fed: the data that it began with, the requests in other turns, validation that says what it leaves out."""

import dataclasses
import json

import pytest

from safety_align.data.examples import Example
from safety_align.data.pipeline import PipelineConfig
from safety_align.data.sources import load_source
from safety_align.data.specs import SPECS
from safety_align.errors import InputError
from safety_align.model import preset
from safety_align.routing import RoutingConfig
from safety_align.text import Tokenizer, Turn, get_template
from safety_align.training import inputs
from safety_align.training.config import DataConfig, TrainConfig
from safety_align.training.inputs import claim_data, load_examples, validation_batches
from safety_align.training.optimizer import OptimizerConfig
from safety_align.training.reference import known_reference

CONFIG = TrainConfig(
    model=preset("tiny", safety_signal=True),
    routing=RoutingConfig(),
    pipeline=PipelineConfig(96, 4, 12, (("embedded", 1.0),)),
    data=DataConfig(),
    optimizer=OptimizerConfig(1e-3),
)


def examples(count: int, word: str = "question") -> list[Example]:
    return [Example((Turn("user", f"{word} {i}"),), "", 1, None, False, "a", str(i)) for i in range(count)]


def test_a_run_goes_on_with_the_data_it_began_with_only(tmp_path):
    claim_data(tmp_path, {"a": examples(9), "b": examples(3)}, begun=False)
    before = (tmp_path / "data.json").read_text()
    claim_data(tmp_path, {"a": examples(9), "b": examples(3)}, begun=True)
    for changed in (examples(8), examples(9, "other"), examples(9)[::-1]):
        with pytest.raises(InputError, match="data source 'a' is not what") as error:
            claim_data(tmp_path, {"a": changed, "b": examples(3)}, begun=True)
        assert "\n" not in str(error.value)
    assert (tmp_path / "data.json").read_text() == before
    # Nothing is learned yet: what is there now is what counts.
    claim_data(tmp_path, {"a": examples(8), "b": examples(3)}, begun=False)
    claim_data(tmp_path, {"a": examples(8), "b": examples(3)}, begun=True)


def test_a_run_of_before_there_was_data_json_gets_one(tmp_path):
    claim_data(tmp_path, {"a": examples(9)}, begun=True)
    assert json.loads((tmp_path / "data.json").read_text()).keys() == {"a"}


@pytest.mark.parametrize("content", ["[]", '{"a": 1}', "[" * 9999, ""])
def test_notes_of_a_run_that_were_damaged_are_named_with_the_fix(tmp_path, content):
    (tmp_path / "data.json").write_text(content)
    with pytest.raises(InputError, match=r"data.json.*; put it back, or start anew"):
        claim_data(tmp_path, {"a": examples(9)}, begun=True)
    for there in (content, "{}"):
        (tmp_path / "reference.json").write_text(there)
        with pytest.raises(InputError, match=r"reference.json.*; put it back, or start anew"):
            known_reference(tmp_path / "reference.json")


def test_what_is_made_of_a_known_file_is_looked_at_too(tmp_path):
    """Two sources with one fingerprint, as of a file that is prepared anew by other code."""

    class Known(list):
        fingerprint = "file"

    claim_data(tmp_path, {"a": Known(examples(500))}, begun=False)
    claim_data(tmp_path, {"a": Known(examples(500))}, begun=True)
    with pytest.raises(InputError, match="'a'"):
        claim_data(tmp_path, {"a": Known(examples(500, "other"))}, begun=True)


def test_the_fingerprint_of_a_source_is_its_content(tmp_path):
    """The same for a copy in another place, of another age; another for one changed letter, of the same size and age."""
    from test_data import pair, write

    def fingerprint(folder, word="Answer"):
        rows = [pair(f"Question number {i}?", f"{word} {i}.") for i in range(200)]
        write(tmp_path / folder / SPECS["safe_responses"].file, rows)
        return load_source(
            "safe_responses", data_dir=tmp_path / folder, cache_dir=tmp_path / f"cache_{folder}"
        ).fingerprint

    first = fingerprint("a")
    assert fingerprint("b") == first != fingerprint("a", "answer")


def test_roles_are_given_to_every_split(monkeypatch):
    monkeypatch.setattr(inputs, "load_source", lambda name, split, **_: examples(60, split))
    config = dataclasses.replace(CONFIG, data=DataConfig(system_turns=0.5, other_roles=0.5))
    for split in ("train", "test"):
        found = load_examples(config, "embedded", split)
        changed = [found[i].turns != plain.turns for i, plain in enumerate(examples(60, split))]
        assert 30 < sum(changed) < 60


def test_validation_says_how_many_do_not_fit(capsys):
    tokenizer = Tokenizer.train(["question 1 2 3 word"], 300)
    long = Example((Turn("user", "word " * 90),), "", 1, None, False, "a", "long")
    batches = validation_batches(CONFIG, [*examples(5), long], tokenizer, get_template("plain"), progress=True)
    assert sum(int(row.max()) for batch in batches for row in batch.segments) == 5
    assert "validation: 1 of 6 examples do not fit in 96 slots" in capsys.readouterr().err
    validation_batches(CONFIG, examples(5), tokenizer, get_template("plain"), progress=True)
    assert capsys.readouterr().err == ""
