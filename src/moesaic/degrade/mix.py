"""Mixes: how often each of several sorts is drawn, in shares of any sum."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import torch

from moesaic.degrade.told import shortly
from moesaic.errors import ArgumentError
from moesaic.values import is_number, is_table

if TYPE_CHECKING:
    from torch import Tensor

LEAST, MOST = 1e-6, 1e6
"""Of a share that is not 0: far apart as they are, they add up without loss."""


def check_mix(mix: object, sorts: Collection[str] | None = None) -> None:
    """Refuse what is no mix.

    Args:
        mix: shares by the names of sorts.
        sorts: all that there are; any unless given.

    Raises:
        ArgumentError: it is no table, it names an unknown sort, a share is neither 0 nor a number from `LEAST` to
            `MOST`, or none is above 0.
    """
    if not is_table(mix) or not isinstance(mix, Mapping):
        raise ArgumentError(f"a mix is a table of sorts and their shares, not {type(mix).__name__}")
    for name, share in mix.items():
        if sorts is not None and name not in sorts:
            raise ArgumentError(f"the mix names {name!r}, which is none of {', '.join(sorts)}")
        check_share(f"in the mix, the share of {name!r}", share)
    if not any(mix.values()):
        raise ArgumentError("the mix gives no sort a share above 0")


def check_share(what: str, share: object) -> None:
    """Refuse what is no share.

    Args:
        what: it is a share of, for the message.
        share: the value.

    Raises:
        ArgumentError: it is neither 0 nor a number from `LEAST` to `MOST`.
    """
    if not is_number(share) or not isinstance(share, int | float) or not (share == 0 or LEAST <= share <= MOST):
        raise ArgumentError(f"{what} is 0 or a number from {LEAST:g} to {MOST:g}, not {shortly(share)}")


def draw_sorts(
    shares: Collection[float],
    count: int,
    generator: torch.Generator,  # on the CPU
) -> Tensor:  # (count,) int64, places among the shares
    """Which sort each of so many is."""
    chances = torch.tensor([float(share) for share in shares], dtype=torch.float64)
    return torch.multinomial(chances, count, replacement=True, generator=generator)
