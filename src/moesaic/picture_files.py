"""The file formats behind `moesaic.image`: which decoder may read a file without loss, and which may write one."""

from __future__ import annotations

import io
import logging
import os
import struct
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    Image,
    ImageCms,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from moesaic import deep_formats
from moesaic.errors import ArgumentError, LimitError, MoesaicError, PictureError
from moesaic.metadata import Metadata, read_metadata, renew_size_tags
from moesaic.picture import Picture, check_pixel_limit, to_integers, to_pillow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from PIL.ImageFile import ImageFile

_log = logging.getLogger(__name__)

_SUFFIXES = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "WebP": (".webp",),
    "AVIF": (".avif",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
}
# The classes themselves, not Image.open: that one applies a limit of its own, shared by the whole process, and would
# hand a file of another kind to any of forty decoders.
_DECODERS: dict[str, Callable[[BinaryIO], ImageFile]] = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": JpegImagePlugin.JpegImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
}
_QUALITY = {"JPEG": 95, "WebP": 95, "AVIF": 90}
_NO_ALPHA = ("JPEG", "BMP")
_DEEP = ("PNG", "TIFF")
_TIFF_XMP = 700
_CARRIED = ("icc", "exif", "xmp")
_GREY_MODES = ("1", "L", "LA", "La")
_COLOUR_MODES = ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr", "CMYK")
_JPEG_SEGMENT = 65533  # bytes that one marker segment of a JPEG file can hold


def read_file(source: str | os.PathLike[str] | bytes | BinaryIO, *, pixel_limit: int) -> Picture:
    """A picture from a path, a binary stream or the bytes of a file; see `moesaic.read_picture`."""
    if isinstance(source, str | os.PathLike):
        name = os.fspath(source)
        with _one_line_errors(name), Path(source).open("rb") as file:
            return _read(file, name, pixel_limit)
    if not isinstance(source, bytes | bytearray | memoryview):
        if not hasattr(source, "read"):
            raise ArgumentError(f"cannot read a picture from an object of type {type(source).__name__}")
        source = source.read()
        if not isinstance(source, bytes):
            raise ArgumentError("a picture is read from a binary stream; this one gives text")
    with _one_line_errors("the picture"):
        return _read(io.BytesIO(source), "the picture", pixel_limit)


def _read(file: BinaryIO, name: str, pixel_limit: int) -> Picture:
    head = file.read(32)
    kind = kind_of(head)
    if kind is None:
        what = "is no picture of a kind that moesaic reads" if head else "is empty: no picture"
        raise PictureError(f"{name} {what} ({', '.join(_SUFFIXES)})")
    if kind == "WebP" and (size := _webp_size(head)):  # its decoder allocates the canvas as soon as it is made
        check_pixel_limit(*size, pixel_limit, name)
    file.seek(0)
    with _DECODERS[kind](file) as image:
        check_pixel_limit(image.width, image.height, pixel_limit, name)
        if (pictures := getattr(image, "n_frames", 1)) > 1:
            _log.warning("%s holds %d pictures; the first is taken", name, pictures)
        bits = _bits(image, kind, file)
        if bits > 16:
            raise PictureError(f"{name}: {bits} bits a channel are not supported; save it with 8 or 16")
        if bits <= 8 or (kind == "TIFF" and image.mode.startswith("I")):  # grey is the one deep mode that Pillow has
            return _from_loaded(image, bits)
        if kind == "PNG":
            image.load()  # the metadata may stand behind the pixels
        found = read_metadata(image)
        file.seek(0)
        return _assemble(_read_deep(file.read(), kind, pixel_limit), 16, found)


