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

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from moesaic import deep_formats
from moesaic.decoded import Decoded, decoded
from moesaic.errors import ArgumentError, LimitError, MoesaicError, PictureError
from moesaic.metadata import read_metadata, renew_size_tags
from moesaic.picture import Frame, Picture, check_pixel_limit, image_of, to_integers

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
_JPEG_SEGMENT = 65533  # bytes that one marker segment of a JPEG file can hold


def read_file(source: str | os.PathLike[str] | bytes | BinaryIO, *, pixel_limit: int) -> Picture:
    """A picture from a path, a binary stream or the bytes of a file; see `moesaic.read_picture`."""
    if isinstance(source, str | os.PathLike):
        name = os.fspath(source)
        return decode_file(name, pixel_limit=pixel_limit).picture()
    if not isinstance(source, bytes | bytearray | memoryview):
        if not hasattr(source, "read"):
            raise ArgumentError(f"cannot read a picture from an object of type {type(source).__name__}")
        source = source.read()
        if not isinstance(source, bytes):
            raise ArgumentError("a picture is read from a binary stream; this one gives text")
    with one_line_errors("the picture"):
        return _decode(io.BytesIO(source), "the picture", pixel_limit).picture()


def decode_file(name: str, *, pixel_limit: int) -> Decoded:
    """What the decoder makes of the file of that name: a picture's pixels as integers, before they become floats.

    Raises:
        PictureError: the file is missing, no picture, damaged, truncated, or of a kind that moesaic does not read.
        LimitError: the picture has more than `pixel_limit` pixels.
        MissingExtraError: 16-bit colour in TIFF or AVIF, and the extra `formats` is not installed.
    """
    with one_line_errors(name), Path(name).open("rb") as file:
        return _decode(file, name, pixel_limit)


def _decode(file: BinaryIO, name: str, pixel_limit: int) -> Decoded:
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
            return decoded(image, bits)
        if kind == "PNG":
            image.load()  # the metadata may stand behind the pixels
        found = read_metadata(image)
        file.seek(0)
        return Decoded(_read_deep(file.read(), kind, pixel_limit), found, depth=16)


def read_size(path: str | os.PathLike[str], *, pixel_limit: int, turned: bool = True) -> tuple[int, int]:
    """Width and height of a picture, px, from the head of its file.

    Args:
        path: of the file.
        pixel_limit: largest W * H to accept.
        turned: as it is shown, or as it is stored: for that, no pixel is decoded, while the orientation of a PNG file
            may stand behind its pixels.

    Raises:
        PictureError: the file is missing or no picture, or its head is damaged.
        LimitError: there are more than `pixel_limit` pixels.
    """
    name = os.fspath(path)
    with one_line_errors(name), Path(path).open("rb") as file:
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
            on_its_side = turned and read_metadata(image).orientation >= 5  # 1 to 4 keep width and height
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


def _read_deep(data: bytes, kind: str, pixel_limit: int) -> NDArray[Any]:  # (H, W, C), uint16 or float32
    """Pixels of more than 8 bits that Pillow would narrow; the limit again, for headers that say two things."""
    if kind == "TIFF":
        return deep_formats.read_deep_tiff(data, pixel_limit=pixel_limit)
    if kind == "AVIF":
        return deep_formats.read_deep_avif(data)
    from moesaic.png16 import decode_png16  # late: it is compiled code, and 16 bits are rare

    return decode_png16(data, pixel_limit=pixel_limit)


def from_pillow(image: Image.Image, *, pixel_limit: int) -> Picture:
    """A picture from an image of Pillow, in any mode of 8 bits, or I;16; see `moesaic.read_picture`."""
    name = str(getattr(image, "filename", "") or "the Pillow image")
    check_pixel_limit(image.width, image.height, pixel_limit, name)
    if not image.mode.startswith("I;16") and any(";16" in str(tile) for tile in getattr(image, "tile", ())):
        raise PictureError(
            f"{name}: Pillow would cut its 16 bits to 8; pass the path instead, or image.copy() to accept it"
        )
    with one_line_errors(name):
        return decoded(image, 16 if image.mode.startswith("I;16") else 8).picture()


@contextmanager
def one_line_errors(name: str) -> Iterator[None]:
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
        if isinstance(cause, OSError) and cause.strerror:  # of the system, not of a decoder
            raise PictureError(f"{name} cannot be read: {cause.strerror}") from cause
        said = " ".join(str(cause).split()) or type(cause).__name__
        raise PictureError(
            f"{name} cannot be read as a picture ({said}): it seems damaged or cut off, so take another copy"
        ) from cause


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
    refuse_unfit(Frame.of(picture), kind, quality=quality)
    return encode_integers(to_integers(picture), Frame.of(picture), kind, quality=quality)


