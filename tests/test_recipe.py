"""Recipes in conversations: what follows from them, and whether the measured figures that they start from still hold."""

import functools
import pathlib

import pytest

from configs import (
    align_llama2_7b,
    align_llama2_7b_augmented,
    align_llama2_7b_dpo,
    align_mistral_7b,
    align_small,
)
from safety_align.benchmarks.packing import count_rows
from safety_align.data.sources import DERIVED
from safety_align.data.specs import is_held_out, source_examples
from safety_align.data.system_turns import with_roles
from safety_align.errors import InputError
from safety_align.text import ImportedTokenizer
from safety_align.training import recipe
from safety_align.training.from_dict import to_train_config

DATA = pathlib.Path(__file__).parents[1] / "../shared/data"
needs_data = pytest.mark.skipif(
    not (DATA / "checkpoints/llama2_tokenizer.model").is_file(), reason="needs the data files of ../shared/data"
)


def test_steps_and_decay_follow_from_conversations():
    # The paper's: 72 conversations a batch.
    assert recipe.schedule(72, 1, epochs=15) == {"steps": 6167, "decay_every": 411}
    assert recipe.schedule(36, 4, epochs=15) == {"steps": 3083, "decay_every": 206}
    assert recipe.schedule(1e6, 16, epochs=0.5)["decay_every"] == 1


def test_weights_balance_the_classes():
    mixture = recipe.balanced({"alpaca": 1.0, "malicious_prompts": 2.0, "beavertails": 1.0}, by="benign_queries")
    assert mixture["benign_queries"] == pytest.approx(1.97)
    third = recipe.balanced({"alpaca": 1.0, "malicious_prompts": 2.0}, by="benign_queries", share=1 / 3)
    assert third["benign_queries"] == pytest.approx(3.0)
    with pytest.raises(InputError, match="benign enough"):
        recipe.balanced({"alpaca": 3.0, "malicious_prompts": 2.0}, by="benign_queries")
    with pytest.raises(InputError, match="beavertails is not"):
        recipe.balanced({"alpaca": 3.0}, by="beavertails")
    with pytest.raises(InputError, match="labels of 'alpca' are not known"):
        recipe.balanced({"alpca": 3.0}, by="benign_queries")


@pytest.mark.parametrize(
    "module, epochs", [(align_llama2_7b, 15), (align_mistral_7b, 8), (align_llama2_7b_augmented, 15)]
)
def test_published_models_see_the_papers_epochs(module, epochs):
    config = module.get_config()
    per_step = config.data.batch_size * getattr(module, "PER_ROW", align_llama2_7b.PER_ROW)
    assert config.steps * per_step == pytest.approx(epochs * 29_600, rel=0.01)
    assert config.steps / config.optimizer.decay_every == pytest.approx(epochs, rel=0.01)


@pytest.mark.parametrize("module", [align_llama2_7b, align_mistral_7b, align_small])
def test_half_of_the_labelled_queries_are_malicious(module):
    mixture = module.get_config().data.mixture
    labelled = {name: weight * recipe.LABELLED[name][0] for name, weight in mixture.items()}
    malicious = sum(weight * recipe.LABELLED[name][1] for name, weight in labelled.items())
    assert malicious / sum(labelled.values()) == pytest.approx(0.5, abs=1e-3)


def test_dpo_sees_every_pair_twice():
    config, module = align_llama2_7b_dpo.get_config(), align_llama2_7b_dpo
    assert config.steps * config.data.batch_size * module.PER_ROW == pytest.approx(2 * module.EPOCH, rel=0.01)


@functools.cache
def raw(name):
    """A source's training split straight from its file: leaks are left in, which changes the mixture by a percent."""
    if name in DERIVED:
        base, make = DERIVED[name]
        return [made for e in raw(base) if (made := make(e))]
    return [e for e in source_examples(name, DATA, announce=False) if not is_held_out(e)]


@pytest.mark.slow
@needs_data
@pytest.mark.parametrize(
    "module, expected",
    [
        (align_llama2_7b, {"conversations_per_row": align_llama2_7b.PER_ROW, "malicious_share": 0.5}),
        (align_llama2_7b_augmented, {"conversations_per_row": align_llama2_7b_augmented.PER_ROW}),
        (align_llama2_7b_dpo, {"pairs_per_row": align_llama2_7b_dpo.PER_ROW}),
    ],
)
def test_measured_figures_still_hold(module, expected, tmp_path):
    """240 rows of the real data, by Llama-2's tokenizer: to 5 %, which is two standard errors."""
    (tmp_path / "tokenizer.model").symlink_to((DATA / "checkpoints/llama2_tokenizer.model").resolve())
    config = to_train_config(module.get_config().to_dict())
    sources = {name: with_roles(raw(name), config.data.roles) for name, _ in config.pipeline.mixture}
    found = count_rows(config, sources, ImportedTokenizer(tmp_path), 240 // config.pipeline.batch_size)
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=0.05)
    assert found["filled"] > 0.9 and found["skipped"] < 0.02


@pytest.mark.slow
@needs_data
def test_a_recipes_sources_have_the_labels_that_it_takes_them_to_have():
    for name in align_small.get_config().data.mixture:
        labels = [e.query_label for e in raw(name)]
        labelled = [label for label in labels if label is not None]
        found = len(labelled) / len(labels), sum(labelled) / len(labelled)
        assert found == pytest.approx(recipe.LABELLED[name], abs=0.01), name
