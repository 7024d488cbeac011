"""Recipes of training: what their values must be, and the same as JSON values and back."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any, TypeVar

from moesaic.errors import ArgumentError
from moesaic.training.device import PRECISIONS
from moesaic.values import is_number, is_pair, is_table, is_whole

_Recipe = TypeVar("_Recipe")

_NOTHING: Mapping[str, Any] = MappingProxyType({})
_OPTIONAL = ("start", "steps", "minutes")
_WHOLE = {"batch": 1, "steps": 1, "warm_up": 0, "validate_every": 1, "seed": 0}


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


def check_values(
    recipe: Any,
    *,
    known: Mapping[str, Collection[str]] = _NOTHING,
    whole: Mapping[str, int] = _NOTHING,
    above: Collection[str] = (),
    from_zero: Collection[str] = (),
    shares: Collection[str] = (),
    optional: Collection[str] = (),
) -> None:
    """Refuse values that no recipe of a run on pictures can have: those that all of them have, and those named here.

    Args:
        recipe: the dataclass, see `moesaic.training.picture_run.PictureRecipe`.
        known: the texts that a value may be, by its name.
        whole: the least that a whole number may be, by its name.
        above: names of numbers above 0.
        from_zero: names of numbers from 0.
        shares: names of numbers from 0 to 1.
        optional: names of values that may be None.

    Raises:
        ArgumentError: a value is outside; the message begins with its name.
    """
    given = {one.name: getattr(recipe, one.name) for one in fields(recipe)}
    given = {name: value for name, value in given.items() if value is not None or name not in (*_OPTIONAL, *optional)}
    for name, texts in {"precision": PRECISIONS, **known}.items():
        if given[name] not in tuple(texts):
            raise ArgumentError(f"{name} {given[name]!r} is unknown; choose one of {', '.join(texts)}")
    for name in ("network", "start"):
        if not isinstance(given.get(name, ""), str):
            raise ArgumentError(f"{name} {given[name]!r} must be a text")
    for name, low in {**_WHOLE, **whole}.items():
        if name in given and not is_whole(given[name], low):
            raise ArgumentError(f"{name} {given[name]!r} must be at least {low}, a whole number")
    for name in ("rate", "clip", "minutes", *above):
        if name in given and not (is_number(given[name]) and 0 < given[name] < float("inf")):
            raise ArgumentError(f"{name} {given[name]!r} must be a number above 0")
    for name in ("weight_decay", *from_zero):
        if not (is_number(given[name]) and 0 <= given[name] < float("inf")):
            raise ArgumentError(f"{name} {given[name]!r} must be a number from 0")
    for name in ("shrink", *shares):
        if not (is_number(given[name]) and 0 <= given[name] <= 1):
            raise ArgumentError(f"{name} {given[name]!r} must be from 0 to 1")
    for name in ("average", "held_out"):
        if not (is_number(given[name]) and 0 <= given[name] < 1):
            raise ArgumentError(f"{name} {given[name]!r} must be from 0 to below 1")
    betas = given["betas"]
    if not (is_pair(betas) and all(is_number(beta) and 0 <= beta < 1 for beta in betas)):
        raise ArgumentError(f"betas {betas!r} must be two numbers from 0 to below 1")


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
