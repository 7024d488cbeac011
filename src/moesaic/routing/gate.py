"""The gates by name, and how to make one."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from typing import Any

from moesaic.errors import ArgumentError
from moesaic.memory import within_memory
from moesaic.routing.choice import Gate, choose
from moesaic.routing.conditioned_gates import ConditionedGate, FrequencyEmbedding, FrequencyGate, ScoreGate, conditioned
from moesaic.routing.fixed_gates import FrozenGate, PositionGate, RandomGate, UniformGate
from moesaic.routing.pooled_gates import ConvPool, PooledLinear, TwoConvPool

__all__ = [
    "GATES",
    "ConditionedGate",
    "ConvPool",
    "FrequencyEmbedding",
    "FrequencyGate",
    "FrozenGate",
    "Gate",
    "PooledLinear",
    "PositionGate",
    "RandomGate",
    "ScoreGate",
    "TwoConvPool",
    "UniformGate",
    "choose",
    "conditioned",
    "make_gate",
]

GATES: dict[str, type[Gate]] = {
    "linear": PooledLinear,
    "conv": ConvPool,
    "two_conv": TwoConvPool,
    "frequency": FrequencyGate,
    "score": ScoreGate,
    "uniform": UniformGate,
    "random": RandomGate,
    "position": PositionGate,
    "frozen": FrozenGate,
}


def make_gate(
    name: str,
    channels: int,
    experts: int,
    k: int,
    *,
    grid: int | tuple[int, int] | None = None,
    **options: Any,
) -> Gate:
    """A gate by its name.

    Args:
        name: a key of `GATES`.
        channels: of the maps it will see; gates that do not look at them ignore it.
        experts: how many there are.
        k: how many act at each place.
        grid: rows and columns of places, for gates that know their positions; the others ignore it.
        options: further arguments of that gate, such as noise=0.1.

    Raises:
        ArgumentError: an unknown name or option, or a value that the gate refuses.
        LimitError: there is not enough memory for such a gate.
    """
    if name not in tuple(GATES):  # in a list of names, as one may be of any kind
        close = difflib.get_close_matches(str(name), GATES, 1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise ArgumentError(f"gate {name!r} is unknown{hint}; choose one of {', '.join(GATES)}")
    kind = GATES[name]
    known = _options(kind)
    for option in options:
        if option not in known:
            raise ArgumentError(f"the gate {name!r} has no option {option!r}; it takes {', '.join(known)}")
    if grid is not None and "grid" in known:
        options["grid"] = grid
    counts = (channels, experts, k) if kind.reads_channels else (experts, k)
    make: Callable[..., Gate] = kind
    told = "".join(f", {option} {value!r}" for option, value in options.items())
    with within_memory(f"the gate {name!r} with {experts} experts{told}; lower one of them"):
        return make(*counts, **options)


def _options(kind: type[Gate]) -> list[str]:
    """The keyword arguments of a kind of gate, and those that it hands on to every gate's constructor."""
    own, common = (inspect.signature(c).parameters.values() for c in (kind, Gate))
    return [p.name for parameters in (own, common) for p in parameters if p.kind is p.KEYWORD_ONLY]
