"""What `evaluate`, `compare` and `quickstart` share: configs to typed values, and an output directory of one's own."""

import json
import pathlib
import sys

from safety_align import distributed
from safety_align.decoding import GateConfig
from safety_align.errors import InputError
from safety_align.evaluation.config import EvalConfig
from safety_align.evaluation.gates import check_overrides, gate_for, gate_line, gate_report
from safety_align.training.checkpoint import Bundle


def to_eval_config(values: dict) -> tuple[EvalConfig, dict]:
    """The typed config of an evaluation config's dict, and its overrides of the gate that comes with the model: those
    fields of `gate` that are not None."""
    values = dict(values)
    gate = values.pop("gate", {})
    if not isinstance(gate, dict):
        raise InputError(f"config.gate is {gate!r}; give fields of a gate, {{}} for the model's own")
    overrides = {name: value for name, value in gate.items() if value is not None}
    check_overrides(overrides)
    try:
        return EvalConfig(**values), overrides
    except TypeError as error:
        raise InputError(f"the config is not an evaluation config: {error}") from error


def variant_gate(name: str, bundle: Bundle, overrides: dict) -> GateConfig | None:
    """The gate that a variant is decoded with; says on stderr which it is. None for a model without the signal."""
    gate = gate_for(bundle, overrides)
    say(f"{name}: {gate_line(gate_report(gate))}")
    return gate


def say(text: str) -> None:
    """A line of progress, once."""
    if distributed.is_main():
        print(text, file=sys.stderr)


def claim_output(output: pathlib.Path, about: dict) -> None:
    """Raises InputError if `output` holds the results of another evaluation; nothing is overwritten then.

    Of several processes the first looks; all must do the same evaluation.
    """
    distributed.must_equal(about)
    with distributed.agreed():
        if distributed.is_main():
            _claim(output, json.loads(json.dumps(about)))


def _claim(output: pathlib.Path, about: dict) -> None:
    results = output / "results.json"
    if not results.is_file():
        return
    try:
        old = json.loads(results.read_text("utf-8"))["about"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{results} is not an evaluation's; choose another --output") from error
    if old != about:
        keys = ", ".join(sorted(k for k in old.keys() | about.keys() if old.get(k) != about.get(k)))
        raise InputError(f"{results} belongs to another evaluation (different {keys}); choose another --output")
