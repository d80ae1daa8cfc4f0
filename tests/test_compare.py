"""The entries of a comparison."""

import contextlib
import dataclasses
import json
import types

import pytest

from configs.compare import pretraining, published
from configs.compare import small as comparison
from configs.eval import embedded, small
from launch import cli, compare, stages
from launch.defaults import evaluation_defaults
from safety_align.data.examples import Example
from safety_align.data.labelled import write_part
from safety_align.data.parts import part_path
from safety_align.errors import InputError


def test_entries_of_a_comparison_take_overrides():
    for entry in pretraining.get_config().to_dict()["train"][3:]:
        stage = stages.to_stage(entry)
        control = stage.making.config.lambda_cls == 0.0
        assert control == (stage.workdir == "runs/pretrain_control")
        assert stage.workdir in stage.announcement and ("lambda_cls=0.0" in stage.announcement) == control
    for bad in (("a", "b.py", {}, {}), ("a", "b.py", "c"), ("a",), ("a", {"steps": 1})):
        with pytest.raises(InputError, match="overrides"):
            stages.to_stage(bad)


def test_a_comparison_makes_its_labels_and_keeps_those_that_are_complete(tmp_path, monkeypatch):
    """What a training starts from or reads is made by an entry before it; only missing labels are made."""
    made = []
    for stage in map(stages.to_stage, pretraining.get_config().to_dict()["train"]):
        if isinstance(stage.making, stages.Labels):
            needed = {stage.making.guard}
        else:
            needed = {stage.making.config.init_from, stage.making.config.data.labelled}
        assert needed - {""} <= set(made)
        made.append(stage.workdir)
    entry = str(tmp_path), "configs/label_small.py", {"guard": "runs/guard"}
    stage = stages.to_stage(entry, {"data_dir": "elsewhere", "cache_dir": ""})
    values = stage.making.values
    assert stage.making.guard == "runs/guard" and values["data_dir"] == "elsewhere" and values["cache_dir"]
    asked = []
    monkeypatch.setattr(stages, "label_text", lambda *given: asked.append(given))
    assert stages.make_all([stage]) and asked == [("runs/guard", values, tmp_path)]
    (tmp_path / "about.json").write_text('{"passages": 1}')
    write_part(part_path(tmp_path, 0), [Example((), "text", None, None, True, "s", "0")], [0.5])
    assert stages.make_all([stage]) and len(asked) == 1


def test_a_comparison_asks_the_model_for_its_own_answers_once(tmp_path, monkeypatch):
    """The signals of a published model read the answers that the stage before them makes."""
    values = compare.filled(published.get_config().to_dict(), str(tmp_path / "model"))
    first, *rest = values["train"]
    stage = stages.to_stage((str(tmp_path), first[1]), {"data_dir": "elsewhere", "cache_dir": ""})
    assert stage.making.model == str(tmp_path / "model") and stage.making.config.data_dir == "elsewhere"
    assert all(entry[2]["data.own_answers"] == first[0] for entry in rest)
    asked = []
    monkeypatch.setattr(stages, "answer_prompts", lambda *given: asked.append(given))
    assert stages.make_all([stage], "mesh", "float32")
    assert asked == [(str(tmp_path / "model"), stage.making.config, tmp_path, "mesh", "float32")]
    row = dict(id="alpaca/0", source="alpaca", history=[], prompt="q", prefill="", response="a", verdict=None)
    (tmp_path / "answers.jsonl").write_text(json.dumps(row | {"label": "benign"}) + "\n")
    (tmp_path / "about.json").write_text('{"answers": 2}')
    assert stages.make_all([stage]) and len(asked) == 2  # one of two: not complete
    (tmp_path / "about.json").write_text('{"answers": 1}')
    assert stages.make_all([stage]) and len(asked) == 2
    for bad, said in (
        ({"benig": 1}, "benig"),
        ({"benign": -1}, "benign must be at least 0"),
        ({"tokens": "x"}, "tokens"),
    ):
        with pytest.raises(InputError, match=f"runs/answers: .*{said}"):
            stages.to_stage(("runs/answers", {"answers_of": "runs/model"} | bad))


def test_data_that_a_stage_makes_need_not_be_there(tmp_path):
    training = stages.to_stage((str(tmp_path / "run"), "configs/embedded_base.py"))
    data = dataclasses.replace(training.making.config.data, own_answers=str(tmp_path / "answers"))
    pipeline = dataclasses.replace(training.making.config.pipeline, mixture=(("own_answers", 1.0),))
    config = dataclasses.replace(training.making.config, data=data, pipeline=pipeline)
    training = dataclasses.replace(training, making=stages.Training(config))
    answers = stages.to_stage((str(tmp_path / "answers"), {"answers_of": "runs/model"}))
    stages.check_stages([answers, training])
    with pytest.raises(InputError, match="give the directory of launch.answers"):
        stages.check_stages([training])


