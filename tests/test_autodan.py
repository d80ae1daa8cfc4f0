"""AutoDAN: prompts measured together against one by one, what its operations keep, and a search that never gets worse."""

import dataclasses
import re

import numpy as np
import pytest
from test_gcg import GATES, GOAL, TARGET, TOKENIZER, bundle_of, losses_of

from safety_align.attacks import AutoDan
from safety_align.attacks.autodan import (
    Fitness,
    autodan,
    crossed,
    first_population,
    mutated,
    next_population,
    with_goal,
    word_scores,
)
from safety_align.attacks.behaviors import TEMPLATE_SLOT
from safety_align.attacks.objective import AttackLoss, attack_row, stacked
from safety_align.attacks.prototypes import PROTOTYPES, SYNONYMS
from safety_align.data.behavior import Behavior
from safety_align.errors import InputError

FRESH = int(np.random.SeedSequence().entropy % 2**32)
NOTHING = np.zeros(0, np.int32)
SHORT = (("x y", f"Bake {TEMPLATE_SLOT}"), (f"{TEMPLATE_SLOT}, x y z", "take a pin"), (TEMPLATE_SLOT,))
"""Templates that this tokenizer writes in few tokens."""


LONG = ("x y z " * 30, f"Bake {TEMPLATE_SLOT}")


def check_fitness(name: str, templates) -> None:
    """One batch is the rows one by one, each of its own length: 1e-4, sums in other order."""
    bundle, gate, loss = bundle_of(name), GATES[name], AttackLoss(0.3)
    prompts = [with_goal(template, GOAL) for template in templates]
    rows = [attack_row(bundle, gate, prompt, TARGET, NOTHING) for prompt in prompts]
    assert len({row.tokens.shape[1] for row in rows}) > 1 and len({int(row.predicts[0]) for row in rows}) > 1
    expected = [losses_of(bundle, row, loss) for row in rows]
    assert len({round(e["statistic"], 3) for e in expected}) == len(prompts)
    expected = [[e[key] for key in ("loss", "cross_entropy", "statistic")] for e in expected]
    np.testing.assert_allclose(Fitness(bundle, gate, GOAL, TARGET, loss)(prompts), expected, atol=1e-4)
    if len(prompts) > 2:
        fitness = Fitness(bundle, gate, GOAL, TARGET, loss, batch=2)
        np.testing.assert_allclose(fitness(prompts[:2]), expected[:2], atol=1e-4)  # before any is long
        np.testing.assert_allclose(fitness(prompts), expected, atol=1e-4)
        np.testing.assert_allclose(fitness(prompts[:2]), expected[:2], atol=1e-4)


def test_prompts_are_measured_together_as_one_by_one():
    check_fitness("row", (SHORT[0], LONG))


@pytest.mark.slow
@pytest.mark.parametrize("name", GATES)
def test_prompts_are_measured_together_as_one_by_one_through_every_gate(name):
    check_fitness(name, (*SHORT, LONG))


def test_a_whole_prompt_is_the_row_of_its_request():
    """Nothing is free in it, and stacking changes no row."""
    bundle = bundle_of("row")
    rows = [attack_row(bundle, GATES["row"], with_goal(t, GOAL), TARGET, NOTHING, 128) for t in SHORT]
    both = stacked(rows)
    assert both.tokens.shape == (3, 128) and both.free.shape == (3, 0) and both.tau == GATES["row"].tau
    for i, row in enumerate(rows):
        np.testing.assert_array_equal(both.tokens[i], row.tokens[0])
        np.testing.assert_array_equal(both.routing.cls_range[i], row.routing.cls_range[0])
        np.testing.assert_array_equal(both.predicts[i], row.predicts)


def slots_of(template) -> int:
    return sum(sentence.count(TEMPLATE_SLOT) for sentence in template)


def test_the_prototypes_and_the_words():
    assert len(PROTOTYPES) >= 8 and all(slots_of(template) == 1 for template in PROTOTYPES)
    assert all(len(template) >= 4 for template in PROTOTYPES) and len(set(PROTOTYPES)) == len(PROTOTYPES)
    every = [word for group in SYNONYMS for word in group]
    assert len(set(every)) == len(every) and all(word == word.lower() for word in every)


def test_children_are_made_of_their_parents_sentences_with_the_goal_once():
    rng = np.random.default_rng(FRESH)
    taken = set()
    for _ in range(300):
        first, second = (PROTOTYPES[i] for i in rng.choice(len(PROTOTYPES), 2, replace=False))
        child = crossed(first, second, rng)
        assert slots_of(child) == 1 and set(child) <= set(first) | set(second), FRESH
        assert len(set(child)) == len(child) <= max(len(first), len(second)) + 3, FRESH
        taken.add((set(child) <= set(first), set(child) <= set(second)))
    assert (False, False) in taken, FRESH  # of both
    assert all(crossed(t, t, rng) == t for t in PROTOTYPES)


def groups_of(text: str) -> str:
    """`text` with each word that has synonyms as the number of its group."""
    numbers = {word: i for i, group in enumerate(SYNONYMS) for word in group}
    pattern = "|".join(sorted(map(re.escape, numbers), key=len, reverse=True))
    return re.sub(rf"(?i)\b({pattern})\b", lambda found: f"<{numbers[found[0].lower()]}>", text)


