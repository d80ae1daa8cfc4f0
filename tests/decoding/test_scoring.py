"""Scores of many texts at once: each is what it is alone, wherever it stands in which row."""

import dataclasses
import itertools

import numpy as np
import pytest
from make import TINY, random_params, random_segment

from safety_align.bundle import Bundle
from safety_align.decoding import GateConfig, score_windows, scoring
from safety_align.decoding.scoring import score_segments, segment_logits, window_segment
from safety_align.model.readout import SignalConfig
from safety_align.text import Tokenizer, Turn, get_template

SIGNALS = {"row": SignalConfig(), "probe": SignalConfig("probe", depths=(1, 2), heads=3, features=5)}


@pytest.mark.parametrize("kind", SIGNALS)
def test_neighbours_in_a_row_change_nothing(kind, monkeypatch):
    """Short texts share rows, a long one has its own; to 1e-5, as sums are in another order."""
    monkeypatch.setattr(scoring, "ROW", 128)
    monkeypatch.setattr(scoring, "CHECKS", 6)
    config = dataclasses.replace(TINY, signal=SIGNALS[kind])
    bundle = Bundle(config, random_params(config, 3, 0.2), None, None)
    rng = np.random.default_rng(11)
    segments = [
        random_segment(rng, int(rng.integers(2, 12)), int(n), int(rng.integers(0, 3))) for n in rng.integers(0, 30, 24)
    ]
    segments.insert(5, random_segment(rng, 20, 150, 2))
    together = segment_logits(bundle, segments, batch_size=4)
    alone = [segment_logits(bundle, [segment])[0] for segment in segments[:8]]
    np.testing.assert_allclose(together[:8], alone, atol=1e-5)
    assert len(set(together)) > 20
    back = segment_logits(bundle, segments[::-1], batch_size=64)
    np.testing.assert_allclose(back[::-1], together, atol=1e-5)
    assert len(segment_logits(bundle, [])) == 0


@pytest.mark.parametrize("kind, visible", [("row", True), ("row", False), ("probe", False)])
@pytest.mark.parametrize("reads", ["window", "with_query", "all"])
def test_windows_of_one_answer_are_what_each_is_alone(kind, visible, reads, monkeypatch):
    """In any order, more of them than a row takes, clipped to the answer; to 1e-6 of a probability."""
    monkeypatch.setattr(scoring, "WINDOWS", 3)
    tokenizer = Tokenizer.train(["how do I bake bread? take a pan and water, x y z"] * 9, 300)
    config = dataclasses.replace(TINY, signal=SIGNALS[kind], vocab_size=tokenizer.vocab_size)
    bundle = Bundle(config, random_params(config, 3, 0.3), tokenizer, get_template("plain"))
    gate = GateConfig(
        r1=4, r2=4, r3=4, visible=visible, windows_include_query=reads == "with_query",
        reads="all" if reads == "all" else "windows",
    )  # fmt: skip
    asked = [
        ((Turn("user", f"how do I {what}?"),), answer)
        for what, answer in (("bake", "take a pan and water" * 3), ("x", "zz y a pan? x bread"))
    ]
    windows = [(*pair, tokens) for pair, tokens in itertools.product(asked, (9, 2, 4, 30, 0, 17, 500))]
    found = score_windows(bundle, windows, gate)
    alone = score_segments(bundle, [window_segment(bundle, gate, *window) for window in windows])
    np.testing.assert_allclose(found, alone, atol=1e-6)
    assert len(set(np.round(alone, 5))) > 6
