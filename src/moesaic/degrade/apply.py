"""A kind with all of its parameters, applied to one picture: the same numbers give the same picture."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from moesaic.degrade import codec, depth, optics, sensor, weather
from moesaic.degrade.ranges import DEPTH_MODES, ORDER, PATH_POINTS, RAIN_LAYERS, SNOW_LAYERS, STREAK_REACH
from moesaic.degrade.told import Told
from moesaic.degrade.wild import apply_steps
from moesaic.errors import ArgumentError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

_LONGEST = 2.0 * (STREAK_REACH - 2)  # px: what the kernels of streaks can hold
_DEPTHS = ("plane", "colour", "field", "layers")


def apply(x: Array, kind: str, params: object) -> Array:
    """A picture (H, W, 3) in [0, 1], degraded.

    Raises:
        ArgumentError: the kind is unknown, or a parameter is missing, unknown, or outside its range.
    """
    if kind not in _APPLIED:
        raise ArgumentError(f"the kind is one of {', '.join(_APPLIED)}, not {kind!r}")
    told = Told(kind, params)
    degraded = _APPLIED[kind](x, told)
    told.done()
    return degraded


def _normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


def _noise(x: Array, told: Told) -> Array:
    noisy = sensor.gaussian(x, _normal(told.seed(), *x.shape), told.number("sigma", 0, 255))
    return np.clip(noisy, 0, 1) if told.flag("clip") else noisy


def _poisson(x: Array, told: Told) -> Array:
    return sensor.poisson(x, _normal(told.seed(), *x.shape), told.number("gain", 0, 1), told.number("read", 0, 255))


def _grain(x: Array, told: Told) -> Array:
    noise = _normal(told.seed(), *x.shape[:2], 4)
    field = sensor.grain(noise, told.number("common", 0, 1), told.number("width", 0.1, 4))
    noisy = np.clip(sensor.gaussian(x, field, told.number("sigma", 0, 255)), 0, 1)
    quality = told.whole("quality", 0, 100)
    return codec.jpeg(noisy, quality) if quality else noisy


def _low_light(x: Array, told: Told) -> Array:
    dark = sensor.darken(x, told.number("inner", 0, 1), told.number("outer", 0, 1), told.number("power", 0.1, 20))
    return _poisson(dark, told)


def _rain(x: Array, told: Told) -> Array:
    return _streaks(x, told, RAIN_LAYERS["rain"])


def _heavy_rain(x: Array, told: Told) -> Array:
    return _streaks(x, told, RAIN_LAYERS["heavy_rain"])


def _streaks(x: Array, told: Told, layers: int) -> Array:
    cover = _cover(x, told, layers, lambda _: 1.0)
    return weather.rain(x, cover, told.number("gain", 0, 1), told.number("veil", 0, 1), told.number("light", 0, 1))


def _snow(x: Array, told: Told) -> Array:
    return weather.snow(x, _cover(x, told, SNOW_LAYERS, lambda radius: radius + 0.5), told.number("brightness", 0, 1))


def _cover(x: Array, told: Told, layers: int, soft: Callable[[float], float]) -> Array:
    height, width = x.shape[:2]
    rng = np.random.default_rng(told.seed())
    lengths, angles = told.numbers("lengths", layers, 0, _LONGEST), told.numbers("angles", layers, -7, 7)
    densities, radii = told.numbers("densities", layers, 0, 1), told.numbers("radii", layers, 0.1, _LONGEST / 4)
    cover = np.zeros((height, width))
    for density, length, angle, radius in zip(densities, lengths, angles, radii, strict=True):
        seeds = rng.random((height + 2 * STREAK_REACH, width + 2 * STREAK_REACH))
        weather.add_particles(cover, seeds, density, weather.particle_kernel(length, angle, radius, soft(radius)))
    return np.clip(cover, 0, 1)


def _haze(x: Array, told: Told) -> Array:
    beta, airlight, how = told.number("beta", 0, 100), told.numbers("airlight", 3, 0, 1), told.table("depth")
    far = _depth(x, how)
    how.done()
    return weather.haze(x, far, beta, airlight)


def _depth(x: Array, told: Told) -> Array:
    shape, family = (x.shape[0], x.shape[1]), told.one_of("family", _DEPTHS)
    if family == "colour":
        return depth.colour_depth(x, reach=told.whole("reach", 1, 2**12), contrast=told.number("contrast", 1e-9, 1))
    window = told.numbers("window", 3, -10, 10)
    if family == "plane":
        horizon, near = told.number("horizon", -10, 10), told.number("near", 1e-3, 10)
        return depth.plane_depth(shape, told.number("roll", -7, 7), horizon, near, window)
    if family == "field":
        return depth.field_depth(shape, _normal(told.seed(), DEPTH_MODES, DEPTH_MODES), window)
    edges = told.numbers("edges", 3, -10, 10)
    return depth.layers_depth(shape, edges, _normal(told.seed(), len(edges), 4), window)


def _motion_blur(x: Array, told: Told) -> Array:
    how = told.table("path")
    blurred = optics.blur(x, optics.path_kernel(_path(how)))
    how.done()
    noise = _normal(told.seed(), *x.shape)
    return np.clip(sensor.gaussian(blurred, noise, told.number("sigma", 0, 255)), 0, 1)


def _path(told: Told) -> Array:
    family = told.one_of("family", ("line", "trajectory", "arc"))
    length = told.number("length", 0, 26)  # px: what the kernel holds
    if family == "trajectory":
        return optics.walk_path(length, _normal(told.seed(), PATH_POINTS, 2))
    angle = told.number("angle", -7, 7)
    if family == "line":
        return optics.line_path(length, angle)
    return optics.arc_path(length, angle, told.number("bend", 0.01, 2 * math.pi))


def _defocus(x: Array, told: Told) -> Array:
    radius = told.number("radius", 0.1, 12)
    if told.one_of("shape", ("disc", "bell")) == "disc":
        return optics.blur(x, optics.disc_kernel(radius))
    return optics.blur(x, optics.bell_kernel(radius / 2))  # of the same second moment


def _resize(x: Array, told: Told) -> Array:
    return codec.shrink_and_enlarge(x, told.number("scale", 1, 64))


def _jpeg(x: Array, told: Told) -> Array:
    return codec.jpeg(x, told.whole("quality", 1, 100), halved=told.flag("halved"))


def _composite(x: Array, told: Told) -> Array:
    for part in told.tables("parts"):
        x = apply(x, part.one_of("kind", ORDER), part.mapping("params"))
        part.done()
    return x


def _wild(x: Array, told: Told) -> Array:
    told.whole("shrink", 1, 4)  # told for people: the steps say it all
    return apply_steps(x, told.tables("steps"))


_APPLIED: dict[str, Callable[[Array, Told], Array]] = {
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
    "composite": _composite,
    "wild": _wild,
}