def read_size(path: str | os.PathLike[str], *, pixel_limit: int) -> tuple[int, int]:
    """Width and height of a picture as it is shown, px, from the head of its file: no pixel is decoded.

    Raises:
        PictureError: the file is missing or no picture, or its head is damaged.
        LimitError: there are more than `pixel_limit` pixels.
    """
    name = os.fspath(path)
    with _one_line_errors(name), Path(path).open("rb") as file:
        head = file.read(32)
        kind = kind_of(head)
        if kind is None:
            raise PictureError(f"{name} is no picture of a kind that moesaic reads ({', '.join(_SUFFIXES)})")
        if kind == "WebP" and (size := _webp_size(head)):  # see `_read`
            check_pixel_limit(*size, pixel_limit, name)
        file.seek(0)
        with _DECODERS[kind](file) as image:
            width, height = image.size
            check_pixel_limit(width, height, pixel_limit, name)
            on_its_side = read_metadata(image).orientation >= 5  # 1 to 4 keep width and height
    return (height, width) if on_its_side else (width, height)


def kind_of(head: bytes) -> str | None:
    """The kind of picture that a file with these first 32 bytes claims to be; None for any other file."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis", b"mif1", b"msf1"):
        return "AVIF"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    return "BMP" if head.startswith(b"BM") else None


def _webp_size(head: bytes) -> tuple[int, int] | None:
    """Width and height of the canvas, from the first 30 bytes (RFC 9649, section 2)."""

    def number(start: int, stop: int) -> int:
        return int.from_bytes(head[start:stop], "little")

    if head[12:16] == b"VP8X":
        return number(24, 27) + 1, number(27, 30) + 1
    if head[12:16] == b"VP8L":
        return (number(21, 25) & 0x3FFF) + 1, (number(21, 25) >> 14 & 0x3FFF) + 1
    if head[12:16] == b"VP8 ":
        return number(26, 28) & 0x3FFF, number(28, 30) & 0x3FFF
    return None


def _bits(image: ImageFile, kind: str, file: BinaryIO) -> int:
    """Bits a channel, as the container states them."""
    if kind == "PNG":
        file.seek(24)  # the header chunk comes first and is of fixed layout
        return file.read(1)[0]
    if kind == "TIFF":
        stated = getattr(image, "tag_v2", {}).get(258, (1,))  # BitsPerSample
        return int(max(stated if isinstance(stated, tuple) else (stated,)))
    if kind == "AVIF":
        file.seek(0)
        return deep_formats.avif_bits(file.read())
    return 8


def _read_deep(data: bytes, kind: str, pixel_limit: int) -> NDArray[np.float32]:
    """Pixels of more than 8 bits that Pillow would narrow; the limit again, for headers that say two things."""
    if kind == "TIFF":
        return deep_formats.read_deep_tiff(data, pixel_limit=pixel_limit)
    if kind == "AVIF":
        return deep_formats.read_deep_avif(data)
    from moesaic.png16 import decode_png16  # late: it is compiled code, and 16 bits are rare

    return decode_png16(data, pixel_limit=pixel_limit).astype(np.float32) / np.float32(65535)


def from_pillow(image: Image.Image, *, pixel_limit: int) -> Picture:
    """A picture from an image of Pillow, in any mode of 8 bits, or I;16; see `moesaic.read_picture`."""
    name = str(getattr(image, "filename", "") or "the Pillow image")
    check_pixel_limit(image.width, image.height, pixel_limit, name)
    if not image.mode.startswith("I;16") and any(";16" in str(tile) for tile in getattr(image, "tile", ())):
        raise PictureError(
            f"{name}: Pillow would cut its 16 bits to 8; pass the path instead, or image.copy() to accept it"
        )
    with _one_line_errors(name):
        return _from_loaded(image, 16 if image.mode.startswith("I;16") else 8)


def _from_loaded(
    image: Image.Image,
    bits: int,  # a channel, as the container states it
) -> Picture:
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.width * image.height > (Image.MAX_IMAGE_PIXELS or 0):
        _skip_the_limit_of_pillow(image)
    image.load()
    found = read_metadata(image)  # only now: some of it may stand behind the pixels, and TIFF is turned by Pillow
    mode = image.mode
    if mode.startswith("I;16"):
        pixels = np.asarray(image).astype(np.float32)[..., None] / np.float32(2**bits - 1)
        if getattr(image, "tag_v2", {}).get(262) == 0:  # "white is zero", which Pillow resolves for 8 bits only
            pixels = 1 - pixels
        return _assemble(pixels, 16, found)
    if mode not in _GREY_MODES + _COLOUR_MODES:
        raise PictureError(f"pixels of mode {mode} are not supported; convert them to 8 or 16-bit grey or RGB")
    if mode == "CMYK":
        return _assemble(_to_unit(_srgb_from_cmyk(image, found.icc)), 8, found._replace(icc=None))
    key = image.info.get("transparency") if mode in ("1", "L", "RGB") else None
    alpha = key is None and image.has_transparency_data
    target = ("LA" if alpha else "L") if mode in _GREY_MODES else ("RGBA" if alpha else "RGB")
    pixels8 = np.atleast_3d(np.asarray(image if mode == target else image.convert(target)))
    if key is not None:
        if mode == "1":
            key = 255 if key else 0
        elif mode == "L" and bits < 8:  # Pillow spreads grey of 2 and 4 bits over 0 to 255, but not the key
            key *= 255 // (2**bits - 1)
        opaque = (pixels8 != np.asarray(key)).any(axis=2, keepdims=True)
        pixels8 = np.concatenate([pixels8, np.where(opaque, np.uint8(255), np.uint8(0))], axis=2)
    return _assemble(_to_unit(pixels8), 8, found)


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


def _to_unit(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.divide(pixels, 255, dtype=np.float32)


def _assemble(pixels: NDArray[np.float32], depth: int, found: Metadata) -> Picture:
    turned = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: a.swapaxes(0, 1)[:, ::-1],
        7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
        8: lambda a: a.swapaxes(0, 1)[::-1],
    }[found.orientation](pixels)
    return Picture(pixels=np.ascontiguousarray(turned), depth=depth, icc=found.icc, exif=found.exif, xmp=found.xmp)


@contextmanager
def _one_line_errors(name: str) -> Iterator[None]:
    """Whatever a decoder raises on bad input leaves as one line that names the file."""
    try:
        yield
    except MoesaicError:
        raise
    except FileNotFoundError as cause:
        raise PictureError(f"{name}: there is no such file") from cause
    except IsADirectoryError as cause:
        raise PictureError(f"{name} is a folder, no picture") from cause
    except PermissionError as cause:
        what = "is a folder, no picture" if os.path.isdir(name) else "may not be read: permission denied"  # noqa: PTH112
        raise PictureError(f"{name} {what}") from cause
    except MemoryError as cause:
        raise LimitError(f"{name}: there is not enough memory to decode it") from cause
    except Image.DecompressionBombError as cause:
        raise LimitError(f"{name}: more pixels than PIL.Image.MAX_IMAGE_PIXELS allows; raise that too") from cause
    except Exception as cause:  # decoders raise a dozen kinds on damaged files
        raise PictureError(f"{name} cannot be read as a picture: {' '.join(str(cause).split())}") from cause


def format_of(path: Path, format: str | None) -> str:
    """The name of the format to write, by request or by suffix.

    Raises:
        PictureError: it is not among those that moesaic writes.
    """
    wanted = path.suffix if format is None else f".{format}"
    for kind, suffixes in _SUFFIXES.items():
        if wanted.lower() in suffixes:
            return kind
    known = ", ".join(suffix for suffixes in _SUFFIXES.values() for suffix in suffixes)
    asked = f"{path.name}: the suffix {wanted!r}" if format is None else f"the format {format!r}"
    raise PictureError(f"{asked} is none that moesaic writes; choose among {known}")


def encode(picture: Picture, kind: str, *, quality: int | None) -> bytes:
    """The bytes of a picture file, in a format as `format_of` names it; see `moesaic.write_picture`."""
    if quality is not None and (kind not in _QUALITY or quality not in range(1, 101)):
        raise ArgumentError(f"quality is 1 to 100, for {', '.join(_QUALITY)} only; got {quality} for {kind}")
    if picture.has_alpha and kind in _NO_ALPHA:
        raise PictureError(
            f"{kind} has no alpha; write PNG, WebP, AVIF or TIFF, or (in Python) lay it on white: picture.over(1.0)"
        )
    if picture.depth == 16 and kind not in _DEEP:
        raise PictureError(
            f"{kind} has 8 bits a channel; write PNG or TIFF, or (in Python) narrow it: picture.with_depth(8)"
        )
    picture = _fit_metadata(picture, kind)
    if picture.depth == 16 and kind == "PNG":
        from moesaic.png16 import encode_png16

        return encode_png16(to_integers(picture), icc=picture.icc, exif=picture.exif, xmp=picture.xmp)
    if picture.depth == 16 and picture.channels > 1:
        if picture.channels == 2:
            raise PictureError(
                "16-bit grey with alpha is written as PNG only; or (in Python) narrow it: picture.with_depth(8)"
            )
        return deep_formats.write_deep_tiff(to_integers(picture), icc=picture.icc, xmp=picture.xmp)
    return _encode_with_pillow(picture, kind, quality)


def _fit_metadata(picture: Picture, kind: str) -> Picture:
    """Metadata as far as the format can carry it; what is left out is logged."""
    dropped: list[str] = []
    if kind == "BMP":
        dropped = [name for name in _CARRIED if getattr(picture, name)]
    elif kind == "JPEG":
        dropped = [name for name in ("exif", "xmp") if len(getattr(picture, name) or b"") > _JPEG_SEGMENT - 29]
    elif kind == "TIFF" and picture.depth == 16 and picture.channels > 1 and picture.exif:
        dropped = ["exif"]
    if dropped:
        _log.warning("%s cannot carry the picture's %s; left out", kind, " and ".join(dropped))
        kept = {name: None if name in dropped else getattr(picture, name) for name in _CARRIED}
        picture = replace(picture, icc=kept["icc"], exif=kept["exif"], xmp=kept["xmp"])
    if picture.exif:
        try:
            renewed = renew_size_tags(picture.exif, width=picture.width, height=picture.height)
        except Exception as cause:  # noqa: BLE001 - Pillow's EXIF reader raises errors of many kinds
            _log.warning("the picture's EXIF is damaged (%s); left out", cause)
            renewed = None
        picture = replace(picture, exif=renewed)
    return picture


def _encode_with_pillow(picture: Picture, kind: str, quality: int | None) -> bytes:
    image = to_pillow(picture)
    options: dict[str, Any] = {"icc_profile": picture.icc} if picture.icc else {}
    if kind == "TIFF":
        # libtiff, which compresses for Pillow, cannot write the directories inside EXIF
        options["compression"] = "raw" if picture.exif else "tiff_adobe_deflate"
        options["exif"] = Image.Exif()
        options["exif"].load(picture.exif or b"")
        if picture.xmp:
            options["exif"][_TIFF_XMP] = picture.xmp
    else:
        if picture.exif:
            options["exif"] = picture.exif
        if picture.xmp and kind == "PNG":
            options["pnginfo"] = PngImagePlugin.PngInfo()
            options["pnginfo"].add(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + picture.xmp)
        elif picture.xmp:
            options["xmp"] = picture.xmp
    image.info.clear()  # Pillow would take some of it from here, and only some
    if kind in _QUALITY:
        options["quality"] = _QUALITY[kind] if quality is None else quality
    if kind == "JPEG" and options["quality"] >= 90:
        options["subsampling"] = "4:4:4"
    if kind == "WebP":
        options["exact"] = True  # colours under alpha 0 stay what they were
    if kind in ("WebP", "AVIF"):  # Pillow versions differ in what they make of grey
        image = image.convert("RGBA" if picture.has_alpha else "RGB")
    file = io.BytesIO()
    try:
        image.save(file, kind.upper(), **options)
    except (
        OSError,
        ValueError,
        SystemError,
        RuntimeError,
        struct.error,
    ) as cause:  # sides beyond the format's limit, a broken profile
        raise PictureError(f"this picture cannot be written as {kind}: {' '.join(str(cause).split())}") from cause
    return file.getvalue()