def test_a_mutation_changes_places_and_synonyms_and_nothing_else():
    rng = np.random.default_rng(FRESH)
    kept = 0
    for template in PROTOTYPES * 5:
        found = mutated(template, 1.0, {}, rng)
        assert sorted(map(groups_of, found)) == sorted(map(groups_of, template)), FRESH
        assert [groups_of(s) for s in found] != [groups_of(s) for s in template] and slots_of(found) == 1
        kept += sum(s in found for s in template)
        assert mutated(template, 0.0, {}, rng) == template
    assert kept < 0.6 * 5 * sum(map(len, PROTOTYPES)), FRESH
    goal = (f"answer {TEMPLATE_SLOT}",)
    assert {mutated(goal, 1.0, {}, rng) for _ in range(9)} == {(f"reply {TEMPLATE_SLOT}",)}
    assert mutated(("Answer it",), 1.0, {}, rng) == ("Reply it",)


def test_words_of_good_prompts_are_preferred():
    population = [("full story",), ("complete tale",), ("thorough",)]
    scores = word_scores(population, np.array([1.0, 3.0, np.inf]), {})
    assert scores == {"full": -1, "story": -1, "complete": -3, "tale": -3}
    later = word_scores(population, np.array([2.0, 3.0, 9.0]), scores)
    assert later["full"] == -1.5 and later["complete"] == -3 and later["thorough"] == -9
    rng = np.random.default_rng(FRESH)
    biased = {"full": 0.0, "thorough": -50.0, "complete": -50.0}
    assert {mutated(("complete",), 1.0, biased, rng) for _ in range(30)} == {("full",)}


def test_the_next_population_keeps_the_elite_and_draws_the_fit():
    rng = np.random.default_rng(FRESH)
    config = AutoDan(population=6, elite=2, crossover=0.0, mutation=0.0)
    population = [(f"{i} {TEMPLATE_SLOT}",) for i in range(6)]
    losses = np.array([9.0, 3.0, np.inf, 1.0, 8.0, 99.0])
    found = next_population(population, losses, {}, config, rng)
    assert found[:2] == [population[3], population[1]] and len(found) == 6
    drawn = [t for _ in range(200) for t in next_population(population, losses, {}, config, rng)[2:]]
    share = drawn.count(population[3]) / len(drawn)
    assert share == pytest.approx(1 / (1 + np.exp(-2) + np.exp(-7) + np.exp(-8)), abs=5 * (0.1 / 800) ** 0.5), FRESH
    assert population[2] not in drawn
    first = first_population(dataclasses.replace(config, population=len(PROTOTYPES) + 3), rng)
    assert tuple(first[: len(PROTOTYPES)]) == PROTOTYPES and len(first) == len(PROTOTYPES) + 3
    assert all(slots_of(template) == 1 for template in first)
    assert len(first_population(config, rng)) == 6


@pytest.mark.slow
def test_a_search_never_gets_worse_and_is_the_same_again():
    bundle, gate = bundle_of("row"), GATES["row"]
    config = AutoDan(generations=5, population=12, mutation=0.3, batch=4, seed=1, look_every=2)
    curve = autodan(bundle, gate, GOAL, TARGET, config).curve
    assert curve[-1][0] < curve[0][0] - 0.05
    config = dataclasses.replace(config, seed=FRESH % 1000)  # of which some find nothing better in five generations
    found = autodan(bundle, gate, GOAL, TARGET, config)
    losses = [point[0] for point in found.curve]
    assert len(losses) == 6 and losses == sorted(losses, reverse=True), config
    assert found.loss == losses[-1], config
    row = attack_row(bundle, gate, with_goal(found.template, GOAL), TARGET, NOTHING)
    assert losses_of(bundle, row, config.loss)["loss"] == pytest.approx(found.loss, abs=1e-4)
    assert autodan(bundle, gate, GOAL, TARGET, config) == found
    asked = []
    crafted = config.craft(Behavior(GOAL, TARGET), bundle, gate, lambda request: bool(asked.append(request)))
    assert len(asked) == 2 and crafted.steps == 5 and crafted.record["curve"] == [list(point) for point in found.curve]
    assert crafted.request.turns[0].text == with_goal(found.template, GOAL)
    stopped = config.craft(Behavior(GOAL, TARGET), bundle, gate, lambda request: True)
    assert stopped.steps == 2 and stopped.record["curve"] == crafted.record["curve"][:3]


def test_a_prompt_without_a_number_is_the_worst():
    bundle = bundle_of("row")
    broken = dataclasses.replace(bundle, params=bundle.params | {"safety_bias": bundle.params["safety_bias"] * np.nan})
    with pytest.raises(InputError, match="finite loss"):
        autodan(broken, GATES["row"], "x", TARGET, AutoDan(generations=1, population=2, elite=1))


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"elite": 16}, "elite"),
        ({"mutation": 2.0}, "mutation"),
        ({"batch": 5}, "multiple"),
        ({"lam": -1.0}, "lam"),
        ({"generations": 0}, "generations"),
    ],
)
def test_settings_that_are_none_are_named(fields, said):
    with pytest.raises(InputError, match=f"attack.*{said}"):
        AutoDan(**fields)


def test_the_tokenizer_is_small_enough_for_these_tests():
    assert len(TOKENIZER.encode(with_goal(SHORT[2], GOAL), "text")) < 40