def test_one_option_moves_the_data_of_all_trainings():
    config = comparison.get_config()
    cli.apply_overrides(config, ["--config.data.data_dir=elsewhere"], defaults=evaluation_defaults(config))
    found = [stages.to_stage(entry, config.to_dict()["data"]).making.config for entry in config.train]
    assert {each.data.data_dir for each in found} == {"elsewhere"}
    plain = stages.to_stage(config.train[0]).making.config
    moved = dataclasses.replace(found[0].data, data_dir=plain.data.data_dir)
    assert dataclasses.replace(found[0], data=moved) == plain


def test_a_comparison_is_checked_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "make_all", None)  # not reached
    broken = {
        "variants: 'a/b'": lambda c: c.update(variants={"a/b": c.variants.sft}, order=(*c.order, "a/b")),
        "sft lacks checkpoint": lambda c: c.variants.sft.__delattr__("checkpoint"),
        "no_such": lambda c: c.variants.gated.update(gate={"no_such": 1}),
        "threshold": lambda c: c.variants.gated.update(gate={"threshold": 2.0}),
        "gated.defence: .*no_such": lambda c: c.variants.gated.update(defence={"no_such": 1}),
        "gated.defence: reconsider": lambda c: c.variants.gated.update(defence={"reconsider": 2}),
        "gated.defence: .*choose one": lambda c: c.variants.gated.update(
            defence={"reconsider": 0.1, "input_only": True}
        ),
        "sft.defence needs a gate": lambda c: c.variants.sft.update(defence={"input_only": True}),
        "lacks train": lambda c: c.__delattr__("train"),
        "it lacks eval": lambda c: setattr(c, "eval", None),
        "first lacks checkpoint, gate, gated": lambda c: setattr(c.variants, "first", None),
        "config.eval.measurements.attacks.direct.kind 'dirct' is not known": lambda c: (
            c.eval.measurements.attacks.direct.update(kind="dirct")
        ),
        "order and config.variants differ": lambda c: c.update(order=("sft",)),
    }
    for said, change in broken.items():
        config = comparison.get_config()
        change(config)
        monkeypatch.setattr(compare.cli, "load_config", lambda path, c=config: c)
        monkeypatch.setattr("sys.argv", ["compare", "--config=x", f"--output={tmp_path / 'out'}"])
        with pytest.raises(InputError, match=said):
            compare.main()
    assert not (tmp_path / "out").exists()


def test_all_data_are_looked_for_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "make_all", None)  # not reached
    monkeypatch.setattr(compare.devices, "start", lambda arguments: None)
    last = "runs/embedded_gated", "configs/embedded_gated.py"
    for said, change, evaluation in (
        ("plian", {"template": "plian"}, embedded.get_config()),
        (str(tmp_path / "nowhere"), {}, small.get_config()),
    ):
        config = cli.load_config("configs/compare/embedded.py")
        config.eval = evaluation
        config.eval.data_dir = str(tmp_path / "nowhere")
        config.train = (*config.train[:2], (*last, change))
        monkeypatch.setattr(compare.cli, "parse_with_config", lambda parser, defaults, c=config: parsed(parser, c))
        monkeypatch.setattr("sys.argv", ["compare", f"--output={tmp_path / 'out'}"])
        with pytest.raises(InputError, match=said):
            compare.main()
    assert not (tmp_path / "out").exists()


def parsed(parser, config):
    arguments = parser.parse_args()
    arguments.config = "x"
    return arguments, config


def test_no_column_is_called_gated_without_a_gate(tmp_path, monkeypatch):
    bare = types.SimpleNamespace(model_config=types.SimpleNamespace(safety_signal=False), gate=None)
    monkeypatch.setattr(compare, "load_unrolled", lambda *_: bare)
    monkeypatch.setattr(compare, "evaluate_variant", None)  # not reached
    variants = {"gated": {"checkpoint": "runs/sft", "gated": True, "gate": {}}}
    with pytest.raises(InputError, match="gated is gated, but runs/sft has no safety signal"):
        compare.compare(variants, embedded.get_config().to_dict(), tmp_path, {})


def test_a_comparison_of_another_dtype_is_another_one(tmp_path, monkeypatch):
    asked = []

    @contextlib.contextmanager
    def refuse(output, about):
        asked.append(about)
        raise InputError("seen")
        yield

    monkeypatch.setattr(compare, "own_output", refuse)
    monkeypatch.setattr(compare.devices, "start", lambda arguments: None)
    for dtype in ("float32", "bfloat16"):
        monkeypatch.setattr(
            "sys.argv",
            ["compare", "--config=configs/compare/embedded.py", f"--output={tmp_path / 'out'}", f"--dtype={dtype}"],
        )
        with pytest.raises(InputError, match="seen"):
            compare.main()
    assert asked[0]["config"] == asked[1]["config"] and asked[0] != asked[1]
