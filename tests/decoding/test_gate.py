"""The gate as a value: what is stored of it, what is said of it, and whose it is."""

import dataclasses
import json

import flax.linen as nn
import jax
import numpy as np
import pytest
from make import TINY

from configs import embedded_gated, embedded_sft
from safety_align.bundle import Bundle
from safety_align.decoding import GateConfig, Generator
from safety_align.decoding.config import describe, differences
from safety_align.errors import InputError
from safety_align.model import abstract_params
from safety_align.text import Tokenizer, get_template
from safety_align.training.checkpoint import trained_gate
from safety_align.training.config import MAY_DIFFER
from safety_align.training.from_dict import to_train_config

OWN = GateConfig(r2=6, tau=2)


@pytest.fixture(scope="module")
def bundle():
    tokenizer = Tokenizer.train(["How do I bake bread?"] * 9, 280)
    config = dataclasses.replace(TINY, vocab_size=tokenizer.vocab_size)
    params = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), nn.unbox(abstract_params(config)))
    return Bundle(config, params, tokenizer, get_template("plain"), OWN)


def test_the_model_is_decoded_with_its_own_gate(bundle, capsys):
    generator = Generator(bundle)
    assert generator.gate == OWN and generator.differences == []
    said = capsys.readouterr().err  # before the first answer
    assert said == describe(OWN) + "\n" and "tau=2 (default 3), r2=6 (default 10)" in said
    assert Generator(bundle, "off").gate is None and capsys.readouterr().err == "gate: off, nothing is checked\n"


def test_other_widths_than_the_trained_ones_are_said(bundle, capsys):
    generator = Generator(bundle, GateConfig(visible=False))
    assert generator.differences == [
        "gate.r2 is 10, the model was trained with 6",
        "gate.visible is False, the model was trained with True",
    ]
    assert capsys.readouterr().err.splitlines()[1:] == generator.differences
    assert Generator(bundle, dataclasses.replace(OWN, tau=5)).differences == []


def test_answers_that_nothing_checks_are_asked_for_in_words(bundle):
    plain = dataclasses.replace(bundle, model_config=dataclasses.replace(TINY, safety_signal=False), gate=None)
    for gate in (None, GateConfig()):
        with pytest.raises(InputError, match='gate="off"'):
            Generator(plain, gate)
    with pytest.raises(InputError, match='gate="off"'):  # a signal, but nobody says how it is to be read
        Generator(dataclasses.replace(bundle, gate=None))
    with pytest.raises(InputError, match="'none' is neither"):
        Generator(bundle, "none")


@pytest.mark.parametrize(
    "values, named",
    [
        ([], "expected `object`"),
        (dict(treshold=0.4), "gate has an unknown field 'treshold'"),
        (dict(threshold="0.4"), "threshold: expected `float`"),
        (dict(threshold=1.0), "from 0.0001 to 0.9999"),
        (dict(visible=1), "visible: expected `bool`"),
        (dict(tau=True), "tau: expected `int`"),
        (dict(r1=2.0), "r1: expected `int`"),
        (dict(dependence=None), "dependence: expected `str`"),
        (dict(mode="rewnd"), "mode 'rewnd'"),
    ],
    ids=str,
)
def test_a_stored_gate_is_read_strictly(values, named):
    with pytest.raises(InputError, match=f"^here: .*{named}"):
        GateConfig.read(values, "here")


def test_a_stored_gate_comes_back():
    gate = GateConfig(mode="insert", schedule="periodic:3", threshold=0.25)
    assert GateConfig.read(json.loads(json.dumps(dataclasses.asdict(gate))), "here") == gate
    assert GateConfig.read({}, "here") == GateConfig()


def test_what_a_gate_is_and_what_differs_is_one_line():
    assert describe(None) == "gate: off, nothing is checked"
    assert describe(GateConfig()).endswith("; all as by default")
    line = describe(GateConfig(dependence="low", tau=9))
    assert "only reported" in line and line.endswith("dependence=low (default medium), tau=9 (default 3)")
    assert differences(OWN, GateConfig()) == {"r2": (6, 10), "tau": (2, 3)}


def test_a_run_keeps_the_gate_of_what_it_trains():
    values = embedded_gated.get_config()
    values.routing.r2 = 7
    config = to_train_config(values.to_dict())
    assert config.gate == GateConfig(r2=7)
    stored = json.loads(json.dumps(dataclasses.asdict(config)))
    assert trained_gate(stored, "here") == config.gate
    values.gate = dict(tau=5)
    assert to_train_config(values.to_dict()).gate == GateConfig(r2=7, tau=5)
    del stored["gate"]  # of a run before there was such a field
    assert trained_gate(stored, "here") == GateConfig(r2=7)
    assert "gate.tau" in MAY_DIFFER  # such a run goes on, and so does one whose gate is changed
    values.gate = dict(r2=9)
    with pytest.raises(InputError, match=r"gate.r2 is 9, routing.r2 7"):
        to_train_config(values.to_dict())
    assert to_train_config(embedded_sft.get_config().to_dict()).gate is None
