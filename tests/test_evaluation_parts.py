"""A part that is there is used for the same model, gate, questions and code, and for no other; gates are said."""

import dataclasses
import json
import types

import jax
import jax.numpy as jnp
import pytest

from safety_align.decoding import GateConfig
from safety_align.errors import InputError
from safety_align.evaluation import parts as module
from safety_align.evaluation.config import to_eval_config
from safety_align.evaluation.gates import gate_for, gate_report
from safety_align.evaluation.parts import Parts
from safety_align.training.reference import fingerprint


def measured(folder, identity=("model",), inputs=("a", "b"), part="direct") -> list:
    """What was measured, and how often."""
    calls = []
    value = Parts(folder, "gated", identity, progress=False).measure(
        part, inputs, lambda _: {"n": len(calls.append(1) or calls)}
    )
    assert value == {"n": 1}
    return calls


def test_a_part_is_measured_once(tmp_path):
    assert measured(tmp_path) == [1]
    assert measured(tmp_path) == []
    assert measured(None) == [1] == measured(None)


@pytest.mark.parametrize(
    "change", [dict(identity=("other",)), dict(inputs=("b", "a")), dict(inputs=("a",)), dict(part="nested")]
)
def test_a_part_of_something_else_is_not_taken(tmp_path, change):
    measured(tmp_path)
    assert measured(tmp_path, **change) == [1]


def test_other_code_of_judge_or_decoder_is_something_else(tmp_path, monkeypatch):
    measured(tmp_path)
    monkeypatch.setattr(module, "code_digest", lambda: "changed")
    assert measured(tmp_path) == [1]


@pytest.mark.parametrize("content", ["", '{"n": ', "[1]", "\\x00", "[" * 9999])
def test_a_damaged_part_is_measured_again(tmp_path, content):
    measured(tmp_path)
    (part,) = tmp_path.glob("gated.direct.*.json")
    part.write_text(content)
    assert measured(tmp_path) == [1] and json.loads(part.read_text()) == {"n": 1}


def test_the_fingerprint_of_weights_sees_any_bit_and_any_exchange():
    params = {"a": jnp.arange(12, dtype=jnp.float32).reshape(3, 4), "b": jnp.ones((3, 4), jnp.bfloat16)}
    whole = fingerprint(params, None)
    assert fingerprint(jax.tree.map(jnp.copy, params), None) == whole
    for other in (
        params | {"a": params["a"].at[1, 2].set(jnp.nextafter(jnp.float32(6), jnp.float32(7)))},
        params | {"a": params["a"][jnp.array([1, 0, 2])]},
        params | {"b": params["b"].at[0, 0].set(1.0078125)},
        {"a": params["a"], "c": params["b"]},
    ):
        assert fingerprint(other, None) != whole


def bundle(gate, signal=True):
    return types.SimpleNamespace(model_config=types.SimpleNamespace(safety_signal=signal), gate=gate)


OWN = GateConfig(r1=5, r2=15, tau=2)


def test_the_models_own_gate_is_used_but_for_overrides():
    assert gate_for(bundle(OWN), {}) == OWN
    assert gate_for(bundle(OWN), {"schedule": "first"}) == dataclasses.replace(OWN, schedule="first")
    assert gate_for(bundle(None, signal=False), {}) is None
    with pytest.raises(InputError, match=r"gate\.tau is set, but the model has no safety signal"):
        gate_for(bundle(None, signal=False), {"tau": 1})
    assert gate_for(bundle(None), {"tau": 1}) == GateConfig(tau=1)
    assert gate_for(bundle(OWN), dataclasses.asdict(GateConfig())) == GateConfig()  # a whole gate is overrides too


def test_what_differs_from_the_default_gate_is_said():
    report = gate_report(OWN)
    assert report["used"]["r2"] == 15 and report["differs"] == {"tau": [2, 3], "r1": [5, 10], "r2": [15, 10]}
    assert gate_report(GateConfig())["differs"] == {} and gate_report(None) is None


MEASURED = {"measurements": {"attacks": {"direct": {"kind": "direct", "behaviors": "embedded"}}}}


def test_evaluation_configs_override_the_gate_field_by_field():
    config, overrides = to_eval_config(MEASURED | {"gate": {"tau": None, "r2": 4}, "seed": 3})
    assert overrides == {"r2": 4} and config.seed == 3
    assert to_eval_config(MEASURED)[1] == {}
    for gate, named in (
        ({"tua": 1}, "tua"),
        ({"tau": 0}, "tau"),
        ({"threshold": "x"}, "threshold"),
        (3, "config.gate"),
    ):
        with pytest.raises(InputError, match=named):
            to_eval_config(MEASURED | {"gate": gate})
    with pytest.raises(InputError, match="config.sede is not a field of an evaluation config; there are: .*, seed"):
        to_eval_config(MEASURED | {"sede": 3})
    with pytest.raises(InputError, match="config.eval is None, not an evaluation config"):
        to_eval_config(None, "config.eval")
