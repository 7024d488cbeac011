"""Pictures of a segmentation: the classes' colours laid over the picture, and a legend below it."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from moesaic.errors import ArgumentError, ShapeError
from moesaic.picture import Picture

if TYPE_CHECKING:
    from numpy.typing import NDArray

Colour = tuple[int, int, int]
"""sRGB, 0 to 255."""

_GOLDEN = 0.618033988749895  # turns of the colour wheel between two classes: no two come near each other


def palette(classes: int) -> tuple[Colour, ...]:
    """A colour for each class, where a model names none: always the same, neighbours far apart."""
    hues = [(i * _GOLDEN) % 1 for i in range(classes)]
    shades = [colorsys.hsv_to_rgb(hue, (0.85, 0.55)[i % 2], (0.9, 0.75, 1.0)[i % 3]) for i, hue in enumerate(hues)]
    return tuple((round(255 * r), round(255 * g), round(255 * b)) for r, g, b in shades)


def overlay(
    picture: Picture,
    labels: NDArray[np.uint8],  # (H, W), class ids
    colours: Sequence[Colour],
    *,
    names: Sequence[str] = (),
    opacity: float = 0.5,
) -> Picture:
    """The picture in colour with each pixel tinted by its class, and with `names` a legend of the classes it holds.

    The result has 8 bits a channel and the picture's metadata; transparency stays as it is. The profile of a grey
    picture is left out, as the result is in colour.

    Args:
        picture: what was segmented.
        labels: class ids of the same size.
        colours: one for each class.
        names: of the classes; a legend with each one's share is added below the picture. None: no legend.
        opacity: of the colours, from 0 (the picture alone) to 1 (the colours alone).

    Raises:
        ShapeError: the labels have another size than the picture.
        ArgumentError: the opacity is outside [0, 1], or a label has no colour or name.
    """
    if labels.shape != (picture.height, picture.width):
        raise ShapeError(
            f"labels are {labels.shape}, the picture is {(picture.height, picture.width)}; they must agree"
        )
    if not 0 <= opacity <= 1:
        raise ArgumentError(f"opacity must be from 0 to 1, not {opacity}")
    counts = np.bincount(labels.ravel(), minlength=len(colours))
    if len(counts) > len(colours) or (names and len(names) != len(colours)):
        raise ArgumentError(f"{len(colours)} colours and {len(names)} names are too few for class {len(counts) - 1}")
    shown = tinted(picture, labels, colours, opacity)
    if names:
        shown = above(shown, legend_of(counts, colours, names, picture.width))
    icc = picture.icc if picture.channels >= 3 else None
    return replace(picture, pixels=np.clip(shown, 0, 1, dtype=np.float32), depth=8, icc=icc)


def tinted(
    picture: Picture,
    labels: NDArray[np.uint8],  # (H, W)
    colours: Sequence[Colour],
    opacity: float,
) -> NDArray[np.float32]:  # (H, W, 3), or 4 with alpha
    """The pixels of a picture, or of a band of one, tinted by class."""
    colour = picture.pixels[..., :-1] if picture.has_alpha else picture.pixels
    tint: NDArray[np.float32] = (np.asarray(colours, np.float32) / np.float32(255))[labels]
    shown = colour * np.float32(1 - opacity) + tint * np.float32(opacity)  # a grey channel spreads over three
    return np.concatenate([shown, picture.pixels[..., -1:]], axis=2) if picture.has_alpha else shown


def legend_of(
    counts: NDArray[np.int64],  # of the pixels of each class
    colours: Sequence[Colour],
    names: Sequence[str],
    width: int,
) -> NDArray[np.float32]:  # (h, w, 3)
    """Swatches of the classes that are there with their shares, the largest first."""
    present = [c for c in np.argsort(-counts, kind="stable") if counts[c]]
    texts = [f"{names[c]} {_percent(counts[c] / counts.sum())}" for c in present]
    return swatches(texts, [colours[c] for c in present], width)


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "<1%"


def above(
    picture: NDArray[np.float32],  # (H, W, C)
    legend: NDArray[np.float32],  # (h, w, 3)
) -> NDArray[np.float32]:  # (H + h, max(W, w), C)
    """The picture with a legend below it, on a white sheet."""
    width = max(picture.shape[1], legend.shape[1])
    sheet = np.ones((picture.shape[0] + legend.shape[0], width, picture.shape[2]), np.float32)
    sheet[: picture.shape[0], : picture.shape[1]] = picture
    sheet[picture.shape[0] :, : legend.shape[1], :3] = legend
    return sheet


def swatches(
    texts: Sequence[str],
    colours: Sequence[Colour | None],  # None: a text without a swatch
    width: int,
) -> NDArray[np.float32]:  # (h, w, 3)
    """Swatches with their texts, in as many rows as the width makes necessary; w is wider where one text is."""
    size = max(11, min(40, width // 50))
    font = ImageFont.load_default(size)
    gap, row = size // 2, size + size // 2
    places, left, top, right = [], gap, gap, 0
    for text, colour in zip(texts, colours, strict=True):
        across = (0 if colour is None else size + gap) + int(np.ceil(font.getlength(text))) + gap
        if left > gap and left + across > width:
            left, top = gap, top + row
        places.append((left, top))
        left += across + gap
        right = max(right, left)
    sheet = Image.new("RGB", (max(width, right), top + row), "white")
    draw = ImageDraw.Draw(sheet)
    for text, colour, (x, y) in zip(texts, colours, places, strict=True):
        if colour is not None:
            draw.rectangle((x, y, x + size - 1, y + size - 1), fill=colour, outline="black")
            x += size + gap
        draw.text((x, y + size // 2), text, fill="black", font=font, anchor="lm")
    return np.asarray(sheet, np.float32) / np.float32(255)