def refuse_unfit(frame: Frame, kind: str, *, quality: int | None) -> None:
    """Refuse a format that cannot hold such pictures; errors as of `encode`."""
    if quality is not None and (kind not in _QUALITY or quality not in range(1, 101)):
        raise ArgumentError(f"quality is 1 to 100, for {', '.join(_QUALITY)} only; got {quality} for {kind}")
    if frame.has_alpha and kind in _NO_ALPHA:
        raise PictureError(
            f"{kind} has no alpha; write PNG, WebP, AVIF or TIFF, or (in Python) lay it on white: picture.over(1.0)"
        )
    if frame.depth == 16 and kind not in _DEEP:
        raise PictureError(
            f"{kind} has 8 bits a channel; write PNG or TIFF, or (in Python) narrow it: picture.with_depth(8)"
        )
    if frame.depth == 16 and kind == "TIFF":
        if frame.channels == 2:
            raise PictureError(
                "16-bit grey with alpha is written as PNG only; or (in Python) narrow it: picture.with_depth(8)"
            )
        if frame.channels > 2:
            deep_formats.need_tifffile()


def encode_integers(
    pixels: NDArray[Any],  # (H, W, C), uint8 or uint16 after the frame's depth
    frame: Frame,
    kind: str,
    *,
    quality: int | None,
) -> bytes:
    """As `encode`, of pixels that are integers already and of a frame that the format can hold."""
    frame = fit_metadata(frame, kind)
    if frame.depth == 16 and kind == "PNG":
        from moesaic.png16 import encode_png16

        return encode_png16(pixels, icc=frame.icc, exif=frame.exif, xmp=frame.xmp)
    if frame.depth == 16 and frame.channels > 1:
        return deep_formats.write_deep_tiff(pixels, icc=frame.icc, xmp=frame.xmp)
    return _encode_with_pillow(pixels, frame, kind, quality)


def fit_metadata(frame: Frame, kind: str) -> Frame:
    """Metadata as far as the format can carry it; what is left out is logged."""
    dropped: list[str] = []
    if kind == "BMP":
        dropped = [name for name in _CARRIED if getattr(frame, name)]
    elif kind == "JPEG":
        dropped = [name for name in ("exif", "xmp") if len(getattr(frame, name) or b"") > _JPEG_SEGMENT - 29]
    elif kind == "TIFF" and frame.depth == 16 and frame.channels > 1 and frame.exif:
        dropped = ["exif"]
    if dropped:
        _log.warning("%s cannot carry the picture's %s; left out", kind, " and ".join(dropped))
        kept = {name: None if name in dropped else getattr(frame, name) for name in _CARRIED}
        frame = replace(frame, icc=kept["icc"], exif=kept["exif"], xmp=kept["xmp"])
    if frame.exif:
        try:
            renewed = renew_size_tags(frame.exif, width=frame.width, height=frame.height)
        except Exception as cause:  # noqa: BLE001 - Pillow's EXIF reader raises errors of many kinds
            _log.warning("the picture's EXIF is damaged (%s); left out", cause)
            renewed = None
        frame = replace(frame, exif=renewed)
    return frame


def _encode_with_pillow(pixels: NDArray[Any], frame: Frame, kind: str, quality: int | None) -> bytes:
    image = image_of(pixels)
    options: dict[str, Any] = {"icc_profile": frame.icc} if frame.icc else {}
    if kind == "TIFF":
        # libtiff, which compresses for Pillow, cannot write the directories inside EXIF
        options["compression"] = "raw" if frame.exif else "tiff_adobe_deflate"
        options["exif"] = Image.Exif()
        options["exif"].load(frame.exif or b"")
        if frame.xmp:
            options["exif"][_TIFF_XMP] = frame.xmp
    else:
        if frame.exif:
            options["exif"] = frame.exif
        if frame.xmp and kind == "PNG":
            options["pnginfo"] = PngImagePlugin.PngInfo()
            options["pnginfo"].add(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + frame.xmp)
        elif frame.xmp:
            options["xmp"] = frame.xmp
    if kind in _QUALITY:
        options["quality"] = _QUALITY[kind] if quality is None else quality
    if kind == "JPEG" and options["quality"] >= 90:
        options["subsampling"] = "4:4:4"
    if kind == "WebP":
        options["exact"] = True  # colours under alpha 0 stay what they were
    if kind in ("WebP", "AVIF"):  # Pillow versions differ in what they make of grey
        image = image.convert("RGBA" if frame.has_alpha else "RGB")
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
