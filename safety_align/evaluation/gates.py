"""Which gate a variant is decoded with, and what of it is not the default: said, so that no weak gate goes unseen."""

import dataclasses
from collections.abc import Mapping

from safety_align.bundle import Bundle
from safety_align.decoding import GateConfig
from safety_align.decoding.config import differences
from safety_align.errors import InputError


def check_overrides(overrides: Mapping) -> None:
    """Raises InputError unless `overrides` are fields of a gate with values that a gate can have."""
    known = [field.name for field in dataclasses.fields(GateConfig)]
    if unknown := sorted(overrides.keys() - set(known)):
        raise InputError(f"gate.{unknown[0]} is not a field of a gate; there are: {', '.join(known)}")
    try:
        GateConfig(**overrides)
    except TypeError as error:
        raise InputError(f"gate {dict(overrides)}: a value is of a wrong type ({error})") from error


def gate_for(bundle: Bundle, overrides: Mapping) -> GateConfig | None:
    """The gate that came with the model, with `overrides` of its fields; None for a model without the signal.

    A model that brings no gate is decoded with the default one. Raises InputError for overrides of a gate that is not.
    """
    check_overrides(overrides)
    if not bundle.model_config.safety_signal:
        if overrides:
            raise InputError(
                f"gate.{min(overrides)} is set, but the model has no safety signal, and so no gate; leave it out"
            )
        return None
    return dataclasses.replace(bundle.gate or GateConfig(), **overrides)


def gate_report(gate: GateConfig | None) -> dict | None:
    """{"used": all fields, "differs": {field: [its value, the default]} where the two differ}; None without a gate."""
    if gate is None:
        return None
    differs = {name: list(pair) for name, pair in differences(gate, GateConfig()).items()}
    return {"used": dataclasses.asdict(gate), "differs": differs}
