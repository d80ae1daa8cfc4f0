"""Schedules by their definition, and sampling against plain numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from safety_align.decoding.config import Sampling
from safety_align.decoding.sampling import filter_logits, sample
from safety_align.decoding.schedule import parse_schedule
from safety_align.errors import InputError

SEEDS = jnp.arange(400, dtype=jnp.uint32)


def due_steps(text: str, steps: int = 300) -> list[int]:
    schedule = parse_schedule(text)
    return [s for s in range(1, steps + 1) if bool(schedule.due(jnp.int32(s), SEEDS[:1])[0])]


def test_schedules_are_what_they_say():
    assert due_steps("every") == list(range(1, 301))
    assert due_steps("first") == []
    assert due_steps("periodic") == list(range(10, 301, 10))
    assert due_steps("periodic:7") == list(range(7, 301, 7))
    assert due_steps("annealing:4/1,12/4,40/14") == [1, 2, 3, 4, 8, 12, 26, 40]
    assert due_steps("annealing") == [*range(1, 9), *range(12, 33, 4), *range(48, 129, 16)]
    assert due_steps("annealing:4/1+periodic:50") == [1, 2, 3, 4, *range(50, 301, 50)]


@pytest.mark.parametrize("text", ["every", "first", "periodic:7", "annealing", "random:0.2", "first+annealing:3/1"])
def test_last_is_the_last_step_due(text):
    last = parse_schedule(text).last
    steps = due_steps(text)
    if last is None:
        assert steps[-1] > 280
    else:
        assert (steps[-1] if steps else 0) == last


def test_random_schedules_hit_their_rate_and_differ_between_rows_and_steps():
    schedule = parse_schedule("random:0.3")
    table = np.array([schedule.due(jnp.int32(s), SEEDS) for s in range(1, 41)])
    # 16,000 draws: six standard deviations of the rate are 0.022.
    assert abs(table.mean() - 0.3) < 0.022
    assert len({row.tobytes() for row in table}) == 40 and len({column.tobytes() for column in table.T}) > 395


def plain_filter(logits: np.ndarray, k: int, p: float) -> set[int]:
    order = sorted(range(len(logits)), key=lambda i: -logits[i])[: k or None]
    weights = np.exp([logits[i] - logits[order[0]] for i in order])
    weights /= weights.sum()
    kept, total = set(), 0.0
    for i, w in zip(order, weights, strict=True):
        if total >= p and p < 1:
            break
        kept.add(i)
        total += w
    return kept


@pytest.mark.parametrize("seed", range(5))
def test_filters_equal_plain_numpy(seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (12, 50)).astype(np.float32)
    k = rng.choice([0, 1, 5, 49, 80], 12)
    p = rng.choice([0.05, 0.5, 0.9, 1.0], 12).astype(np.float32)
    ours = np.isfinite(np.array(filter_logits(jnp.asarray(logits), jnp.asarray(k), jnp.asarray(p))))
    for row in range(12):
        assert set(np.flatnonzero(ours[row])) == plain_filter(
            logits[row].astype(np.float64), int(k[row]), float(p[row])
        )


def test_draws_follow_the_softmax_and_greedy_rows_the_argmax():
    logits = jnp.tile(jnp.log(jnp.array([[0.5, 0.3, 0.15, 0.05]])), (20_000, 1))
    rows = jnp.arange(20_000, dtype=jnp.uint32)
    full = jnp.ones(20_000)
    drawn = np.array(jax.jit(sample)(logits, full, jnp.zeros(20_000, jnp.int32), full, rows, jnp.int32(3)))
    # Five standard deviations of a share of 20,000 draws are at most 0.018.
    np.testing.assert_allclose(np.bincount(drawn, minlength=4) / 20_000, [0.5, 0.3, 0.15, 0.05], atol=0.018)
    cold = sample(
        logits[:5], jnp.array([0.0, 1, 0, 1, 0]), jnp.zeros(5, jnp.int32), jnp.ones(5), rows[:5], jnp.int32(3)
    )
    assert np.array(cold)[[0, 2, 4]].tolist() == [0, 0, 0]
    assert np.array(cold)[[1, 3]].tolist() == drawn[[1, 3]].tolist()  # a neighbour's temperature is no matter


@pytest.mark.parametrize(
    "change, named",
    [
        (dict(temperature=-1.0), "temperature"),
        (dict(temperature=float("nan")), "temperature"),
        (dict(top_k=-1), "top_k"),
        (dict(top_p=0.0), "top_p"),
    ],
)
def test_impossible_sampling_is_named(change, named):
    with pytest.raises(InputError, match=named):
        Sampling(**change)
