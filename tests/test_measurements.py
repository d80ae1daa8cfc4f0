"""What a config's measurements become, what is said of those that are wrong, and what they measure on a tiny model."""

import dataclasses
import json

import pytest
from make import random_params

from launch import cli
from launch.defaults import evaluation_defaults
from safety_align.attacks import Direct, Prefill, SamplingGrid, load_behaviors
from safety_align.bundle import Bundle
from safety_align.decoding import REFUSAL_PREFIX, GateConfig, Generator
from safety_align.errors import InputError
from safety_align.evaluation import judges
from safety_align.evaluation.config import EvalConfig, check_evaluation_data, to_eval_config
from safety_align.evaluation.example_sets import Embedded, EvalData, Goals, HeldOut, Sample
from safety_align.evaluation.head import Windows
from safety_align.evaluation.judges import RefusalRules, Verdict
from safety_align.evaluation.measurements import AttackMeasurement, HeadMeasurement
from safety_align.evaluation.report import html_report, markdown_table
from safety_align.evaluation.run import evaluate_variant
from safety_align.model import preset
from safety_align.text import Tokenizer, get_template

EMBEDDED, REAL, COMPARED = "configs/eval/embedded.py", "configs/eval/small.py", "configs/compare/embedded.py"


def read(path: str, *overrides: str) -> EvalConfig:
    """The typed config of a file, or of its `eval`, with overrides as on the command line."""
    config = cli.load_config(path)
    cli.apply_overrides(config, [f"--config.{o}" for o in overrides], defaults=evaluation_defaults(config))
    values = json.loads(json.dumps(config.to_dict()))  # as a run stores it
    return to_eval_config(values.get("eval", values))[0]


def test_the_configs_measure_what_the_tables_show():
    attacks = ["direct", "prefill_5", "prefill_10", "prefill_20", "prefill_40", "nested", "gcg_transfer", "sampling"]
    windows = ["windows_unsafe_vs_benign", "windows_unsafe_vs_refusals"]
    for path in (EMBEDDED, COMPARED):
        found = read(path).measurements
        assert list(found.attacks) == attacks and list(found.benign) == ["benign", "lookalikes"]
        assert list(found.head) == ["queries_vs_benign", "queries_vs_lookalikes", *windows]
        assert list(found.utility) == ["perplexity"]
    found = read(REAL).measurements
    assert list(found.attacks) == [*attacks, "direct_harmbench"] and list(found.benign) == ["alpaca", "xstest_safe"]
    published = [f"{name}_vs_alpaca" for name in ("advbench", "harmbench", "malicious_instruct")]
    assert list(found.head) == [*published, "xstest_unsafe_vs_safe", *windows]
    assert found.attacks["prefill_20"] == AttackMeasurement(Prefill(20), "advbench")
    assert found.attacks["direct_harmbench"] == AttackMeasurement(Direct(), "harmbench")
    unsafe, alpaca = found.head["windows_unsafe_vs_benign"].malicious, Sample(HeldOut("alpaca"))
    assert found.head["windows_unsafe_vs_benign"] == HeadMeasurement(Windows(2), unsafe, alpaca)


