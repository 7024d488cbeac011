"""What a decoder made of a picture file: pixels as integers, of which the whole or a band of rows becomes a picture.

Integers take a quarter of the memory of floats, so a large picture stays what it is, and only bands of it are widened.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageCms, TiffImagePlugin

from moesaic.errors import PictureError
from moesaic.metadata import Metadata, read_metadata
from moesaic.picture import Frame, Picture

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Turn = Callable[[NDArray[Any]], NDArray[Any]]

_log = logging.getLogger(__name__)

_GREY_MODES = ("1", "L", "LA", "La")
_COLOUR_MODES = ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr", "CMYK")
_TURNS: dict[int, Turn] = {  # by EXIF's number, from the pixels as stored to those as they show
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


class Decoded:
    """Decoded pixels, and how they become those of a picture, the EXIF orientation applied.

    Args:
        source: an image of Pillow, or an array (H, W, C) of uint8, uint16 or float32 in [0, 1].
        found: the file's metadata.
        depth: bits a channel of the picture, 8 or 16.
        mode: of Pillow, what its image is converted to, band by band.
        key: the colour that is transparent, in the image's integers; an alpha channel is added for it.
        top: the integer that is 1; that of the type unless given.
        inverted: whether 0 is white.
    """

    def __init__(
        self,
        source: Image.Image | NDArray[Any],
        found: Metadata,
        *,
        depth: int = 8,
        mode: str = "",
        key: int | tuple[int, ...] | None = None,
        top: int = 0,
        inverted: bool = False,
    ) -> None:
        self._source, self._mode, self._key, self._top, self._inverted = source, mode, key, top, inverted
        self._turn, self._orientation = _TURNS[found.orientation], found.orientation
        self._size = (source.height, source.width) if isinstance(source, Image.Image) else source.shape[:2]
        channels = source.shape[2] if isinstance(source, np.ndarray) else Image.getmodebands(mode) if mode else 1
        height, width = self._size if found.orientation < 5 else self._size[::-1]
        self.frame = Frame(
            width=int(width),
            height=int(height),
            channels=channels + (key is not None),
            depth=depth,
            icc=found.icc,
            exif=found.exif,
            xmp=found.xmp,
        )

    def picture(self) -> Picture:
        """All of it."""
        return self.frame.filled(self.band(0, self.frame.height))

    def band(
        self, top: int, bottom: int, left: int = 0, right: int | None = None
    ) -> NDArray[np.float32]:  # (bottom - top, right - left, C)
        """The pixels of some rows, and of some columns of them, in [0, 1]."""
        box = self._stored((top, bottom), (left, self.frame.width if right is None else right))
        return np.ascontiguousarray(self._turn(self._floats(*box)))

    def _stored(self, rows: tuple[int, int], columns: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Where rows and columns that are shown are stored."""
        if self._orientation >= 5:
            rows, columns = columns, rows
        height, width = self._size
        if self._orientation in (3, 4, 6, 7):
            rows = (height - rows[1], height - rows[0])
        if self._orientation in (2, 3, 7, 8):
            columns = (width - columns[1], width - columns[0])
        return rows, columns

    def _floats(self, rows: tuple[int, int], columns: tuple[int, int]) -> NDArray[np.float32]:  # (h, w, C)
        if isinstance(self._source, np.ndarray):
            pixels = self._source[rows[0] : rows[1], columns[0] : columns[1]]
        else:
            image = self._source
            if (rows, columns) != ((0, image.height), (0, image.width)):
                image = image.crop((columns[0], rows[0], columns[1], rows[1]))
            converted = image if self._mode in ("", image.mode) else image.convert(self._mode)
            pixels = np.asarray(converted)
            pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        if pixels.dtype == np.float32:
            return pixels
        return unit(with_key(pixels, self._key), self._top, inverted=self._inverted)


def with_key(
    pixels: NDArray[Any],  # (H, W, C), uint8 or uint16
    key: int | tuple[int, ...] | NDArray[Any] | None,
) -> NDArray[Any]:  # (H, W, C + 1), or as they are without a key
    """The pixels with an alpha channel that is 0 where they have the key colour."""
    if key is None:
        return pixels
    full = pixels.dtype.type(np.iinfo(pixels.dtype).max)
    opaque = (pixels != np.asarray(key)).any(axis=2, keepdims=True)
    return np.concatenate([pixels, np.where(opaque, full, pixels.dtype.type(0))], axis=2)


def unit(
    pixels: NDArray[Any],  # uint8 or uint16
    top: int = 0,
    *,
    inverted: bool = False,
) -> NDArray[np.float32]:
    """Integers as floats in [0, 1]; `top` is the integer that is 1, that of the type where it is 0."""
    if pixels.dtype == np.uint8:
        bytes_as_floats: NDArray[np.float32] = np.divide(pixels, 255, dtype=np.float32)
        return bytes_as_floats
    floats: NDArray[np.float32] = pixels.astype(np.float32) / np.float32(top or 65535)
    return 1 - floats if inverted else floats


def decoded(
    image: Image.Image,
    bits: int,  # a channel, as the container states it
) -> Decoded:
    """An image of Pillow, loaded; palettes and key colours are expanded when its pixels are asked for.

    Raises:
        PictureError: pixels of a mode that is not supported.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.width * image.height > (Image.MAX_IMAGE_PIXELS or 0):
        _skip_the_limit_of_pillow(image)
    image.load()
    found = read_metadata(image)  # only now: some of it may stand behind the pixels, and TIFF is turned by Pillow
    mode = image.mode
    if mode.startswith("I;16"):
        inverted = getattr(image, "tag_v2", {}).get(262) == 0  # "white is zero", which Pillow resolves for 8 bits only
        return Decoded(image, found, depth=16, top=2**bits - 1, inverted=inverted)
    if mode not in _GREY_MODES + _COLOUR_MODES:
        raise PictureError(f"pixels of mode {mode} are not supported; convert them to 8 or 16-bit grey or RGB")
    if mode == "CMYK":
        return Decoded(_srgb_from_cmyk(image, found.icc), found._replace(icc=None))
    key = image.info.get("transparency") if mode in ("1", "L", "RGB") else None
    alpha = key is None and image.has_transparency_data
    target = ("LA" if alpha else "L") if mode in _GREY_MODES else ("RGBA" if alpha else "RGB")
    if key is not None and mode == "1":
        key = 255 if key else 0
    elif key is not None and mode == "L" and bits < 8:  # Pillow spreads grey of 2 and 4 bits over 0 to 255, not the key
        key *= 255 // (2**bits - 1)
    return Decoded(image, found, mode=target, key=key)


def _skip_the_limit_of_pillow(image: TiffImagePlugin.TiffImageFile) -> None:
    """Give a TIFF its memory beforehand: ours was checked, and Pillow's would warn about or refuse a large scan."""
    image.im = Image.new(image.mode, image._tile_size).im


def _srgb_from_cmyk(image: Image.Image, icc: bytes | None) -> NDArray[np.uint8]:
    _log.warning("a CMYK picture was converted to sRGB%s", "" if icc else " without a profile, so colours are rough")
    if icc:
        try:
            profile, srgb = ImageCms.ImageCmsProfile(io.BytesIO(icc)), ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, profile, srgb, outputMode="RGB")
            if converted is not None:
                return np.asarray(converted)
        except (ImageCms.PyCMSError, OSError) as cause:
            _log.warning("the CMYK profile could not be used: %s", cause)
    return np.asarray(image.convert("RGB"))
