"""Schedules by their definition, and sampling against plain numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from safety_align.decoding.config import Sampling
from safety_align.decoding.sampling import filter_logits, sample
from safety_align.decoding.schedule import parse_schedule
from safety_align.errors import InputError

SEEDS = jnp.arange(400, dtype=jnp.uint32)


def due_steps(text: str, steps: int = 300) -> list[int]:
    due = jax.jit(jax.vmap(parse_schedule(text).due, in_axes=(0, None)))
    return [int(step) + 1 for step in np.flatnonzero(due(jnp.arange(1, steps + 1), SEEDS[:1]))]


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
    table = np.array(jax.jit(jax.vmap(schedule.due, in_axes=(0, None)))(jnp.arange(1, 41), SEEDS))
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


@pytest.mark.parametrize("text", ["periodic:99999999999", "annealing:8/0", "annealing:3000000000/1", "every+" * 200])
def test_schedules_stay_within_int32(text):
    with pytest.raises(InputError, match="schedule"):
        parse_schedule(text)


kept = jax.jit(filter_logits)
draw = jax.jit(sample)
drawn = jax.jit(jax.vmap(sample, in_axes=(None, None, None, None, None, 0)))


@pytest.mark.parametrize("seed", range(5))
def test_filters_equal_plain_numpy(seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (12, 50)).astype(np.float32)
    k = rng.choice([0, 1, 5, 49, 80], 12)
    p = rng.choice([0.05, 0.5, 0.9, 1.0], 12).astype(np.float32)
    ours = np.isfinite(np.array(kept(logits, k, p)))
    for row in range(12):
        assert set(np.flatnonzero(ours[row])) == plain_filter(
            logits[row].astype(np.float64), int(k[row]), float(p[row])
        )


def test_draws_follow_the_softmax_and_greedy_rows_the_argmax():
    logits = jnp.tile(jnp.log(jnp.array([[0.5, 0.3, 0.15, 0.05]])), (20_000, 1))
    rows = jnp.arange(20_000, dtype=jnp.uint32)
    full = jnp.ones(20_000)
    warm = np.array(draw(logits, full, jnp.zeros(20_000, jnp.int32), full, rows, jnp.int32(3)))
    # Five standard deviations of a share of 20,000 draws are at most 0.018.
    np.testing.assert_allclose(np.bincount(warm, minlength=4) / 20_000, [0.5, 0.3, 0.15, 0.05], atol=0.018)
    cold = draw(logits[:5], jnp.array([0.0, 1, 0, 1, 0]), jnp.zeros(5, jnp.int32), jnp.ones(5), rows[:5], jnp.int32(3))
    assert np.array(cold)[[0, 2, 4]].tolist() == [0, 0, 0]
    assert np.array(cold)[[1, 3]].tolist() == warm[[1, 3]].tolist()  # a neighbour's temperature is no matter


def test_a_row_without_filters_draws_the_same_beside_one_with_them():
    """Alone nothing is sorted; and a top_p that is no number filters, as ever."""
    logits = jax.random.normal(jax.random.key(0), (3, 50)) * 3
    warm, none, full = jnp.full(3, 1.3), jnp.zeros(3, jnp.int32), jnp.ones(3)
    for step in range(20):
        alone = np.array(draw(logits, warm, none, full, SEEDS[:3], jnp.int32(step)))
        beside = np.array(draw(logits, warm, jnp.array([0, 2, 0]), full, SEEDS[:3], jnp.int32(step)))
        assert alone[[0, 2]].tolist() == beside[[0, 2]].tolist()
        best = draw(logits, warm, none, jnp.full(3, jnp.nan), SEEDS[:3], jnp.int32(step))
        assert best.tolist() == logits.argmax(-1).tolist()


NUMBERS = st.one_of(
    st.floats(-30, 30, width=32),
    st.sampled_from([0.0, 1.0, -np.inf, np.inf, np.nan, 3.4e38, -3.4e38, 1e-45, 1e30]),
)
SETTINGS = st.tuples(
    st.sampled_from([1e-30, 1e-6, 0.1, 1.0, 7.0, 1e4, 1e30, np.inf]),
    st.sampled_from([-1, 0, 1, 3, 16, 40, 2**31 - 1]),
    st.sampled_from([0.0, 1e-50, 1e-45, 1e-6, 0.3, 0.9, 1 - 1e-12, 1.0, np.nan]),
)


@given(hnp.arrays(np.float32, (3, 16), elements=NUMBERS), st.lists(SETTINGS, min_size=3, max_size=3))
@settings(max_examples=150, deadline=None)
def test_draws_are_tokens_that_the_settings_allow(logits, rows):
    """On numbers of every kind, 64 draws of each row lie in the set that plain numpy keeps."""
    temperature, top_k, top_p = (np.array(c, d) for c, d in zip(zip(*rows, strict=True), "fif", strict=True))
    tokens = np.array(drawn(logits, temperature, top_k, top_p, SEEDS[:3], jnp.arange(64)))
    for row in range(3):
        values = np.nan_to_num(logits[row], nan=np.finfo(np.float32).min).astype(np.float64)
        with np.errstate(over="ignore"):
            below = np.float32(values - values.max()).astype(np.float64) / np.clip(temperature[row], 1e-4, 1e4)
        order = np.argsort(-below, kind="stable")
        kept = order[: top_k[row] if top_k[row] > 0 else 16]
        chance = np.exp(below[kept])
        before = np.cumsum(chance) / chance.sum() - chance / chance.sum()
        # float32 sums of 16 shares are good to 1e-5; a nucleus that ends that near to top_p may end a token later.
        inside = before < top_p[row] + 1e-5 if top_p[row] < 1 else np.ones(len(kept), bool)
        inside[0] = True
        # The last one's ties are kept too, and what rounds to it.
        allowed = below >= below[kept[inside][-1]] * (1 + 1e-5) - 1e-5
        assert set(tokens[:, row]) <= set(np.flatnonzero(allowed & (below > -110)))


def test_the_most_likely_token_survives_every_setting():
    logits = jnp.array([[0.0, 1.0, 5.0, 2.0, -jnp.inf, jnp.nan]])
    for temperature in (0.0, 1e-30, 1.0, 1e30):
        for top_k, top_p in ((1, 1.0), (0, 1e-50), (0, 0.0), (0, jnp.nan), (2**31 - 1, 1e-45)):
            arguments = (jnp.array([temperature]), jnp.array([top_k]), jnp.array([top_p]))
            assert draw(logits, *arguments, SEEDS[:1], jnp.int32(0)).tolist() == [2]
    # All equal: none is better, all are kept. All impossible: still a token of the vocabulary.
    assert np.isfinite(kept(jnp.zeros((1, 5)), jnp.array([1]), jnp.array([1e-6]))).all()
    assert 0 <= int(draw(jnp.full((1, 5), jnp.nan), *map(jnp.array, ([1.0], [0], [1.0])), SEEDS[:1], 0)[0]) < 5


@pytest.mark.parametrize(
    "change, named",
    [
        *((dict(temperature=t), "temperature") for t in (-1.0, float("nan"), float("inf"), 1e-30, 1e30, True, "1")),
        *((dict(top_k=k), "top_k") for k in (-1, 3_000_000_000, 1.0, True, None)),
        *((dict(top_p=p), "top_p") for p in (0.0, 1e-50, 1.1, float("nan"), True, "0.5")),
    ],
)
def test_impossible_sampling_is_named(change, named):
    with pytest.raises(InputError, match=named):
        Sampling(**change)


def test_possible_sampling_is_taken():
    for change in (
        dict(temperature=0),
        dict(top_k=2**31 - 1),
        dict(top_p=1),
        dict(temperature=np.float64(0.7), top_p=1e-6),
    ):
        taken = Sampling(**change)
        assert all(getattr(taken, name) == value for name, value in change.items())
