"""Pictures as the page shows them: at most so many pixels a side, 8 bits, in sRGB."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageCms

from moesaic.picture import Picture, to_pillow

if TYPE_CHECKING:
    from pathlib import Path

_QUALITY = 93  # of WebP


def fitting(width: int, height: int, side: int) -> tuple[int, int]:
    """The largest size of that shape whose longer side is at most `side`, px."""
    factor = min(1.0, side / max(width, height))
    return max(1, round(width * factor)), max(1, round(height * factor))


def resized(picture: Picture, size: tuple[int, int]) -> Picture:
    """The picture at another size, antialiased where it becomes smaller; metadata is kept."""
    if size == (picture.width, picture.height):
        return picture
    pixels = torch.from_numpy(np.ascontiguousarray(picture.premultiplied().transpose(2, 0, 1)))[None]
    drawn = torch.nn.functional.interpolate(pixels, size[::-1], mode="bicubic", antialias=True)[0].clamp(0, 1)
    return Picture.from_premultiplied(
        drawn.numpy().transpose(1, 2, 0), depth=picture.depth, icc=picture.icc, exif=picture.exif, xmp=picture.xmp
    )


def write_view(picture: Picture, path: Path, size: tuple[int, int]) -> None:
    """Write what the page shows, as WebP."""
    image = in_srgb(to_pillow(resized(picture.without_metadata(), size).with_depth(8)), picture.icc)
    image.convert("RGBA" if picture.has_alpha else "RGB").save(path, "WEBP", quality=_QUALITY, method=2)


def in_srgb(image: Image.Image, icc: bytes | None) -> Image.Image:
    """The image in the colours of the screen; as it is where there is no profile, or one that cannot be used."""
    if icc is None or image.mode not in ("RGB", "RGBA", "L"):
        return image
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        mode = "RGBA" if image.mode == "RGBA" else "RGB"
        turned = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode=mode)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image
    return turned or image
