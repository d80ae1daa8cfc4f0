"""The threshold that a calibration chooses: what it claims of false alarms, and that it reads checks as the gate does."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
import scipy.stats
from make import random_params

from safety_align.bundle import Bundle
from safety_align.decoding import GateConfig, Generator, Request
from safety_align.decoding.config import THRESHOLDS
from safety_align.decoding.requests import CheckResult, Result
from safety_align.errors import InputError
from safety_align.evaluation.calibration import (
    CalibrationConfig,
    accepted,
    peak,
    read_calibration,
    refused,
    watching,
)
from safety_align.evaluation.calibration_run import calibrate, calibration_table
from safety_align.evaluation.config import EvalConfig
from safety_align.evaluation.example_sets import EvalData, HeldOut
from safety_align.evaluation.measurements import Measurements
from safety_align.model import preset
from safety_align.text import Tokenizer, Turn, get_template

TOKENIZER = Tokenizer.train(["How do I bake bread? Sorry, I cannot fulfill your request because"] * 9, 300)


def answer(*probabilities) -> Result:
    checks = [CheckResult(i, p, 0, 0) for i, p in enumerate(probabilities)]
    return Result("", [], False, 0.0, 0.0, "benign", None, None, "eos", checks)


@pytest.mark.parametrize("tau", [1, 2, 3])
def test_a_peak_is_where_an_automaton_stops_to_refuse(tau):
    """The automaton in its words: the first check, then tau malicious ones in a row, or fewer at the end."""

    def refuses(values, threshold):
        streak = 0
        for value in values[1:]:
            streak = streak + 1 if value >= threshold else 0
            if streak == tau:
                return True
        return values[0] >= threshold or streak > 0

    rng = np.random.default_rng(tau)
    for _ in range(300):
        values = np.round(rng.random(rng.integers(1, 9)), 1).tolist()
        found = peak(answer(*values), tau)
        for threshold in np.arange(0.05, 1, 0.1):
            assert (found >= threshold) == refuses(values, threshold), (values, threshold)
    assert peak(answer(0.1, float("nan")), tau) == 1.0
    with pytest.raises(InputError, match="without checks"):
        peak(answer(), tau)


@pytest.mark.slow
@pytest.mark.parametrize("visible", [True, False])
def test_the_gate_refuses_what_a_calibration_says_it_refuses(visible):
    """At every threshold: exactly, where one check confirms, so that no window is read by rule 3."""
    model = preset("tiny", vocab_size=TOKENIZER.vocab_size)
    params = random_params(model, 1, scale=0.3)
    params["safety_kernel"] = 3 * params["safety_kernel"]
    gate = GateConfig(tau=1, r1=3, r2=3, r3=3, visible=visible)
    bundle = Bundle(model, params, TOKENIZER, get_template("plain"), gate)
    requests = [
        Request((Turn("user", text),), prefill=prefill, seed=0)
        for text, prefill in itertools.product(("bread", "how do", "bake", "I", "you?"), ("", "Sorry, I bake"))
    ]
    peaks = [peak(r, 1) for r in Generator(bundle, watching(gate)).generate(requests, 8, 10)]
    thresholds = sorted({0.5, *np.quantile(peaks, [0.2, 0.4, 0.6, 0.8])})
    outcomes = set()
    for threshold in np.clip(np.array(thresholds) + 1e-5, *THRESHOLDS):
        acting = Generator(bundle, dataclasses.replace(gate, threshold=float(threshold)))
        found = [r.refused for r in acting.generate(requests, 8, 10)]
        assert found == [p >= threshold for p in peaks], threshold
        outcomes |= set(found)
    assert outcomes == {True, False}


@pytest.mark.parametrize("alarms, doubt", [(0.01, 0.05), (0.1, 0.05), (0.05, 0.2)])
def test_a_threshold_keeps_its_word(alarms, doubt):
    """Over many samples the rate of true alarms at the chosen threshold exceeds `alarms` in at most `doubt` of them, and not
    much more rarely: binomial counts, with three standard errors; and it is the lowest such threshold."""
    rng, wrong, runs = np.random.default_rng(5), 0, 1000
    chance = scipy.stats.binom.cdf(np.arange(401), 400, alarms)  # of so many or fewer
    for _ in range(runs):
        peaks = rng.random(400) * 0.9
        threshold = accepted(peaks, alarms, doubt)
        wrong += 1 - threshold / 0.9 > alarms
        k = int((peaks >= threshold).sum())
        assert chance[k] <= doubt < chance[k + 1]
    assert wrong / runs <= doubt + 3 * np.sqrt(doubt * (1 - doubt) / runs)
    assert wrong > 0


def test_what_cannot_be_said_is_not():
    with pytest.raises(InputError, match="that takes 299"):
        accepted([0.1] * 298, 0.01, 0.05)
    assert accepted([0.1] * 299, 0.01, 0.05) == pytest.approx(0.1, abs=1e-6)
    with pytest.raises(InputError, match="3 of 299"):
        accepted([0.1] * 296 + [1.0] * 3, 0.01, 0.05)
    with pytest.raises(InputError, match="0 benign answers"):
        accepted([], 0.5, 0.5)


def test_the_table_marks_the_threshold():
    benign, attacks = {"alpaca": [0.1, 0.6]}, {"direct": [0.9, 0.2]}
    found = {
        "threshold": 0.61,
        "benign": refused(benign, 0.61),
        "attacks": refused(attacks, 0.61),
        "curve": [
            {"threshold": at, "benign": refused(benign, at), "attacks": refused(attacks, at)} for at in (0.5, 0.61)
        ],
    }
    lines = calibration_table(found).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == ["0.5", "50.0", "50.0"]
    assert [cell.strip() for cell in lines[3].split("|")[1:-1]] == ["0.61 (chosen)", "0.0", "50.0"]


@pytest.mark.slow
def test_a_calibration_answers_once_and_shows_the_curve_though_no_threshold_can_be_had(tmp_path):
    model = preset("tiny", vocab_size=TOKENIZER.vocab_size)
    gate = GateConfig(tau=2)
    bundle = Bundle(model, random_params(model, 1, scale=0.3), TOKENIZER, get_template("plain"), gate)
    measurements = Measurements.read(
        {
            "benign": {
                "a": {"kind": "embedded", "part": "benign"},
                "b": {"kind": "embedded", "part": "lookalikes", "n": 3},
            },
            "attacks": {"direct": {"kind": "direct", "behaviors": "embedded", "n": 2}},
        }
    )
    config = EvalConfig(measurements, benign=5, max_new_tokens=8, batch_size=4)
    found = calibrate(bundle, gate, config, CalibrationConfig(0.45, 0.05), tmp_path, progress=False)
    peaks = found["peaks"]["benign"]
    assert (found["n"], len(peaks["a"]), len(peaks["b"]), len(found["peaks"]["attacks"]["direct"])) == (8, 5, 3, 2)
    assert found["threshold"] == accepted([*peaks["a"], *peaks["b"]], 0.45, 0.05) and found["why_none"] is None
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    strict = calibrate(bundle, gate, config, CalibrationConfig(), tmp_path, progress=False)
    assert strict["threshold"] is None and "that takes 299" in strict["why_none"] and strict["peaks"] == found["peaks"]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == files  # nothing was answered again
    assert len(calibration_table(strict).splitlines()) == 2 + len(strict["curve"])


def test_a_file_that_is_no_calibration_is_refused(tmp_path):
    path = tmp_path / "calibration.json"
    known = {"threshold": 0.7, "alarms": 0.01, "doubt": 0.05, "n": 9, "benign": {}, "attacks": {}, "about": {}}
    path.write_text(json.dumps(known | {"curve": [], "peaks": {}}))
    assert read_calibration(path) == known
    for broken in (known | {"threshold": 1.5}, {"threshold": 0.5}, known | {"threshold": "high"}):
        path.write_text(json.dumps(broken))
        with pytest.raises(InputError, match=r"calibration\.json"):
            read_calibration(path)


def test_a_calibration_shares_nothing_with_an_evaluation(tmp_path):
    data = EvalData(str(tmp_path), str(tmp_path), seed=3)
    whole = {e.id for e in HeldOut("embedded").examples(10**6, data)}
    rest = {e.id for e in HeldOut("embedded", after=(20, 30)).examples(10**6, data)}
    taken = {e.id for size in (20, 30) for e in HeldOut("embedded").examples(size, data)}
    assert 30 < len(taken) <= 50 and rest == whole - taken
