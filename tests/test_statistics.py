"""Intervals: the textbook's for independent items, and honest ones where items come in clusters."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safety_align.evaluation.statistics import auroc, auroc_interval, rate


@given(st.integers(0, 60), st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_wilson_intervals_solve_their_equation(successes, extra):
    """The bounds are the p with |successes / n - p| = z sqrt(p (1 - p) / n)."""
    n = successes + extra
    found = rate([True] * successes + [False] * extra)
    share = successes / n
    assert found["rate"] == share and found["n"] == found["clusters"] == n
    assert 0 <= found["low"] <= share <= found["high"] <= 1
    for bound in (found["low"], found["high"]):
        assert abs(abs(share - bound) - 1.959964 * np.sqrt(bound * (1 - bound) / n)) < 1e-4


def test_rates_of_nothing_are_not_a_number_to_trust():
    assert rate([]) == {"rate": None, "low": None, "high": None, "n": 0, "clusters": 0}


def test_keys_of_clusters_are_any_names_and_those_of_one_item_each_change_nothing():
    outcomes = [True, False, False, True, True]
    assert rate(outcomes, ["a", ("b",), 3, None, "c"]) == rate(outcomes)
    with pytest.raises(ValueError, match="5 items have 4"):
        rate(outcomes, ["a"] * 4)


@pytest.mark.parametrize("outcome", [True, False])
def test_items_that_agree_are_worth_their_clusters(outcome):
    """Ten behaviours with six suffixes each, none (all) answered, say hardly more than ten behaviours."""
    clustered = rate([outcome] * 60, [i // 6 for i in range(60)])
    ten, sixty = rate([outcome] * 10), rate([outcome] * 60)
    width, of_ten, of_sixty = (found["high"] - found["low"] for found in (clustered, ten, sixty))
    assert of_ten <= width < 1.3 * of_ten and width > 3 * of_sixty
    assert (clustered["n"], clustered["clusters"]) == (60, 10)


def test_one_cluster_is_worth_one_item():
    one = rate([True, False, True, True], "aaaa")
    assert one["rate"] == 0.75 and one["high"] - one["low"] > 0.7


@pytest.mark.parametrize("share, agreement, clusters", [(0.2, 0.5, 60), (0.5, 0.9, 25), (0.2, 0.0, 60)])
def test_the_interval_of_a_rate_covers_it(share, agreement, clusters):
    """Clusters of 1 to 11 answers with chances drawn from a beta distribution: 95 % of intervals hold the true rate,
    within what 400 draws and the approximation allow; those that take answers as independent hold it far less often."""
    rng, held, held_if_independent = np.random.default_rng(1), 0, 0
    for _ in range(400):
        keys = np.repeat(np.arange(clusters), rng.integers(1, 12, clusters))
        a, b = ((1 - agreement) / agreement * p for p in (share, 1 - share)) if agreement else (None, None)
        chances = rng.beta(a, b, clusters) if agreement else np.full(clusters, share)
        outcomes = rng.random(len(keys)) < chances[keys]
        for found, is_clustered in ((rate(outcomes, keys), True), (rate(outcomes), False)):
            inside = found["low"] <= share <= found["high"]
            held += inside and is_clustered
            held_if_independent += inside and not is_clustered
    assert 0.92 <= held / 400 <= 0.99
    if agreement:
        assert held_if_independent / 400 < 0.75


def test_the_interval_of_an_auroc_covers_it():
    """Two windows an answer, scores that are the answer's but for a little noise."""
    rng, held, held_if_independent = np.random.default_rng(2), 0, 0
    truth = 0.7602  # of normals one apart: Phi(1 / sqrt(2))

    def scores(mean):
        return np.repeat(rng.normal(mean, 0.99, 30), 4) + rng.normal(0, 0.14, 120)

    keys = np.repeat(np.arange(30), 4)
    for _ in range(60):
        bad, good = scores(1.0), scores(0.0)
        low, high = auroc_interval(bad, good, keys, keys, draws=120)
        held += low <= truth <= high
        low, high = auroc_interval(bad, good, draws=120)
        held_if_independent += low <= truth <= high
    assert held >= 53 and held_if_independent <= 47


def test_an_auroc_of_single_items_is_resampled_as_items():
    rng = np.random.default_rng(0)
    bad, good = rng.normal(1, 1, 40), rng.normal(0, 1, 50)
    low, high = auroc_interval(bad, good)
    assert low < auroc(bad, good) < high
    assert (low, high) == auroc_interval(bad, good, [f"a{i}" for i in range(40)], [f"b{i}" for i in range(50)])
