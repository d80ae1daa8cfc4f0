"""Every read-out through the gated decoder, against a full forward with a dense mask (test_decoder_oracle.py)."""

import dataclasses

import jax
import numpy as np
import pytest
import test_decoder_oracle as oracle
from make import random_params

from safety_align.decoding.decoder import Decoder
from safety_align.decoding.state import Layout
from safety_align.errors import InputError
from safety_align.model import preset
from safety_align.model.readout import SignalConfig

READOUTS = {
    "adapted": SignalConfig("row", rank=2),
    "deep": SignalConfig("row_deep", rank=3, depths=(1, 2)),
    "shallow": SignalConfig("row_deep", rank=2, depths=(1,)),
    "probe": SignalConfig("probe", depths=(1, 2), heads=3, features=5),
    "shallow_probe": SignalConfig("probe", depths=(1,), heads=2, features=4),
    "probes": SignalConfig("probe", depths=(1, 2), heads=2, features=3, members=3),
}


def config_of(name: str):
    return preset("tiny", scan_layers=False, signal=READOUTS[name])


def make_params(seed: int, bias: float, config=None):
    """Random parameters whose verdicts vary, around `bias`."""
    config = config or oracle.CONFIG
    params = random_params(config, seed, scale=0.25)
    loud = {"safety_kernel": 12.0, "probe_value": 8.0}
    params |= {name: loud[name] * params[name] for name in loud if name in params}
    return params | {"safety_bias": params["safety_bias"] * 0 + bias}


CASES = (
    ("probes", "medium_rewind", -0.5, 1),
    ("probe", "medium_rewind", -0.5, 1),
    ("deep", "medium_insert", -1.0, 1),
    ("adapted", "medium_rewind", 0.0, 0),
    ("deep", "periodic", 0.0, 2),
    ("shallow", "low", 0.0, 1),
    ("probe", "medium_insert", 0.0, 0),
    ("probe", "periodic", 0.0, 2),
    ("probe", "query_too", -0.5, 2),
    ("shallow_probe", "all", 0.0, 1),
)
FIRST = [pytest.param(*case, marks=[pytest.mark.slow] if i else []) for i, case in enumerate(CASES)]


@pytest.mark.parametrize("readout, gate, bias, seed", FIRST)
def test_cached_decoding_equals_full_forward(readout, gate, bias, seed, monkeypatch):
    monkeypatch.setattr(oracle, "CONFIG", config_of(readout))
    monkeypatch.setattr(oracle, "make_params", make_params)
    monkeypatch.setitem(oracle.GATES, gate, dataclasses.replace(oracle.GATES[gate], visible=False))
    oracle.check_decoding(gate, bias, seed)


@pytest.mark.slow
@pytest.mark.parametrize("readout", READOUTS)
def test_answers_of_a_silent_gate_are_the_plain_model_s(readout):
    """Token for token, whatever the signal says: greedy and sampled rows, with a prefilled answer and without."""
    config = config_of(readout)
    layout = Layout(prompt=9, prefill=4, steps=24)
    params = make_params(3, 0.0, config)
    rows = oracle.make_rows(3, 6, 9, 4)
    low = dataclasses.replace(oracle.GATES["low"], visible=False)
    found = []
    for gate in (None, low):
        decoder = Decoder(config, gate, oracle.REFUSAL, oracle.CONTINUED, oracle.EOS, layout)
        found.append(oracle.run(decoder, params, oracle.to_batch(rows, layout, 16, gate)))
    np.testing.assert_array_equal(found[0].tokens, found[1].tokens)
    np.testing.assert_array_equal(found[0].stop, found[1].stop)
    flagged = found[1].trace.probability > 0.5
    assert flagged.any() and not flagged.all()


def test_a_visible_signal_beside_the_model_is_refused():
    with pytest.raises(InputError, match="visible"):
        Decoder(config_of("probe"), oracle.GATES["low"], oracle.REFUSAL, oracle.CONTINUED, oracle.EOS, oracle.LAYOUT)


@pytest.mark.slow
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_probe_that_is_not_finite_refuses(bad):
    config, gate = config_of("probe"), dataclasses.replace(oracle.GATES["medium_rewind"], visible=False)
    params = make_params(0, -50.0, config)
    params["probe_value"] = params["probe_value"].at[0, 0].set(bad)
    layout = Layout(prompt=9, prefill=0, steps=24)
    decoder = Decoder(config, gate, oracle.REFUSAL, oracle.CONTINUED, oracle.EOS, layout)
    rows = [row for row in oracle.make_rows(0, 4, 9, 0) if row[1].any()]
    state = oracle.run(decoder, params, oracle.to_batch(rows, layout, 16, gate))
    assert (jax.device_get(state.verdict.from_query) == 1).all()
