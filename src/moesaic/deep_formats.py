"""TIFF and AVIF of more than 8 bits a channel, which Pillow would cut to 8: through the `formats` extra."""

from __future__ import annotations

import io
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from moesaic.errors import LimitError, MissingExtraError, PictureError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_RGB = 2  # TIFF's code of the photometric interpretation
_PREMULTIPLIED = 1  # TIFF's code of an extra channel that colours are multiplied by


def _extra(module: str, purpose: str) -> Any:
    try:
        return import_module(module)
    except ImportError as cause:
        raise MissingExtraError(
            f"{purpose} needs {module}: pip install 'moesaic[formats]' (Pillow alone would cut it to 8 bits)"
        ) from cause


def read_deep_tiff(
    data: bytes,
    *,
    pixel_limit: int = 2**28,
) -> NDArray[np.float32]:  # (H, W, C) in [0, 1], C = 3 RGB or 4 with alpha; not premultiplied
    """The first picture of a TIFF file in RGB(A) of 9 to 16 bits a channel.

    Raises:
        MissingExtraError: tifffile is not installed, or imagecodecs is not and the file's compression needs it.
        PictureError: the file is damaged or no RGB(A) picture of unsigned integers.
        LimitError: it states more than `pixel_limit` pixels.
    """
    tifffile = _extra("tifffile", "a TIFF file of 16-bit colour")
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        page = tiff.pages[0]
        bits = page.bitspersample
        if page.imagewidth * page.imagelength > pixel_limit:
            raise LimitError(f"{page.imagewidth}x{page.imagelength} exceeds the limit of {pixel_limit} pixels")
        if page.photometric != _RGB or page.dtype is None or page.dtype.kind != "u" or bits > 16:
            raise PictureError(
                f"a TIFF file of {bits}-bit {page.dtype} samples is not supported; save it as 16-bit RGB"
            )
        try:
            pixels = page.asarray()
        except ValueError as cause:
            if "imagecodecs" in str(cause):
                _extra("imagecodecs", "the compression of this TIFF file")
            raise
        if page.axes == "SYX":
            pixels = np.moveaxis(pixels, 0, -1)
        if page.axes not in ("SYX", "YXS") or pixels.shape[2] not in (3, 4):
            raise PictureError(
                f"a TIFF file of {page.samplesperpixel} channels is not supported; save it as RGB or RGBA"
            )
        result: NDArray[np.float32] = pixels.astype(np.float32) / np.float32(2**bits - 1)
        if _PREMULTIPLIED in page.extrasamples:
            alpha = result[..., 3:]
            shown = np.divide(result[..., :3], alpha, out=np.zeros_like(result[..., :3]), where=alpha > 0)
            result[..., :3] = shown.clip(0, 1)
        return result


def write_deep_tiff(
    pixels: NDArray[np.uint16],  # (H, W, C), C = 3 or 4
    *,
    icc: bytes | None = None,
    xmp: bytes | None = None,
) -> bytes:
    """A TIFF file of 16-bit RGB or RGBA.

    Raises:
        MissingExtraError: tifffile is not installed.
    """
    tifffile = need_tifffile()
    file = io.BytesIO()
    tifffile.imwrite(
        file,
        pixels,
        photometric="rgb",
        extrasamples=["unassalpha"] if pixels.shape[2] == 4 else None,
        iccprofile=icc,
        extratags=[(700, 1, len(xmp), xmp, True)] if xmp else (),
        metadata=None,
        software=False,
    )
    return file.getvalue()


def need_tifffile() -> Any:
    """The module that writes TIFF files of 16-bit colour.

    Raises:
        MissingExtraError: it is not installed.
    """
    return _extra("tifffile", "writing a TIFF file of 16-bit colour")


def avif_bits(data: bytes) -> int:
    """Bits a channel that the codec configuration of an AVIF file states: 8, 10 or 12.

    Source: AV1 Codec ISO Media File Format Binding, section 2.3 (`av1C`).
    """
    place = data.find(b"av1C\x81")
    flags = data[place + 6] if 0 <= place < len(data) - 6 else 0
    return (12 if flags & 0x20 else 10) if flags & 0x40 else 8


def read_deep_avif(
    data: bytes,
) -> NDArray[np.float32]:  # (H, W, C) in [0, 1], C = 1 to 4
    """The first picture of an AVIF file of 10 or 12 bits a channel.

    Raises:
        MissingExtraError: imagecodecs is not installed.
        PictureError: the file does not decode to the depth that its header states.
    """
    bits = avif_bits(data)
    imagecodecs = _extra("imagecodecs", f"an AVIF file of {bits} bits a channel")
    pixels = np.asarray(imagecodecs.avif_decode(data, index=0))
    if pixels.dtype != np.uint16 or pixels.ndim not in (2, 3):
        raise PictureError(f"an AVIF file of {bits} bits a channel decoded to {pixels.dtype} of shape {pixels.shape}")
    return np.atleast_3d(pixels).astype(np.float32) / np.float32(2**bits - 1)
