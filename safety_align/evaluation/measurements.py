"""What an evaluation measures: attacks, benign sets, comparisons that the head ranks, and utility; each with its data.

A config names them in `measurements`, in four groups; the names are those of the results and of the table's rows.
"""

import dataclasses
from typing import Any

from safety_align.attacks import ATTACKS, Attack, Behavior, load_behaviors
from safety_align.bounds import shown
from safety_align.errors import InputError
from safety_align.evaluation.example_sets import EvalData, Sample
from safety_align.evaluation.head import READINGS, Reading
from safety_align.evaluation.kinds import Kinded
from safety_align.evaluation.utility import UTILITIES, Utility
from safety_align.fields import check_fields
from safety_align.files import check_name


@dataclasses.dataclass(frozen=True)
class AttackMeasurement(Kinded):
    """An attack on behaviours of a set (`load_behaviors`): at most `n`; None: the evaluation's number of behaviours."""

    KINDS = ATTACKS

    attack: Attack
    behaviors: str
    n: int | None = None

    def __post_init__(self):
        check_fields(self, n=1)

    def load(self, default: int, data: EvalData) -> list[Behavior]:
        """The behaviours; `default` where `n` is None. InputError for files that are not there or not right."""
        return load_behaviors(self.behaviors, data.data_dir, default if self.n is None else self.n, data.seed)


@dataclasses.dataclass(frozen=True)
class HeadMeasurement(Kinded):
    """How well the head tells a malicious set from a benign one, of which it reads queries or windows of answers."""

    KINDS = READINGS

    reading: Reading
    malicious: Sample
    benign: Sample


@dataclasses.dataclass(frozen=True)
class UtilityMeasurement(Kinded):
    """What the model is worth to honest users, on examples of a set."""

    KINDS = UTILITIES

    utility: Utility
    examples: Sample


GROUPS: dict[str, type[Kinded]] = {
    "attacks": AttackMeasurement,
    "benign": Sample,
    "head": HeadMeasurement,
    "utility": UtilityMeasurement,
}
"""The groups of measurements, and what is in each."""


@dataclasses.dataclass(frozen=True)
class Measurements:
    """All that is measured, by name, in the order in which it is measured and shown.

    attacks: success rates; benign: prompts of which one should not be refused; head: comparisons, of models with the
    signal; utility: numbers of their own in the results.
    """

    attacks: dict[str, AttackMeasurement] = dataclasses.field(default_factory=dict)
    benign: dict[str, Sample] = dataclasses.field(default_factory=dict)
    head: dict[str, HeadMeasurement] = dataclasses.field(default_factory=dict)
    utility: dict[str, UtilityMeasurement] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if taken := sorted({"gate", "attacks", "benign_refused", "head"} & self.utility.keys()):
            raise InputError(f"utility: {taken[0]} is the name of something else in the results; choose another")

    @classmethod
    def read(cls, values: Any, where: str = "config.measurements") -> "Measurements":
        """What a config's dict of groups spells; a measurement or a group that is None is left out.

        Raises InputError, which names the key, for an unknown group, kind or field.
        """
        found = {}
        for group, named in _entries(values, where).items():
            if group not in GROUPS:
                raise InputError(f"{where}.{group} is not a group of measurements; there are: {', '.join(GROUPS)}")
            entries = _entries(named, f"{where}.{group}")
            for name in entries:
                check_name(name, f"{where}.{group}:")
            found[group] = {n: GROUPS[group].read(entry, f"{where}.{group}.{n}") for n, entry in entries.items()}
        if not any(found.values()):
            raise InputError(f"{where} names nothing to measure; its groups are {', '.join(GROUPS)}")
        return cls(**found)


def measurement_defaults(values: Any) -> dict:
    """The tree of the fields that the measurements in `values` leave out, with what they are then."""
    groups = values if isinstance(values, dict) else {}
    return {
        group: {name: GROUPS[group].defaults(entry) for name, entry in named.items()}
        for group, named in groups.items()
        if group in GROUPS and isinstance(named, dict)
    }


def _entries(values: Any, where: str) -> dict:
    """The entries of a dict that are not None; of None none."""
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(f"{where} must be named things, got {shown(values)}")
    return {name: entry for name, entry in values.items() if entry is not None}
