"""Parameters as they come from a file or a caller: each is looked at before it is used, and none is overlooked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from moesaic.errors import ArgumentError

MAX_SEED = 2**53 - 1  # the largest whole number that every reader of JSON keeps


class Told:
    """The parameters of one kind.

    Args:
        kind: for the errors.
        params: by name.

    Raises:
        ArgumentError: `params` is no mapping of texts; from the methods, a parameter is missing or out of its range.
    """

    def __init__(self, kind: str, params: object) -> None:
        if not isinstance(params, Mapping) or not all(isinstance(name, str) for name in params):
            raise ArgumentError(f"the parameters of {kind} are a table of names and values, not {shortly(params)}")
        self._kind, self._params = kind, params
        self._left = set(params) - {"severity"}  # told for people, and used by nothing

    def number(self, name: str, low: float, high: float) -> float:
        """A finite number from `low` to `high`."""
        return self._number(name, self._get(name), low, high)

    def numbers(self, name: str, count: int, low: float, high: float) -> list[float]:
        """`count` of them."""
        value = self._get(name)
        if not isinstance(value, list | tuple) or len(value) != count:
            raise ArgumentError(f"{self._kind}: {name!r} is a list of {count} numbers, not {shortly(value)}")
        return [self._number(name, one, low, high) for one in value]

    def whole(self, name: str, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        value = self._get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ArgumentError(f"{self._kind}: {name!r} is a whole number from {low} to {high}, not {shortly(value)}")
        return value

    def seed(self) -> int:
        """The seed of the random fields."""
        return self.whole("seed", 0, MAX_SEED)

    def flag(self, name: str) -> bool:
        """True or False."""
        value = self._get(name)
        if not isinstance(value, bool):
            raise ArgumentError(f"{self._kind}: {name!r} is true or false, not {shortly(value)}")
        return value

    def one_of(self, name: str, names: tuple[str, ...]) -> str:
        """One of some texts."""
        value = self._get(name)
        if not isinstance(value, str) or value not in names:
            raise ArgumentError(f"{self._kind}: {name!r} is one of {', '.join(names)}, not {shortly(value)}")
        return value

    def mapping(self, name: str) -> object:
        """Whatever stands there, for another to look at."""
        return self._get(name)

    def table(self, name: str) -> Told:
        """A table within."""
        return Told(f"{self._kind}: {name!r}", self._get(name))

    def tables(self, name: str) -> list[Told]:
        """A list of tables."""
        value = self._get(name)
        if not isinstance(value, list | tuple) or not value or len(value) > 100:
            raise ArgumentError(f"{self._kind}: {name!r} is a list of 1 to 100 tables, not {shortly(value)}")
        return [Told(f"{self._kind}: {name!r}", one) for one in value]

    def done(self) -> None:
        """Nothing is left that has not been asked for.

        Raises:
            ArgumentError: there is.
        """
        if self._left:
            raise ArgumentError(f"{self._kind} has no parameter {min(self._left)!r}")

    def _get(self, name: str) -> Any:
        if name not in self._params:
            raise ArgumentError(f"{self._kind}: the parameter {name!r} is missing")
        self._left.discard(name)
        return self._params[name]

    def _number(self, name: str, value: object, low: float, high: float) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            raise ArgumentError(f"{self._kind}: {name!r} is a number from {low:g} to {high:g}, not {shortly(value)}")
        return float(value)


def rounded(value: float) -> float:
    """A drawn parameter as it is kept: short enough for a table, and the same when it is read back."""
    return round(float(value), 6) if math.isfinite(value) else value


def shortly(value: object) -> str:
    """A value for a message, whatever it is."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # a whole number of thousands of digits
        return f"{type(value).__name__} too long to tell"
    return text if len(text) <= 60 else text[:57] + "..."
