"""Typed configs that hold what they say: every field of a dataclass against its annotation."""

import dataclasses
import functools
import math
import re
import typing

import msgspec

from safety_align.bounds import INT32, shown
from safety_align.errors import InputError


def check_fields(config, prefix: str = "", **least: int) -> None:
    """Raises InputError, naming the field, unless each field of a dataclass has its type; to call in `__post_init__`.

    Numbers must be finite, integers 32-bit; those that `least` names must be at least so much. A field of floats takes
    integers, one of tuples lists, and holds them converted. `prefix` is what stands before a field's name ("data.").
    """
    hints = _hints(type(config))
    for field in dataclasses.fields(config):
        name, value = prefix + field.name, getattr(config, field.name)
        converted = _converted(value, hints[field.name], name)
        for number in _numbers(converted):
            if not math.isfinite(number):
                raise InputError(f"{name} must be finite, got {number}")
            if isinstance(number, int) and abs(number) > INT32:
                raise InputError(f"{name} must lie within 32 bits, got {shown(number)}")
        if field.name in least and converted is not None and converted < least[field.name]:
            raise InputError(f"{name} must be at least {least[field.name]}, got {converted}")
        object.__setattr__(config, field.name, converted)


def defaults(made: type) -> dict[str, typing.Any]:
    """The defaults of a dataclass's fields that have one."""
    fields = dataclasses.fields(made)
    return {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}


_hints = functools.cache(typing.get_type_hints)


def _converted(value, hint, name: str):
    if dataclasses.is_dataclass(value):
        if not isinstance(value, hint):
            raise InputError(f"{name} must be {_spelled(hint)}, got a {type(value).__name__}")
        return value
    try:
        return msgspec.convert(value, hint, strict=True)
    except (msgspec.ValidationError, TypeError) as error:
        raise InputError(f"{name} must be {_spelled(hint)}, got {shown(value)}") from error


def _numbers(value):
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from _numbers(part)


def _spelled(hint) -> str:
    plain = hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
    return re.sub(r"\b\w+\.", "", plain)  # without the modules' names
