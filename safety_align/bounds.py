"""Values that come from a user or a file: of the right type, finite, within bounds. Else an InputError of one line."""

import numbers
from typing import Any

from safety_align.errors import InputError

INT32 = 2**31 - 1


def shown(value: Any) -> str:
    """`value` as messages show it: one line, cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return "a number of thousands of digits"
    except RecursionError:
        return "something nested too deeply"
    return text if len(text) <= 80 else f"{text[:77]}…"


def integer(name: str, value: Any, low: int, high: int = INT32) -> None:
    """Raises InputError unless `value` is an int (no bool) in `[low, high]`."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InputError(f"{name} must be an integer from {low} to {high}, got {shown(value)}")


def number(name: str, value: Any, low: float, high: float) -> None:
    """Raises InputError unless `value` is a real number (no bool, no NaN) in `[low, high]`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not low <= value <= high:
        raise InputError(f"{name} must be a number from {low:g} to {high:g}, got {shown(value)}")


def boolean(name: str, value: Any) -> None:
    """Raises InputError unless `value` is true or false: the text "false" would count as true."""
    if not isinstance(value, bool):
        raise InputError(f"{name} must be true or false, got {shown(value)}")


def check_text(name: str, value: Any) -> None:
    """Raises InputError unless `value` is a str that can be written as UTF-8: half a surrogate pair is no character."""
    if not isinstance(value, str):
        raise InputError(f"{name}: the text must be a string, got {shown(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{name}: the text holds half of a surrogate pair ({value[error.start]!r} at {error.start}), which is no "
            "character"
        ) from None
