"""One call that degrades a picture, and tells how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from moesaic.degrade.apply import apply
from moesaic.degrade.draw import draw
from moesaic.degrade.naming import did_you_mean
from moesaic.degrade.ranges import KINDS
from moesaic.degrade.told import MAX_SEED, shortly
from moesaic.errors import ArgumentError, ShapeError
from moesaic.values import is_a, is_whole

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_LARGEST = {"uint8": 255.0, "uint16": 65535.0}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Degraded:
    """A degraded picture and the truth about it."""

    pixels: NDArray[np.float32]  # (H, W, 3) in [0, 1]; beyond it only for noise of the family "unclipped"
    kind: str
    params: dict[str, Any]  # all that the degradation follows from, ready for JSON

    def levels(self) -> NDArray[np.uint8]:
        """The pixels (H, W, 3) on the 256 levels of 8 bits."""
        return np.floor(np.clip(self.pixels.astype(np.float64), 0, 1) * 255 + 0.5).astype(np.uint8)


def degrade(
    pixels: NDArray[Any],
    kind: str,
    *,
    seed: int = 0,
    severity: float | None = None,
    family: str | None = None,
    params: Mapping[str, Any] | None = None,
) -> Degraded:
    """Degrade a picture as rain, haze, a camera or a codec would.

    Everything is computed in float64 and rounded at the end, so the 8-bit result is the same on every machine.

    Args:
        pixels: (H, W, 3), RGB, in floats from 0 to 1, uint8 or uint16; of anything else, `moesaic.read_picture` makes
            a picture that has such `pixels`.
        kind: of `moesaic.degrade.KINDS`.
        seed: what is not given is drawn from it and the kind; the same on every platform.
        severity: 0, the mildest of the kind, to 1, the strongest; drawn unless given.
        family: the way in which it is made, of `moesaic.degrade.FAMILIES` and `NAMED_FAMILIES`; for a composite the
            kinds, such as "haze+rain+jpeg". Drawn unless given.
        params: those of an earlier result, to repeat it; nothing is drawn then.

    Returns:
        the picture of the same height and width, except for "wild" of the families "x2" to "x4".

    Raises:
        ShapeError: the pixels have another shape.
        ArgumentError: the pixels are of another type or outside [0, 1], the kind or family is unknown, a number is
            outside its range, or `params` stands beside a severity or family.
    """
    light = _light(pixels)
    if not is_a(kind, str) or kind not in KINDS:
        raise ArgumentError(f"the kind is one of {', '.join(KINDS)}, not {shortly(kind)}{did_you_mean(kind)}")
    if not is_whole(seed, 0, MAX_SEED):
        raise ArgumentError(f"the seed is a whole number from 0 to {MAX_SEED}, not {shortly(seed)}")
    if params is None:
        rng = np.random.default_rng([seed, *kind.encode()])
        params = draw(kind, rng, light.shape[0], light.shape[1], severity, family)
    elif severity is not None or family is not None:
        raise ArgumentError("params say everything; leave severity and family out")
    degraded = apply(light, kind, params)
    return Degraded(pixels=degraded.astype(np.float32), kind=kind, params=dict(params))


def _light(pixels: NDArray[Any]) -> NDArray[np.float64]:
    if not is_a(pixels, np.ndarray):
        what = type(pixels).__name__
        raise ArgumentError(f"degrade takes an array (H, W, 3), not {what}; pass moesaic.read_picture(x).pixels")
    if pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ShapeError(f"a picture has the shape (H, W, 3), not {pixels.shape}{_made_fit(pixels)}")
    if (largest := _LARGEST.get(pixels.dtype.name)) is not None:
        return pixels.astype(np.float64) / largest
    if not np.issubdtype(pixels.dtype, np.floating):
        raise ArgumentError(f"a picture's values are floats, uint8 or uint16, not {pixels.dtype}")
    light = pixels.astype(np.float64)
    if not (light.min() >= 0 and light.max() <= 1):  # false for NaN, too
        raise ArgumentError("a picture's values lie in [0, 1]")
    return light


def _made_fit(pixels: NDArray[Any]) -> str:
    """How to make three channels of others, for the end of an error."""
    if not pixels.size:
        return ""
    if pixels.ndim == 2:
        return "; give grey three times: numpy.stack([x, x, x], axis=2)"
    channels = pixels.shape[2] if pixels.ndim == 3 else 0
    return {1: "; give grey three times: x.repeat(3, axis=2)", 4: "; leave alpha out: x[..., :3]"}.get(channels, "")
