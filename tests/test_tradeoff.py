"""The trade-off from one pass against the gate at each threshold, and what it counts."""

import contextlib
import dataclasses

import pytest
from make import random_params

from launch import calibrate, devices, subject
from launch import tradeoff as tradeoff_command
from launch.output import own_output
from safety_align.attacks import TargetModel
from safety_align.bundle import Bundle
from safety_align.decoding import GateConfig, Generator
from safety_align.errors import InputError
from safety_align.evaluation import tradeoff as tradeoff_module
from safety_align.evaluation.asr import attack_success
from safety_align.evaluation.config import EvalConfig
from safety_align.evaluation.judges import Verdict
from safety_align.evaluation.measurements import Measurements
from safety_align.evaluation.over_refusal import benign_refused, benign_requests
from safety_align.evaluation.tradeoff import tradeoff, tradeoff_table
from safety_align.model import preset
from safety_align.text import Tokenizer, get_template

TOKENIZER = Tokenizer.train(["How do I bake bread? Sorry, I cannot fulfill your request because"] * 9, 300)


@dataclasses.dataclass(frozen=True)
class ByLength:
    """A judge of random answers: refusals are those of an odd length."""

    def judge(self, exchanges):
        """See `Judge.judge`."""
        return [Verdict("refusal" if len(e.answer) % 2 else "compliance", 0.0) for e in exchanges]


def setting(**measurements):
    model = preset("tiny", vocab_size=TOKENIZER.vocab_size)
    params = random_params(model, 1, scale=0.3)
    params["safety_kernel"] = 3 * params["safety_kernel"]
    gate = GateConfig(tau=1, r1=3, r2=3, r3=3, visible=False)
    bundle = Bundle(model, params, TOKENIZER, get_template("plain"), gate)
    config = EvalConfig(
        Measurements.read(measurements), judge=ByLength(), behaviors=6, benign=6, max_new_tokens=8, batch_size=6
    )
    return bundle, gate, config


ATTACKS = {
    "direct": {"kind": "direct", "behaviors": "embedded"},
    "grid": {
        "kind": "sampling_grid", "behaviors": "embedded", "n": 2, "temperatures": [0.7, 1.5], "top_ps": [1.0], "top_ks": [0],
        "best_of": 1,
    },
}  # fmt: skip


@pytest.mark.slow
def test_one_pass_says_what_the_gate_does_at_every_threshold(monkeypatch):
    """Exactly, where one check confirms and no answer sees `[CLS]`; the last row is the model without a gate."""
    monkeypatch.setattr(tradeoff_module, "SHOWN", (0.2, 0.6, 0.9))
    bundle, gate, config = setting(attacks=ATTACKS, benign={"b": {"kind": "embedded", "part": "benign"}})
    found = tradeoff(bundle, gate, config, progress=False)
    assert found["thresholds"] == ["none", 0.2, 0.5, 0.6, 0.9]
    for i, at in enumerate(found["thresholds"]):
        acting = "off" if at == "none" else dataclasses.replace(gate, threshold=at)
        target = TargetModel(Generator(bundle, acting), 8, 6)
        for name, measured in config.measurements.attacks.items():
            behaviors = measured.load(config.behaviors, config.data)
            groups = measured.attack.requests(behaviors, bundle)
            results = target.answer([request for group in groups for request in group])
            assert found["attacks"][name]["stopped"][i] == sum(r.refused for r in results) / len(results), (name, at)
            if at == "none":
                expected = attack_success(measured.attack, behaviors, groups, target, config.judge)
                assert found["attacks"][name]["asr"][i]["rate"] == expected["asr"]
        (sample,) = config.measurements.benign.values()
        requests = benign_requests([e.turns for e in sample.examples(config.benign, config.data)])
        expected = benign_refused(requests, target, config.judge)
        assert found["benign"]["b"]["by_gate"][i] == expected["by_gate"]
        if at == "none":
            assert found["benign"]["b"]["refused"][i]["rate"] == expected["rate"]
    for entry in found["attacks"].values():
        rates = [rate["rate"] for rate in entry["asr"]]
        assert rates[1:] == sorted(rates[1:]) and rates[0] >= rates[-1]
    shares = [share for entry in found["attacks"].values() for share in entry["stopped"]] + found["benign"]["b"][
        "by_gate"
    ]
    assert any(0 < share < 1 for share in shares), shares


def test_an_attack_of_several_rounds_is_refused_and_the_table_aligns():
    bundle, gate, config = setting(attacks={"f": {"kind": "feedback", "behaviors": "embedded"}})
    with pytest.raises(InputError, match=r"config\.measurements\.attacks\.f takes several rounds"):
        tradeoff(bundle, gate, config, progress=False)
    half = {"rate": 0.5, "low": 0.1, "high": 0.9, "n": 4, "clusters": 4}
    found = {
        "thresholds": ["none", 0.5, 0.9], "gate": 0.9, "attacks": {"direct": {"asr": [half] * 3, "stopped": [0, 1, 1]}},
        "benign": {"x": {"refused": [half] * 3, "by_gate": [0, 1, 1]}},
    }  # fmt: skip
    lines = tradeoff_table(found).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert [line.split("|")[1].strip() for line in lines] == [
        "threshold",
        "-" * (len(lines[1].split("|")[1])),
        "no gate",
        "0.5",
        "0.9 (the gate's)",
    ]


@pytest.mark.parametrize("command", [calibrate, tradeoff_command])
def test_results_of_another_run_are_not_overwritten(command, tmp_path):
    path = tmp_path / command.RESULTS
    path.write_text('{"about": {"checkpoint": "one"}, "threshold": 0.5}')
    with pytest.raises(InputError, match=f"{command.RESULTS} belongs to another evaluation"):
        with own_output(tmp_path, {"checkpoint": "two"}, command.RESULTS):
            path.write_text("lost")
    with own_output(tmp_path, {"checkpoint": "one"}, command.RESULTS):
        assert "0.5" in path.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("command, config", [(calibrate, "calibrate"), (tradeoff_command, "tradeoff")])
def test_the_commands_keep_to_their_directory(command, config, tmp_path, monkeypatch, capsys):
    """On the embedded corpus; a second model is refused, and the first one's results stay."""
    bundle = setting(attacks=ATTACKS)[0]
    monkeypatch.setattr(subject, "load_unrolled", lambda *_: bundle)
    monkeypatch.setattr(devices, "located", str)
    (tmp_path / "config.py").write_text(
        f"from configs import {config}\n\ndef get_config():\n    config = {config}.get_config()\n"
        "    config.measurements = dict(attacks=dict(direct=dict(kind='direct', behaviors='embedded')),\n"
        "                               benign=dict(b=dict(kind='embedded', part='benign')))\n"
        "    config.behaviors = config.benign = 4\n    config.max_new_tokens = 8\n    return config\n"
    )
    arguments = [config, f"--config={tmp_path / 'config.py'}", f"--output={tmp_path / 'out'}"]
    if config == "calibrate":
        arguments.append("--config.alarms=0.5")
    monkeypatch.setattr("sys.argv", [*arguments, "--checkpoint=one"])
    with contextlib.suppress(InputError):  # of so few answers no threshold may follow
        command.main()
    first = (tmp_path / "out" / command.RESULTS).read_text()
    assert capsys.readouterr().out.count("|") > 10
    monkeypatch.setattr("sys.argv", [*arguments, "--checkpoint=two"])
    with pytest.raises(InputError, match="belongs to another evaluation"):
        command.main()
    assert (tmp_path / "out" / command.RESULTS).read_text() == first
