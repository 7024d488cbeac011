"""Two pictures held against each other: the measures, and a picture that shows where they differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from moesaic import metrics
from moesaic.codec.container import MAGIC
from moesaic.errors import ShapeError
from moesaic.picture import Picture, to_integers

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

GAIN = 8  # an error of 1/8 of the range is shown in full
_RAMP = np.array([(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)]) / 255  # dark to bright
_GAP = 8  # px between panels
_LABEL = 22  # px of a label's strip


def read(path: Path, *, pixel_limit: int) -> Picture:
    """A picture file, or a .moe file drawn at the size of its canvas, told apart by their first bytes.

    Raises:
        MoesaicError: as `moesaic.read_picture` and `moesaic.decode`.
    """
    import moesaic
    from moesaic.codec.limits import Limits

    with path.open("rb") as file:
        is_moe = file.read(len(MAGIC)) == MAGIC
    if is_moe:
        return moesaic.decode(path, limits=Limits(canvas_pixels=pixel_limit, output_pixels=pixel_limit))
    return moesaic.read_picture(path, pixel_limit=pixel_limit)


def measure(source: Picture, other: Picture, n_bytes: int) -> dict[str, Any]:
    """The figures of a picture against its source; None where a side is too short for a measure.

    Both are rounded to what their containers hold. Where one has colour or alpha and the other has not, grey counts as
    colour and missing alpha as opaque; colours count as far as alpha shows them.

    Raises:
        ShapeError: the sizes differ.
    """
    a, b = alike(source, other)
    figures: dict[str, Any] = {
        "width": other.width,
        "height": other.height,
        "psnr": metrics.psnr(a, b),
        "ssim": None,
        "ms_ssim": None,
    }
    for name in ("ssim", "ms_ssim"):
        try:
            figures[name] = getattr(metrics, name)(a, b)
        except ShapeError:  # shorter than the measure's window
            continue
    return figures | {"bytes": n_bytes, "bpp": metrics.bits_per_pixel(n_bytes, other.width, other.height)}


def alike(first: Picture, second: Picture) -> tuple[NDArray[np.float32], NDArray[np.float32]]:  # (H, W, C) both
    """The pixels of both as they can be compared: premultiplied, rounded, with the same channels.

    Raises:
        ShapeError: the sizes differ.
    """
    if (first.width, first.height) != (second.width, second.height):
        raise ShapeError(
            f"the pictures differ in size: {first.width}x{first.height} and {second.width}x{second.height}"
        )
    colour = max(first.channels, second.channels) >= 3
    alpha = first.has_alpha or second.has_alpha
    a, b = (_with_channels(picture, colour=colour, alpha=alpha) for picture in (first, second))
    return a, b


def _with_channels(picture: Picture, *, colour: bool, alpha: bool) -> NDArray[np.float32]:
    top = np.float32(255 if picture.depth == 8 else 65535)
    pixels: NDArray[np.float32] = np.divide(to_integers(picture), top, dtype=np.float32)
    cover = pixels[..., -1:] if picture.has_alpha else np.ones_like(pixels[..., :1])
    shown = pixels[..., :-1] if picture.has_alpha else pixels
    if colour and shown.shape[2] == 1:
        shown = np.repeat(shown, 3, axis=2)
    joined: NDArray[np.float32] = np.concatenate([shown * cover, cover], axis=2) if alpha else shown
    return joined


def error_map(source: Picture, other: Picture) -> NDArray[np.float32]:  # (H, W, 3)
    """The mean error of each pixel's channels, `GAIN` times, from dark (none) to bright.

    Raises:
        ShapeError: the sizes differ.
    """
    a, b = alike(source, other)
    level = np.clip(np.abs(a - b).mean(axis=2) * GAIN, 0, 1)
    anchors = np.linspace(0, 1, len(_RAMP))
    return np.stack([np.interp(level, anchors, _RAMP[:, c]) for c in range(3)], axis=2).astype(np.float32)


def side_by_side(source: Picture, other: Picture) -> Picture:
    """Source, other and their error map in one picture, each with its label; in a row, or stacked where they are wide.

    Raises:
        ShapeError: the sizes differ.
    """
    panels = [
        ("source", _on_white(source)),
        ("compared", _on_white(other)),
        (f"error x{GAIN}", error_map(source, other)),
    ]
    width, height = source.width, source.height
    across, down = (1, 3) if width > 2 * height else (3, 1)
    sheet = Image.new(
        "RGB", (across * width + (across - 1) * _GAP, down * (height + _LABEL) + (down - 1) * _GAP), "white"
    )
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(14)
    for place, (label, pixels) in enumerate(panels):
        left = place % across * (width + _GAP)
        top = place // across * (height + _LABEL + _GAP)
        draw.text((left + 2, top + 3), label, fill="black", font=font)
        sheet.paste(Image.fromarray(np.rint(pixels * 255).astype(np.uint8)), (left, top + _LABEL))
    pixels = np.asarray(sheet, np.float32) / np.float32(255)
    return Picture(pixels=pixels, icc=source.icc if source.channels >= 3 else None)


def _on_white(picture: Picture) -> NDArray[np.float32]:  # (H, W, 3)
    pixels = picture.over(1.0).pixels
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