def test_one_measurement_is_changed_or_left_out_from_the_command_line():
    whole = read(EMBEDDED)
    found = read(
        EMBEDDED, "measurements.attacks.prefill_5.tokens=7", "measurements.attacks.direct.n=3", "seed=4", "behaviors=9",
        "measurements.attacks.sampling.temperatures=(0.5,)", "measurements.head.queries_vs_benign.malicious.n=5",
        "measurements.attacks.nested=none", "measurements.benign=none", "measurements.utility.perplexity.length=64",
    )  # fmt: skip
    attacks = whole.measurements.attacks | {
        "prefill_5": AttackMeasurement(Prefill(7), "embedded"), "direct": AttackMeasurement(Direct(), "embedded", 3),
        "sampling": dataclasses.replace(whole.measurements.attacks["sampling"], attack=SamplingGrid((0.5,))),
    }  # fmt: skip
    attacks.pop("nested")
    assert found.measurements.attacks == attacks and list(found.measurements.attacks) == list(attacks)
    assert found.measurements.benign == {} and found.measurements.utility["perplexity"].utility.length == 64
    assert found.measurements.head["queries_vs_benign"].malicious == Sample(Goals("embedded"), 5)
    assert found.measurements.head["queries_vs_benign"].benign == Sample(Embedded("benign"))
    assert (found.seed, found.behaviors, found.data.seed) == (4, 9, 4)
    direct, sampled = (found.measurements.attacks[name] for name in ("direct", "prefill_5"))
    assert direct.load(found.behaviors, found.data) == load_behaviors("embedded", "", 3, 4)
    assert sampled.load(found.behaviors, found.data) == load_behaviors("embedded", "", 9, 4)
    compared = read(COMPARED, "eval.measurements.attacks.prefill_5.tokens=7", "eval.measurements.head=none")
    assert compared.measurements.attacks["prefill_5"].attack == Prefill(7) and compared.measurements.head == {}


@pytest.mark.parametrize("override, said", [
    ("measurements.attacks.prefil_5.tokens=7", "'prefil_5' is not one of: direct, "),
    ("measurements.attacks.prefill_5.tokns=7", "'tokns' is not one of: behaviors, kind, n, tokens"),
    ("measurements.attacks.prefill_5.tokens=x", "expected a int like 5"), ("measurements.attacks.prefill_5=7", "or all to none"),
    ("measurements.attacks.prefill_5.tokens=0", "config.measurements.attacks.prefill_5: tokens must be at least 1, got 0"),
    ("measurements.attacks.direct.n=0", "config.measurements.attacks.direct: n must be at least 1"),
    ("measurements.attacks.direct.kind=dirct", "attacks.direct.kind 'dirct' is not known; there are: direct, prefill, "),
    ("measurements.attacks.direct.kind=prefill", "attacks.direct lacks tokens, which prefill needs"),
    ("measurements.benign.benign.part=x", "benign.benign: part 'x' is not one of benign, lookalikes, unsafe, refusals"),
    ("measurements.head.queries_vs_benign.benign.kind=x", "head.queries_vs_benign.benign.kind 'x' is not known; there are: goals"),
    ("measurements.head.queries_vs_benign.kind=x", "queries_vs_benign.kind 'x' is not known; there are: queries, windows"),
    ("measurements.utility.perplexity.kind=x", "kind 'x' is not known; there are: perplexity"),
    ("measurements=none", "names nothing to measure"), ("judge.kind=x", "config.judge.kind 'x' is not known; there are: refusal_rules"),
    ("judge=none", "config.judge must be a kind and its fields, got None"), ("batch_size=0", "batch_size"),
    ("prefills=(5,)", "unknown config key 'prefills'"),
])  # fmt: skip
def test_what_is_wrong_with_a_measurement_is_named(override, said):
    with pytest.raises(InputError) as caught:
        read(EMBEDDED, override)
    assert said in str(caught.value) and "\n" not in str(caught.value)


DIRECT = {"kind": "direct", "behaviors": "embedded"}
BENIGN = {"kind": "embedded", "part": "benign"}


