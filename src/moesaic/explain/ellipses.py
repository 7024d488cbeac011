"""Kernels as ellipses, and the part of the canvas in which as many of them stand as can be told apart."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from moesaic.explain.colours import LUMA, grey

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moesaic.mixture.model import Mixture

Region = tuple[float, float, float, float]
"""Left, top, right and bottom on the canvas, px."""

_CORNERS = 48  # of the polygon that stands for an ellipse
_FINE = 2  # times the size at which lines are drawn, then made smaller for smooth edges
_TRIED = 24  # places along each side at which a crop may lie
_TYPICAL = 0.75  # share of the crops that hold fewer kernels than the chosen one
_DARKEST = 0.45  # how light an ellipse may be on the pale picture
_PALE = 0.62  # the grey that black becomes


def outlines(mixture: Mixture, deviations: float = 1.0) -> NDArray[np.float64]:  # (N, corners, 2), x and y, px
    """Each kernel as the ellipse at so many standard deviations."""
    angles = np.linspace(0.0, 2.0 * math.pi, _CORNERS, endpoint=False)
    centres = mixture.centres.detach().cpu().double().numpy()
    f0, f1, f2 = mixture.factors.detach().cpu().double().numpy().T[..., None]
    down = deviations * np.sin(angles) / f2  # L^T d lies on a circle, and is solved from below
    across = (deviations * np.cos(angles) - f1 * down) / f0
    return np.asarray(centres[:, None] + np.stack([across, down], axis=2))


def crop(mixture: Mixture, wanted: int) -> Region:
    """A part of the canvas with about so many kernels; all of it where there are no more.

    The part is no extreme one: it holds more kernels than three quarters of the parts of its size, and is the nearest
    to the middle of those.
    """
    width, height = mixture.width, mixture.height
    if len(mixture) <= wanted:
        return 0.0, 0.0, float(width), float(height)
    area = width * height * wanted / len(mixture)
    aspect = min(max(width / height, 0.5), 2.0)
    down = min(float(height), math.sqrt(area / aspect))
    across = min(float(width), area / down)
    down = min(float(height), area / across)
    x, y = mixture.centres.detach().cpu().double().numpy().T
    lefts, tops = (np.linspace(0.0, side - part, _TRIED) for side, part in ((width, across), (height, down)))
    inside_x = (x >= lefts[:, None]) & (x < lefts[:, None] + across)  # (tried, N)
    inside_y = (y >= tops[:, None]) & (y < tops[:, None] + down)
    counts = inside_y.astype(np.float32) @ inside_x.T.astype(np.float32)  # (tops, lefts)
    off = np.abs(counts - np.quantile(counts, _TYPICAL, method="nearest"))
    middle = ((lefts + across / 2 - width / 2) / width) ** 2 + ((tops + down / 2 - height / 2)[:, None] / height) ** 2
    row, column = divmod(int(np.lexsort((middle.ravel(), off.ravel()))[0]), _TRIED)
    left, top = float(lefts[column]), float(tops[row])
    return left, top, left + across, top + down


def drawn(
    mixture: Mixture,
    under: NDArray[np.uint8],  # (H, W, 3), the picture of the region
    region: Region,
) -> tuple[Image.Image, int]:
    """Kernels as ellipses at one standard deviation, each in its own colour, on the picture in pale grey.

    Colours that would not show on it are darkened. The second value is how many kernels reach into the region.
    """
    height, width = under.shape[:2]
    pale = np.rint(255 * (_PALE + (1 - _PALE) * grey(under))).astype(np.uint8)
    image = Image.fromarray(np.repeat(pale[..., None], 3, axis=2))
    image = image.resize((_FINE * width, _FINE * height), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(image)
    left, top, right, bottom = region
    scale = np.array([_FINE * width / (right - left), _FINE * height / (bottom - top)])
    reaching = _reaching(mixture, region)
    corners = (outlines(reaching) - (left, top)) * scale
    inks = _inks(reaching)
    for kernel in range(len(reaching)):
        line = [(x, y) for x, y in np.clip(corners[kernel], -1e5, 1e5).tolist()]
        pen.line([*line, line[0]], fill=tuple(inks[kernel]), width=3, joint="curve")
    return image.resize((width, height), Image.Resampling.BOX), len(reaching)


def _reaching(mixture: Mixture, region: Region) -> Mixture:
    """The kernels whose ellipses reach into a region, the largest first, so that small ones are drawn over them."""
    left, top, right, bottom = region
    x, y = mixture.centres.detach().cpu().double().numpy().T
    f0, f1, f2 = mixture.factors.detach().cpu().double().numpy().T
    across, down = np.hypot(f1, f2) / (f0 * f2), 1 / f2  # half of each side of the box around the ellipse
    reaches = (x + across >= left) & (x - across <= right) & (y + down >= top) & (y - down <= bottom)
    order = np.argsort(-across * down, kind="stable")
    return mixture[order[reaches[order]].tolist()]


def _inks(mixture: Mixture) -> list[list[int]]:
    """The kernels' own colours, no lighter than shows on a pale picture."""
    colours = colours_of(mixture)
    light = colours @ LUMA
    dark = np.minimum(1.0, _DARKEST / np.maximum(light, 1e-6))
    return [list(one) for one in np.rint(255 * colours * dark[:, None]).astype(int).tolist()]


def colours_of(mixture: Mixture) -> NDArray[np.float32]:  # (N, 3), in [0, 1]
    """What each expert paints at the centre of its kernel, over white where there is alpha."""
    held = mixture.colours.detach().cpu().float().numpy()
    colour = held[:, :3] if held.shape[1] >= 3 else np.repeat(held[:, :1], 3, axis=1)
    if held.shape[1] in (2, 4):
        colour = colour + (1 - np.clip(held[:, -1:], 0, 1))
    return np.asarray(np.clip(colour, 0, 1), np.float32)
