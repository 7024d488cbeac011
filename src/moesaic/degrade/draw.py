"""Drawing a kind's parameters: everything that a picture's degradation follows from, as plain numbers and texts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from moesaic.degrade.naming import did_you_mean
from moesaic.degrade.ranges import (
    COMPOSITE_SEVERITY,
    FACTORS,
    FAMILIES,
    GRAIN,
    GRAIN_QUALITY,
    KINDS,
    NAMED_FAMILIES,
    ORDER,
    RAIN_LAYERS,
    SNOW_LAYERS,
    at,
)
from moesaic.degrade.told import MAX_SEED, rounded, shortly
from moesaic.degrade.wild import draw_steps
from moesaic.errors import ArgumentError
from moesaic.values import is_a, is_number

if TYPE_CHECKING:
    from collections.abc import Sequence

Params = dict[str, Any]


def draw(
    kind: str,
    rng: np.random.Generator,
    height: int,
    width: int,
    severity: float | None = None,
    family: str | None = None,
) -> Params:
    """The parameters of one degradation, ready for JSON.

    Args:
        kind: of `KINDS`.
        rng: what they are drawn from.
        height: of the picture, px.
        width: of the picture, px.
        severity: 0, the mildest of the kind, to 1, the strongest; drawn unless given. Of a composite and of "wild" it
            is that of the parts.
        family: how it is made, of `FAMILIES` or `NAMED_FAMILIES`; for a composite the kinds, such as "haze+jpeg".
            Drawn unless given.

    Raises:
        ArgumentError: the kind or the family is unknown, or the severity is no number from 0 to 1.
    """
    if kind not in KINDS:
        raise ArgumentError(f"the kind is one of {', '.join(KINDS)}, not {kind!r}{did_you_mean(kind)}")
    given = severity
    if given is not None and not (is_number(given) and 0 <= given <= 1):
        raise ArgumentError(f"the severity is a number from 0 to 1, not {shortly(severity)}")
    if family is not None and not is_a(family, str):
        raise ArgumentError(f"the family is a name, not {type(family).__name__}")
    strength = rounded(rng.random() if given is None else given)
    if kind == "composite":
        return _composite(rng, height, width, given, family)
    draws = _Draws(rng, height, width, strength, _family(kind, family, rng))
    return {"severity": strength, **_DRAWN[kind](draws)}


@dataclass(frozen=True, slots=True)
class _Draws:
    rng: np.random.Generator
    height: int
    width: int
    severity: float
    family: str

    def at(self, kind: str, name: str) -> float:
        return rounded(at(kind, name, self.severity))

    def uniform(self, low: float, high: float) -> float:
        return rounded(self.rng.uniform(low, high))

    def uniforms(self, count: int, low: float, high: float) -> list[float]:
        return [self.uniform(low, high) for _ in range(count)]

    def normal(self, deviation: float) -> float:
        return rounded(self.rng.normal() * deviation)

    def seed(self) -> int:
        return int(self.rng.integers(MAX_SEED, endpoint=True))


def _family(kind: str, family: str | None, rng: np.random.Generator) -> str:
    drawn, named = FAMILIES.get(kind, ()), NAMED_FAMILIES.get(kind, ())
    if family is None:
        return drawn[int(rng.integers(len(drawn)))] if drawn else ""
    if family not in drawn + named:
        there = f"one of {', '.join(drawn + named)}" if drawn else "not to be chosen"
        raise ArgumentError(f"the family of {kind} is {there}; {family!r} is not known")
    return family


def _noise(draws: _Draws) -> Params:
    return {"sigma": draws.at("noise", "sigma"), "clip": draws.family == "clipped", "seed": draws.seed()}


def _poisson(draws: _Draws) -> Params:
    return {"gain": draws.at("poisson", "gain"), "read": draws.at("poisson", "read"), "seed": draws.seed()}


def _grain(draws: _Draws) -> Params:
    common, width = GRAIN[draws.family]
    return {
        "sigma": draws.at("grain", "sigma"),
        "common": draws.uniform(*common),
        "width": draws.uniform(*width),
        "quality": round(draws.uniform(*GRAIN_QUALITY)) if draws.family == "camera" else 0,  # 0: no JPEG
        "seed": draws.seed(),
    }


def _low_light(draws: _Draws) -> Params:
    return {
        "inner": draws.uniform(0.9, 1),
        "outer": draws.uniform(0.5, 1),
        "power": draws.at("low_light", "power"),
        "gain": draws.at("low_light", "gain"),
        "read": draws.at("low_light", "read"),
        "seed": draws.seed(),
    }


def _rain(draws: _Draws) -> Params:
    return _streaks(draws, "rain", 0.0)


def _heavy_rain(draws: _Draws) -> Params:
    return _streaks(draws, "heavy_rain", draws.at("heavy_rain", "veil"))


def _streaks(draws: _Draws, kind: str, veil: float) -> Params:
    layers, longest = RAIN_LAYERS[kind], at(kind, "length", draws.severity)
    wind = draws.normal(math.radians(15))
    return {
        "densities": [draws.at(kind, "density")] * layers,
        "lengths": [rounded(longest * draws.uniform(0.6, 1)) for _ in range(layers)],
        "angles": [rounded(wind + draws.normal(math.radians(5))) for _ in range(layers)],
        "radii": draws.uniforms(layers, 0.4, 0.9),
        "gain": draws.at(kind, "gain"),
        "veil": veil,
        "light": draws.uniform(0.6, 0.9),
        "seed": draws.seed(),
    }


def _snow(draws: _Draws) -> Params:
    sizes = [float(size) for size in np.linspace(0.5, 1.5, SNOW_LAYERS)]
    radii = [rounded(at("snow", "radius", draws.severity) * size) for size in sizes]
    wind = draws.normal(math.radians(25))
    return {
        "densities": [rounded(at("snow", "density", draws.severity) / size**2) for size in sizes],
        "lengths": [rounded(3 * radius * draws.uniform(0, 1)) for radius in radii],
        "angles": [rounded(wind + draws.normal(math.radians(10))) for _ in radii],
        "radii": radii,
        "brightness": draws.uniform(0.85, 1),
        "seed": draws.seed(),
    }


def _haze(draws: _Draws) -> Params:
    airlight = draws.uniform(0.7, 1)
    return {
        "beta": draws.at("haze", "beta"),
        "airlight": [min(max(rounded(airlight + tint), 0.0), 1.0) for tint in draws.uniforms(3, -0.03, 0.03)],
        "depth": {"family": draws.family, **_DEPTHS[draws.family](draws)},
    }


def _plane(draws: _Draws) -> Params:
    return {
        "roll": draws.normal(math.radians(8)),
        "horizon": draws.uniform(-0.3, 0.1),
        "near": draws.uniform(0.1, 0.5),
        "window": _whole_scene(draws),
    }


def _colour(draws: _Draws) -> Params:
    return {"reach": max(1, round(min(draws.height, draws.width) / 24)), "contrast": 0.001}


def _field(draws: _Draws) -> Params:
    return {"window": _whole_scene(draws), "seed": draws.seed()}


def _layers(draws: _Draws) -> Params:
    return {
        "edges": [rounded(0.3 + 0.18 * hill + draws.uniform(-0.05, 0.05)) for hill in range(3)],
        "window": _whole_scene(draws),
        "seed": draws.seed(),
    }


def _whole_scene(draws: _Draws) -> list[float]:
    longest = max(draws.height, draws.width)
    return [rounded((1 - side / longest) / 2) for side in (draws.width, draws.height)] + [1.0]


def _motion_blur(draws: _Draws) -> Params:
    path: Params = {"family": draws.family, "length": draws.at("motion_blur", "length")}
    if draws.family == "trajectory":
        path["seed"] = draws.seed()
    else:
        path["angle"] = draws.uniform(0, math.pi)
    if draws.family == "arc":
        path["bend"] = draws.uniform(math.pi / 2, 1.5 * math.pi)
    return {"path": path, "sigma": draws.uniform(1, 3), "seed": draws.seed()}


def _defocus(draws: _Draws) -> Params:
    return {"shape": draws.family, "radius": draws.at("defocus", "radius")}


def _resize(draws: _Draws) -> Params:
    return {"scale": draws.at("resize", "scale")}


def _jpeg(draws: _Draws) -> Params:
    return {"quality": round(draws.at("jpeg", "quality")), "halved": True}


def _wild(draws: _Draws) -> Params:
    shrink = int(draws.family.removeprefix("x"))
    return {"shrink": shrink, "steps": draw_steps(draws.rng, draws.height, draws.width, draws.severity, shrink)}


def _composite(rng: np.random.Generator, height: int, width: int, severity: float | None, family: str | None) -> Params:
    kinds = _parts(rng) if family is None else _named_parts(family)
    low, high = COMPOSITE_SEVERITY
    parts = []
    for kind in sorted(kinds, key=ORDER.index):
        strength = rounded(rng.uniform(low, high) if severity is None else severity)
        parts.append({"kind": kind, "params": draw(kind, rng, height, width, strength)})
    return {"parts": parts}


def _parts(rng: np.random.Generator) -> list[str]:
    count = 2 + int(rng.integers(2))
    chosen = rng.permutation(len(FACTORS))[:count].tolist()
    return [FACTORS[factor][int(rng.integers(len(FACTORS[factor])))] for factor in chosen]


def _named_parts(family: str) -> Sequence[str]:
    kinds = family.split("+")
    if len(set(kinds)) != len(kinds) or not set(kinds) <= set(ORDER):
        raise ArgumentError(f"a composite is made of different kinds, such as haze+rain+jpeg, not {family!r}")
    return kinds


_DEPTHS: dict[str, Callable[[_Draws], Params]] = {
    "plane": _plane,
    "colour": _colour,
    "field": _field,
    "layers": _layers,
}
_DRAWN: dict[str, Callable[[_Draws], Params]] = {
    "noise": _noise,
    "poisson": _poisson,
    "grain": _grain,
    "rain": _rain,
    "heavy_rain": _heavy_rain,
    "haze": _haze,
    "snow": _snow,
    "motion_blur": _motion_blur,
    "defocus": _defocus,
    "low_light": _low_light,
    "jpeg": _jpeg,
    "resize": _resize,
    "wild": _wild,
}