@pytest.mark.parametrize("measurements, said", [
    ({"attack": {}}, "config.measurements.attack is not a group of measurements; there are: attacks, benign, head, utility"),
    ({"attacks": [DIRECT]}, "config.measurements.attacks must be named things"), ({"attacks": {}}, "nothing to measure"),
    ({"attacks": {"direct": 3}}, "config.measurements.attacks.direct must be a kind and its fields, got 3"),
    ({"attacks": {"direct": {"behaviors": "embedded"}}}, "attacks.direct has no kind; there are: direct"),
    ({"attacks": {"direct": {"kind": "direct"}}}, "attacks.direct lacks behaviors"),
    ({"attacks": {"direct": {"kind": ["direct"], "behaviors": "embedded"}}}, "kind ['direct'] is not known"),
    ({"attacks": {"direct": DIRECT | {"tokens": 3}}}, "direct.tokens is not a field of direct; there are: kind, behaviors, n"),
    ({"attacks": {"direct": DIRECT | {"behaviors": 3}}}, "attacks.direct: behaviors must be str, got 3"),
    ({"attacks": {"a/b": DIRECT}}, "config.measurements.attacks: 'a/b' cannot be part of a file name"),
    ({"head": {"x": {"kind": "queries", "malicious": BENIGN}}}, "head.x lacks benign"),
    ({"head": {"x": {"kind": "queries", "malicious": BENIGN, "benign": None}}}, "head.x.benign must be a kind and its fields"),
    ({"utility": {"head": {"kind": "perplexity", "examples": BENIGN}}}, "utility: head is the name of something else"),
    ({"benign": {"x": {"kind": "held_out", "source": "alpca"}}}, "benign.x: source 'alpca' is not one of"),
    ({"benign": {"x": {"kind": "xstest", "label": "x"}}}, "label 'x' is not safe or unsafe"),
])  # fmt: skip
def test_a_config_file_whose_measurements_are_wrong(measurements, said):
    with pytest.raises(InputError) as caught:
        to_eval_config({"measurements": measurements})
    assert said in str(caught.value)


@pytest.mark.parametrize("benign, file", [
    ({"kind": "goals", "behaviors": "harmbench"}, "harmbench_targets.json"), (BENIGN, None),
    ({"kind": "held_out", "source": "alpaca"}, "alpaca.jsonl.gz"), ({"kind": "held_out", "source": "embedded"}, None),
    ({"kind": "held_out", "source": "preferred_refusals"}, "beavertails.jsonl.gz"),
    ({"kind": "xstest", "label": "safe"}, "xstest_prompts.csv"),
    ({"kind": "judged", "is_safe": False}, "beavertails_test.jsonl.gz"),
])  # fmt: skip
def test_files_that_are_not_there_are_named_before_anything_else(benign, file, tmp_path):
    head = {"kind": "queries", "malicious": benign, "benign": benign}
    utility = {"kind": "perplexity", "examples": benign}
    for measurements in ({"benign": {"x": benign}}, {"head": {"x": head}}, {"utility": {"x": utility}}):
        config, _ = to_eval_config({"measurements": measurements, "data_dir": str(tmp_path)})
        if file is None:
            check_evaluation_data(config)
        else:
            with pytest.raises(InputError, match=file):
                check_evaluation_data(config)
    attacked, _ = to_eval_config(
        {"measurements": {"attacks": {"x": DIRECT | {"behaviors": "gcg"}}}, "data_dir": str(tmp_path)}
    )
    with pytest.raises(InputError, match="gcg_suffixes"):
        check_evaluation_data(attacked)


def test_parts_of_the_embedded_corpus_are_what_they_say():
    def found(part):
        return Embedded(part).examples(7, EvalData("", ""))

    assert [len(found(part)) for part in ("benign", "lookalikes", "refusals")] == [7] * 3
    assert (
        {e.response_label for e in found("unsafe")} == {1}
        and 0 < len(found("unsafe")) <= 7
        and all(e.response for e in found("unsafe"))
    )
    assert {(e.query_label, e.response_label) for e in found("refusals")} == {(1, 0)}
    assert {(e.query_label, e.response_label) for e in found("benign") + found("lookalikes")} == {(0, 0)}
    assert not {e.turns for e in found("benign")} & {e.turns for e in found("lookalikes")}


TOKENIZER = Tokenizer.train(
    [REFUSAL_PREFIX, "Sure, here is how to bake bread. Step 1: go to the kitchen and take the flour."] * 9, 300
)
MODEL = preset("tiny", layers=1, vocab_size=TOKENIZER.vocab_size)
GATE = GateConfig()
BUNDLE = Bundle(MODEL, random_params(MODEL, scale=0.3), TOKENIZER, get_template("plain"), GATE)
FEW = dict(behaviors=2, benign=2, head_examples=3, max_new_tokens=4, batch_size=2)


