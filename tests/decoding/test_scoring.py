"""Scores of many texts at once: each is what it is alone, wherever it stands in which row."""

import dataclasses

import numpy as np
import pytest
from make import TINY, random_params, random_segment

from safety_align.bundle import Bundle
from safety_align.decoding import scoring
from safety_align.decoding.scoring import segment_logits
from safety_align.model.readout import SignalConfig

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
