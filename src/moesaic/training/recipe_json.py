"""Recipes of training as JSON values, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from moesaic.errors import ArgumentError
from moesaic.values import is_table

_Recipe = TypeVar("_Recipe")


def plain(value: Any) -> Any:
    """The value with dictionaries for mappings and lists for tuples, however deep."""
    if isinstance(value, Mapping):
        return {name: plain(inner) for name, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def check_table(name: str, value: object) -> None:
    """Refuse what is no table that JSON can hold.

    Raises:
        ArgumentError: it is none; the message begins with `name`.
    """
    if not is_table(value):
        raise ArgumentError(f"{name} {value!r} must be a table of names and values")
    try:
        json.dumps(plain(value), allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise ArgumentError(f"{name} {value!r} must hold numbers, texts and lists of them") from None


def read_recipe(kind: type[_Recipe], held: object, what: str) -> _Recipe:
    """The recipe, a dataclass, that was written as JSON values.

    Args:
        kind: the dataclass.
        held: the values.
        what: they are a recipe of, for messages.

    Raises:
        ArgumentError: they are no table, a value is missing its place, or is outside what it accepts.
    """
    if not isinstance(held, Mapping):
        raise ArgumentError(f"this is no recipe of {what}: a JSON object is, not {type(held).__name__}")
    pairs: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in held.items()}
    try:
        return kind(**pairs)
    except TypeError as cause:
        raise ArgumentError(f"this is no recipe of {what}: {cause}") from cause
