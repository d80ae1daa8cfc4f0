"""Small named things of a config: a dict with a `kind` and the fields of that kind becomes a frozen dataclass.

    {"kind": "prefill", "tokens": 5}                                             with the kinds of attacks → Prefill(5)
    {"kind": "prefill", "tokens": 5, "behaviors": "advbench"}                    → AttackMeasurement(Prefill(5), "advbench")

A new thing is a frozen dataclass that checks its fields (`check_fields`) and a line in its table of kinds.
"""

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from safety_align.bounds import shown
from safety_align.errors import InputError
from safety_align.fields import defaults


def build(values: Any, kinds: Mapping[str, type], where: str, beside: Sequence[str] = ()) -> Any:
    """The dataclass that `values`, {"kind": …, field: …}, spells; `kinds` are those to choose from.

    Args:
      where: what `values` is called, for messages ("config.judge").
      beside: fields that the same dict had beside those of its kind, for messages.

    Raises InputError, which names the key and what there is, for an unknown kind or field, and one that is missing.
    """
    fields = _dict(values, where)
    kind = fields.pop("kind", None)
    if not isinstance(kind, str) or kind not in kinds:
        said = f"{where} has no kind" if kind is None else f"{where}.kind {shown(kind)} is not known"
        raise InputError(f"{said}; there are: {', '.join(kinds)}")
    made = kinds[kind]
    names = [field.name for field in dataclasses.fields(made)]
    if unknown := sorted(fields.keys() - set(names)):
        known = ", ".join(("kind", *names, *beside))
        raise InputError(f"{where}.{unknown[0]} is not a field of {kind}; there are: {known}")
    if missing := [f.name for f in dataclasses.fields(made) if _needed(f) and f.name not in fields]:
        raise InputError(f"{where} lacks {', '.join(missing)}, which {kind} needs")
    try:
        return made(**fields)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


class Kinded:
    """Base of a dataclass whose first field is one of several kinds; the others are beside it in the same dict.

    `KINDS` are the kinds of the first field. A field that is Kinded too is a dict within the dict.
    """

    KINDS: ClassVar[Mapping[str, type]]

    @classmethod
    def read(cls, values: Any, where: str) -> Self:
        """What `values` spells; see `build`."""
        fields, beside = _dict(values, where), _beside(cls)
        own = {name: fields.pop(name) for name in beside if name in fields}
        first = build(fields, cls.KINDS, where, list(beside))
        if missing := [name for name, (field, _) in beside.items() if _needed(field) and name not in own]:
            raise InputError(f"{where} lacks {', '.join(missing)}")
        for name in own:
            if nested := _kinded(beside[name][1]):
                own[name] = nested.read(own[name], f"{where}.{name}")
        try:
            return cls(first, **own)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error

    @classmethod
    def defaults(cls, values: Any) -> dict:
        """The fields that `values` may have though it leaves them out, with what they are then, as a tree."""
        fields = values if isinstance(values, dict) else {}
        kind = fields.get("kind")
        found = defaults(cls.KINDS[kind]) if isinstance(kind, str) and kind in cls.KINDS else {}
        own = defaults(cls)
        for name, (_, hint) in _beside(cls).items():
            if nested := _kinded(hint):
                found[name] = nested.defaults(fields.get(name))
            elif name in own:
                found[name] = own[name]
        return found


def _dict(values: Any, where: str) -> dict:
    if not isinstance(values, dict):
        raise InputError(f"{where} must be a kind and its fields, got {shown(values)}")
    return dict(values)


def _beside(cls: type) -> dict[str, tuple[dataclasses.Field, Any]]:
    """The fields of a Kinded dataclass after its first, with their types."""
    hints = typing.get_type_hints(cls)
    return {field.name: (field, hints[field.name]) for field in dataclasses.fields(cls)[1:]}


def _kinded(hint: Any) -> type[Kinded] | None:
    return hint if isinstance(hint, type) and issubclass(hint, Kinded) else None


def _needed(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
