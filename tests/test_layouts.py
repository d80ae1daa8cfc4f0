"""Weights that lie in another order are the same weights, and decoding with them writes the same answers."""

import dataclasses

import jax
import numpy as np
import pytest
from make import TINY, random_params

from safety_align.bundle import Bundle
from safety_align.decoding import GateConfig, Generator, Request
from safety_align.model.layouts import MAJOR_TO_MINOR, lay_out
from safety_align.text import Tokenizer, Turn, get_template


def orders(params) -> dict[str, set]:
    found = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        found.setdefault(path[-1].key, set()).add(leaf.format.layout.major_to_minor)
    return found


def test_only_a_tpu_is_given_another_order():
    params = random_params(dataclasses.replace(TINY, scan_layers=False))
    assert all(a is b for a, b in zip(*map(jax.tree.leaves, (lay_out(params), params)), strict=True))
    laid = orders(lay_out(jax.tree.map(lambda x: x + 0, params), "tpu"))
    assert {name: laid[name] for name in MAJOR_TO_MINOR if name in laid} == {
        name: {order} for name, order in MAJOR_TO_MINOR.items() if name in laid
    }
    assert all(
        order == {tuple(range(len(next(iter(order)))))} for name, order in laid.items() if name not in MAJOR_TO_MINOR
    )


@pytest.mark.parametrize("tied", [True, False])
def test_answers_do_not_depend_on_the_order(tied):
    tokenizer = Tokenizer.train(["how do I bake bread, then? well, with flour and water"] * 4, 300)
    model = dataclasses.replace(TINY, vocab_size=tokenizer.vocab_size, tied_embeddings=tied, scan_layers=False)
    params = random_params(model)
    before = jax.tree.map(np.asarray, params)
    bundle = Bundle(model, params, tokenizer, get_template("plain"), GateConfig(threshold=0.9))
    requests = [Request((Turn("user", text),), seed=1) for text in ("bake", "flour and water, then?")]
    found = Generator(bundle, max_length=256).generate(requests, 24, 2)
    laid = lay_out(params, "tpu")
    for a, b in zip(*map(jax.tree.leaves, (laid, before)), strict=True):
        np.testing.assert_array_equal(a, b)
    again = Generator(dataclasses.replace(bundle, params=laid), max_length=256).generate(requests, 24, 2)
    assert [one.token_ids for one in again] == [one.token_ids for one in found]
    for one, other in zip(again, found, strict=True):
        np.testing.assert_allclose(one.query_score, other.query_score, atol=1e-5)


def test_every_name_is_a_weights():
    paths = jax.tree_util.tree_flatten_with_path(random_params(dataclasses.replace(TINY, tied_embeddings=False)))[0]
    assert set(MAJOR_TO_MINOR) <= {path[-1].key for path, _ in paths}
