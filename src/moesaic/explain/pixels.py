"""Pictures as bytes to be shown, and how far one is from another at each place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from moesaic.errors import ShapeError
from moesaic.explain.colours import ERROR, ramp
from moesaic.explain.panels import Scale
from moesaic.mixture.render import render
from moesaic.picture import Picture, to_integers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moesaic.explain.ellipses import Region
    from moesaic.mixture.model import Mixture

_TOPS = (1, 2, 4, 8, 16, 32, 64, 128, 255)  # levels, at the bright end of a scale of errors
_MOST = 0.99  # share of the pixels that the scale reaches


def drawing(
    mixture: Mixture, *, size: tuple[int, int] | None = None, region: Region | None = None, depth: int = 8
) -> Picture:
    """A mixture drawn, with its own channels; arguments as of `moesaic.render`."""
    pixels = render(mixture.detach(), size=size, region=region).cpu().float().numpy()
    return Picture.from_premultiplied(pixels.transpose(1, 2, 0), depth=depth)


def shown(picture: Picture) -> NDArray[np.uint8]:  # (H, W, 3)
    """As it shows over white, in colour."""
    seen = picture.over(1.0).with_depth(8)
    return np.asarray(np.repeat(whole, 3, axis=2) if (whole := to_integers(seen)).shape[2] == 1 else whole)


def alike(first: Picture, second: Picture) -> tuple[NDArray[np.float32], NDArray[np.float32]]:  # (H, W, C) both
    """Two pictures as they are compared: rounded, multiplied by alpha, and over white where channels differ.

    Raises:
        ShapeError: their sizes differ.
    """
    if (first.width, first.height) != (second.width, second.height):
        raise ShapeError(
            f"the source is {second.width}x{second.height} px and the mixture's canvas {first.width}x{first.height}; "
            "they must be the same picture"
        )
    one, other = _rounded(first), _rounded(second)
    if first.channels == second.channels:
        return one.premultiplied(), other.premultiplied()
    a, b = one.over(1.0).pixels, other.over(1.0).pixels
    wide = max(a.shape[2], b.shape[2])
    return np.repeat(a, wide // a.shape[2], axis=2), np.repeat(b, wide // b.shape[2], axis=2)


def _rounded(picture: Picture) -> Picture:
    whole = to_integers(picture)
    top = np.float32(np.iinfo(whole.dtype).max)
    return Picture(pixels=np.divide(whole, top, dtype=np.float32), depth=picture.depth)


def levels_off(
    drawn: NDArray[np.float32],  # (H, W, C), in [0, 1]
    source: NDArray[np.float32],  # (H, W, C)
) -> NDArray[np.float32]:  # (H, W)
    """The error of each pixel, in levels of 255: the root of its channels' mean square."""
    return np.asarray(255 * np.sqrt(np.square(drawn - source).mean(axis=2)), np.float32)


def top_of(*errors: NDArray[np.float32]) -> int:
    """Levels at the bright end of a scale that fits all of these maps."""
    most = max(float(np.quantile(one, _MOST)) for one in errors)
    return next((top for top in _TOPS if top >= most), _TOPS[-1])


def error_colours(levels: NDArray[np.float32], top: int) -> NDArray[np.uint8]:  # (H, W) -> (H, W, 3)
    """Errors from dark to bright, by their root, so that small ones are told apart."""
    return ramp(np.sqrt(levels / top), ERROR)


def error_scale(top: int) -> Scale:
    """What the colours of errors mean."""
    places = (0.0, 1 / 16, 1 / 4, 1.0)
    ticks = tuple((place**0.5, f"{round(place * top, 2):g}" + (" or more" if place == 1 else "")) for place in places)
    return Scale(anchors=ERROR, ticks=ticks, unit="levels of 255")