@dataclasses.dataclass(frozen=True)
class Suspicious:
    """A judge that finds harm everywhere, `score` of it."""

    score: float = 0.5

    def judge(self, exchanges):
        """All comply."""
        return [Verdict("compliance", self.score) for _ in exchanges]


@pytest.mark.slow
def test_a_judge_is_swapped_by_its_name(monkeypatch):
    monkeypatch.setitem(judges.JUDGES, "suspicious", Suspicious)
    values = {"measurements": {"attacks": {"direct": DIRECT}, "benign": {"benign": BENIGN}}, **FEW}
    by_rules, _ = to_eval_config(values | {"judge": {"kind": "refusal_rules"}})
    assert by_rules.judge == RefusalRules() == to_eval_config(values)[0].judge
    other, _ = to_eval_config(values | {"judge": {"kind": "suspicious", "score": 0.25}})
    assert other.judge == Suspicious(0.25)
    found = evaluate_variant(BUNDLE, None, other, "x", progress=False)
    assert (found["attacks"]["direct"]["asr"], found["attacks"]["direct"]["score"]) == (1.0, 0.25)
    assert {sample["verdict"] for sample in found["attacks"]["direct"]["samples"]} == {"compliance"}
    assert found["benign_refused"]["benign"]["rate"] == 0.0


@pytest.mark.slow
def test_parts_that_another_measurement_leaves_as_they_are_are_not_measured_again(tmp_path, monkeypatch):
    """Of what is kept, a changed attack, judge or cap takes nothing; all else is taken."""
    monkeypatch.setitem(judges.JUDGES, "suspicious", Suspicious)
    feedback = {"kind": "feedback", "behaviors": "embedded", "tokens": 3, "new_tokens": 4, "rounds": 2}
    attacks = {"direct": DIRECT, "feedback": feedback}
    head = {
        "head": {
            "queries": {"kind": "queries", "malicious": {"kind": "goals", "behaviors": "embedded"}, "benign": BENIGN}
        }
    }
    utility = {"utility": {"perplexity": {"kind": "perplexity", "examples": BENIGN}}}
    asked, generate = [], Generator.generate
    monkeypatch.setattr(Generator, "generate", lambda *a: asked.append(a[1]) or generate(*a))

    def measured(attacks, **changes):
        asked.clear()
        values = {"measurements": {"attacks": attacks, **head, **utility}, **FEW, **changes}
        return evaluate_variant(BUNDLE, GATE, to_eval_config(values)[0], "x", tmp_path, progress=False)

    first = measured(attacks)
    assert asked and first["head"]["queries"]["n"] == 6 and first["perplexity_n"] + first["perplexity_skipped"] == 2
    assert measured(attacks) == json.loads(json.dumps(first)) and not asked
    assert measured({"direct": DIRECT})["attacks"] == {"direct": first["attacks"]["direct"]} and not asked
    measured({"direct": DIRECT, "feedback": feedback | {"rounds": 1}})
    assert len(asked) == 1 and all(request.prefill_ids for request in asked[0])  # the changed attack alone
    measured({"direct": DIRECT}, judge={"kind": "suspicious"})
    assert len(asked) == 1
    measured({"direct": DIRECT}, max_new_tokens=5)
    assert len(asked) == 1


def test_utilities_have_rows_of_their_own_and_what_is_not_measured_has_none():
    alone = {
        "attacks": {},
        "benign_refused": {},
        "head": {},
        "perplexity": 3.0,
        "perplexity_n": 9,
        "perplexity_skipped": 0,
    }
    table = markdown_table({"a": alone, "b": {"gate": None, **alone, "other": 2.0, "other_n": 4}})
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == ["perplexity", "other"]
    assert [cell.strip() for cell in table.splitlines()[-1].split("|")[2:4]] == ["–", "2.0"]
    without = {"attacks": {}, "benign_refused": {}, "head": {}}
    assert len(markdown_table({"a": without}).splitlines()) == 2
    assert "<svg" not in html_report({"a": without}) and "<h2>All figures</h2>" in html_report({"a": without})
