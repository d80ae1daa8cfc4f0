"""How near two models are: against float64, and against themselves."""

import dataclasses

import numpy as np
import pytest
from make import forward, random_params

from safety_align.bundle import Bundle
from safety_align.data.examples import Example
from safety_align.errors import InputError
from safety_align.evaluation.fidelity import _before, fidelity
from safety_align.model import preset
from safety_align.model.quantized import quantize_params
from safety_align.routing import Routing
from safety_align.text import Tokenizer, Turn, get_template

TOKENIZER, TEMPLATE = Tokenizer.train(["How do I bake a loaf of bread?"] * 9, 300), get_template("plain")


def example(answer: str, i: int = 0) -> Example:
    return Example((Turn("user", "How do I bake?"),), answer, 0, 0, True, "alpaca", str(i))


@pytest.fixture(scope="module")
def bundles() -> tuple[Bundle, Bundle]:
    config = preset("tiny", vocab_size=TOKENIZER.vocab_size, scan_layers=False, safety_signal=False)
    params = random_params(config, seed=4)
    rounded = dataclasses.replace(config, param_dtype="int8"), quantize_params(params)
    return tuple(Bundle(*model, TOKENIZER, TEMPLATE) for model in ((config, params), rounded))


def log_probabilities(bundle: Bundle, ids: np.ndarray) -> np.ndarray:
    size = len(ids)
    routing = Routing(
        np.zeros((1, size), np.int32),
        np.ones((1, size), bool),
        np.zeros((1, 0), np.int32),
        np.zeros((1, 0, 2), np.int32),
    )
    positions = np.arange(1, size + 1)[None]
    logits = np.asarray(
        forward(bundle.model_config, bundle.params, ids[None], positions, routing).logits[0], np.float64
    )
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def test_divergence_and_perplexity_of_given_answers(bundles):
    examples = [example("I bake bread"), example("a loaf", 1)]
    seen: list[int] = []
    found = fidelity(*bundles, examples, new_tokens=8, progress=seen.append)
    kl, nats, nats_rounded = [], [], []
    for one in examples:
        prompt = TEMPLATE.encode(TOKENIZER, one.turns).ids
        answer = TEMPLATE.encode_response(TOKENIZER, one.response)
        a, b = (log_probabilities(bundle, np.concatenate([prompt, answer])) for bundle in bundles)
        for place, token in enumerate(answer, len(prompt) - 1):
            kl.append(np.sum(np.exp(a[place]) * (a[place] - b[place])))
            nats.append(-a[place, token])
            nats_rounded.append(-b[place, token])
    assert found["tokens"] == len(kl) > 4 and sum(seen) == 3 * len(examples)
    # Sums of float32 logarithms over the vocabulary, of a divergence that is small.
    np.testing.assert_allclose(found["kl"]["mean"], np.mean(kl), atol=2e-6)
    np.testing.assert_allclose(found["kl"]["max"], np.max(kl), atol=2e-6)
    np.testing.assert_allclose(found["perplexity"]["whole"], np.exp(np.mean(nats)), rtol=1e-4)
    np.testing.assert_allclose(found["perplexity"]["rounded"], np.exp(np.mean(nats_rounded)), rtol=1e-4)
    assert found["kl"]["mean"] > 1e-5


def test_a_model_is_itself(bundles):
    found = fidelity(bundles[1], bundles[1], [example("I bake bread")], new_tokens=8)
    assert (
        found["kl"]["max"] == 0 and found["same_top"] == 1 and found["greedy"] == {"n": 1, "identical": 1, "kept": 1.0}
    )


def test_greedy_answers_are_compared_up_to_their_first_difference():
    assert [_before([1, 2, 3, 4], other) for other in ([1, 2, 3, 4], [1, 2, 9, 4], [9], [1, 2], [1, 2, 3, 4, 5])] == [
        1,
        0.5,
        0,
        0.5,
        0.8,
    ]


def test_two_empty_answers_are_the_same():
    assert _before([], []) == 1 and _before([], [1]) == 0


def test_answers_that_are_not_there_or_too_long(bundles):
    with pytest.raises(InputError, match="none of 2 conversations"):
        fidelity(*bundles, [example("I bake bread " * 400), dataclasses.replace(example("x"), response="")])
