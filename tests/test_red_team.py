"""launch.red_team: each attack with the gate and without, on disk as launch.attack leaves it, and in one table."""

import json

import pytest
from test_attack_command import BUNDLE

from launch import cli
from launch.red_team import main
from safety_align.errors import InputError
from safety_align.evaluation.red_team import harm_table, red_team_table, to_red_team_config

CONFIG = """
from ml_collections import ConfigDict

def get_config():
    return ConfigDict(dict(
        attacks=dict(
            direct=dict(kind="direct", goals=3),
            gcg=dict(kind="gcg", steps=2, width=4, batch=4, tokens=3, lam=0.3, goals=1),
            rap=dict(kind="rap", goals=1, gate_off=False),
        ),
        data_dir="nowhere", max_new_tokens=4, batch_size=4,
    ))
"""


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Runs the command with some options → its exit code; models are that of `test_attack_command`."""
    (tmp_path / "config.py").write_text(CONFIG)
    monkeypatch.setattr("launch.red_team.load_unrolled", lambda path, mesh, dtype: BUNDLE)
    monkeypatch.setattr("launch.red_team.hub.identity", str)
    monkeypatch.setattr("launch.red_team.devices.located", str)

    def run(*options: str) -> int:
        monkeypatch.setattr("sys.argv", ["red_team", f"--config={tmp_path / 'config.py'}", *options])
        return main()

    return run


@pytest.mark.slow
def test_every_attack_is_made_with_and_without_the_gate_and_goes_on(command, tmp_path, capsys):
    options = ("--checkpoint=a/one", "--checkpoint=b/two", f"--output={tmp_path / 'out'}")
    assert command(*options) == cli.EXIT_OK
    table = capsys.readouterr().out
    success, harm = table.split("\n\nHarmful tokens")
    for part in (success, harm):
        assert [line.split("|")[1].strip() for line in part.rstrip().splitlines()[4:]] == ["direct", "gcg", "rap"]
    assert "one, gate off" in table and "two, gate on" in table
    found = json.loads((tmp_path / "out" / "results.json").read_text())["models"]
    assert found["one"]["direct"]["gate_on"]["n"] == 3 and "gate_off" not in found["one"]["rap"]
    ways = {where: entry["about"]["attack"]["lam"] for where, entry in found["two"]["gcg"].items()}
    assert ways == {"gate_on": 0.3, "gate_off": 1.0}
    assert found["one"]["gcg"]["gate_off"]["about"]["gate"] is None
    assert found["one"]["gcg"]["gate_off"]["budget"]["kind"] == "gcg"
    # Interrupted: what is there is not made again, what is not is.
    (tmp_path / "out" / "one" / "gate_on" / "direct" / "results.json").unlink()
    lines = tmp_path / "out" / "one" / "gate_on" / "direct" / "attacks.jsonl"
    whole = lines.read_text()
    lines.write_text(whole[:-20])
    assert command(*options) == cli.EXIT_OK
    assert capsys.readouterr().out == table and lines.read_text() == whole


def test_another_run_and_bad_input_are_named(command, tmp_path):
    output = f"--output={tmp_path / 'out'}"
    assert command("--checkpoint=a/one", output, "--config.attacks.gcg=none", "--config.attacks.rap=none") == 0
    for options, said in (
        (("--checkpoint=a/one", output), "another"),
        (("--checkpoint=a/one", "--checkpoint=b/one", output), "two checkpoints"),
        (("--checkpoint=b/two", output, "--config.attacks.gcg=none", "--config.attacks.rap=none"), "another"),
        (("--checkpoint=a/one", output, "--config.attacks.gcg.behaviors=nope"), "nope"),
        (("--checkpoint=a/one", output, "--config.attacks.gcg.behaviors=advbench", "--judge=embedded"), "embedded"),
        (("--checkpoint=a/one", output, "--gate.nothing=1"), "nothing"),
        (("--checkpoint=a/one", output, "--config.attacks.gcg.nothing=1"), "nothing"),
        (("--checkpoint=a/one", output, "--config.attacks.gcg.goals=0"), "goals"),
    ):
        with pytest.raises(InputError, match=said):
            command(*options)
    for values, said in (({}, "attacks"), ({"attacks": {"x": {"kind": "none"}}}, "kind"), ({"attacks": {}}, "attacks")):
        with pytest.raises(InputError, match=said):
            to_red_team_config(values)
    with pytest.raises(InputError, match="red team"):
        to_red_team_config({"attacks": {"x": {"kind": "direct"}}, "no_such": 1})


def test_a_table_shows_harm_that_was_read():
    harm = {"by_judge": {"rules": {"mean": 2.25, "max": 9, "over_10": 0.0}}}
    found = {"direct": {"gate_on": {"harm_released": harm}}}
    head, _, last = harm_table({"m": found}, "rules").splitlines()
    assert [cell.strip() for cell in last.strip("|").split("|")] == ["direct", "2.2, at most 9"] and "gate on" in head


def test_the_table_shows_the_steps_to_break():
    asr = {"rules": {"rate": 0.5, "low": 0.25, "high": 0.75, "n": 4}}
    found = {
        "gcg": {
            where: {"asr": asr, "steps_to_break": {"rules": steps}}
            for where, steps in (("gate_on", 30.0), ("gate_off", None))
        }
    }
    last = red_team_table({"m": found}, "rules").splitlines()[-1]
    assert [cell.strip() for cell in last.strip("|").split("|")] == [
        "gcg", "50.0 [25.0, 75.0]", "50.0 [25.0, 75.0], 30 steps",
    ]  # fmt: skip
