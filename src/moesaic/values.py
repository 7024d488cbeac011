"""What a value is, whatever its annotation says: callers are no type checkers, and files hold anything."""

from __future__ import annotations

import math
from collections.abc import Mapping


def is_whole(value: object, low: int, high: float = math.inf) -> bool:
    """Whether it is a whole number from `low` to `high`; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def is_number(value: object) -> bool:
    """Whether it is a number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_table(value: object) -> bool:
    """Whether it is a mapping of texts to anything, as keyword arguments are."""
    return isinstance(value, Mapping) and all(isinstance(name, str) for name in value)


def is_pair(value: object) -> bool:
    """Whether it is a tuple or list of two values."""
    return isinstance(value, tuple | list) and len(value) == 2


def is_a(value: object, *kinds: type) -> bool:
    """`isinstance`, where the annotation promises it already."""
    return isinstance(value, kinds)
