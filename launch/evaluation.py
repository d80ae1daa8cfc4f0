"""What `evaluate`, `compare` and `quickstart` share: configs to typed values, and an output directory of one's own."""

import contextlib
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import msgspec

from safety_align import distributed
from safety_align.bundle import Bundle
from safety_align.claims import check_same, locked_directory
from safety_align.decoding import GateConfig
from safety_align.distributed import say
from safety_align.errors import InputError
from safety_align.evaluation.config import EvalConfig
from safety_align.evaluation.gates import check_overrides, gate_for
from safety_align.strict_json import read_json


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
    except InputError:
        raise
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise InputError(f"the config is not an evaluation config: {type(error).__name__}: {error}") from error


def variant_gate(name: str, bundle: Bundle, overrides: dict) -> GateConfig | None:
    """The gate that a variant is decoded with; None for a model without the signal."""
    say(f"variant {name}")
    return gate_for(bundle, overrides)


@contextlib.contextmanager
def own_output(output: pathlib.Path, about: dict) -> Iterator[None]:
    """Within it `output` is this evaluation's alone. InputError if it holds another's results, which are not overwritten
    then, or if another evaluates there.

    Of several processes the first looks; all must do the same evaluation.
    """
    distributed.must_equal(about)
    results = output / "results.json"
    with contextlib.ExitStack() as held:
        with distributed.agreed():
            if distributed.is_main():
                held.enter_context(locked_directory(output))
                if os.path.lexists(results):
                    taken, advice = f"{results} belongs to another evaluation", "choose another --output"
                    check_same(read_json(results, _Results).about, about, taken, advice)
        yield


class _Results(msgspec.Struct):
    """What tells whose a results.json is."""

    about: dict[str, Any]
