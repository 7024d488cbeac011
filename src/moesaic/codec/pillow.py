"""The Pillow plug-in: `Image.open("x.moe")` and `image.save("x.moe")`.

Importing this module registers it; `register_moe_opener` does so again, with other limits. Opening reads the header
and the metadata only; the kernels are decoded, and drawn at the size of the canvas, when pixels are first asked for.
"""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from typing import IO, Any, BinaryIO, ClassVar, cast

from PIL import Image, ImageFile

from moesaic.codec.container import MAGIC, FileReader
from moesaic.codec.decoder import draw
from moesaic.codec.encoder import encode
from moesaic.codec.file import decode_bytes
from moesaic.codec.limits import DEFAULT_LIMITS, Limits
from moesaic.errors import ArgumentError, FormatError
from moesaic.image import read_picture
from moesaic.picture import to_pillow

_WISHES = ("experts", "bpp", "psnr", "seconds", "steps", "order", "seed")


class DamagedMoeError(FormatError, OSError):
    """A damaged .moe file met by Pillow, whose users expect an OSError."""


class MoeImageFile(ImageFile.ImageFile):
    """A .moe file as a Pillow image, in mode L, LA, RGB, RGBA, or I;16 for 16-bit grey."""

    format = "MOE"
    format_description = "moesaic mixture of experts"
    limits: ClassVar[Limits] = DEFAULT_LIMITS
    _drawn = True  # what an image that comes out of a pickle finds

    def _open(self) -> None:
        try:
            reader = FileReader(self._stream(), limits=self.limits)
            header, info = reader.header, reader.info()
        except FormatError as cause:
            raise DamagedMoeError(str(cause)) from cause
        self.limits.check_output(header.width, header.height)
        self._size = header.width, header.height
        self._mode = (
            "I;16" if header.channels == 1 and header.depth == 16 else ("L", "LA", "RGB", "RGBA")[header.channels - 1]
        )
        carried = {"icc_profile": info.icc, "exif": info.exif, "xmp": info.xmp}
        self.info.update({name: value for name, value in carried.items() if value})
        self.info.update(info.text)
        self._drawn = False

    def load(self) -> Any:
        """Decode and draw, the first time."""
        if not self._drawn:
            stream = self._stream()
            stream.seek(0)  # where Pillow always begins
            try:
                held = decode_bytes(stream, limits=self.limits)
            except FormatError as cause:
                raise DamagedMoeError(str(cause)) from cause
            picture = draw(held, limits=self.limits)
            pixels = to_pillow(picture if self._mode == "I;16" else picture.with_depth(8))
            if self._exclusive_fp:
                stream.close()
            self.fp = BytesIO(pixels.tobytes())
            self.tile = [ImageFile._Tile("raw", (0, 0, *self.size), 0, self._mode)]
            self._drawn = True
        return super().load()

    def _stream(self) -> BinaryIO:
        if self.fp is None:
            raise ValueError("the file is closed")
        return cast("BinaryIO", self.fp)


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(MAGIC)


def _save(image: Image.Image, stream: IO[bytes], filename: str | bytes) -> None:  # noqa: ARG001 - Pillow passes it
    """Fit and encode; `save` takes experts, bpp, psnr, seconds, steps, order and seed, and exif, icc_profile, xmp."""
    options: dict[str, Any] = image.encoderinfo
    unknown = set(options) - {*_WISHES, "exif", "icc_profile", "xmp"}
    if unknown:
        raise ArgumentError(f"saving .moe takes no option {', '.join(sorted(unknown))}; see moesaic.encode")
    picture = read_picture(image)
    given = {name: value.tobytes() if isinstance(value, Image.Exif) else value for name, value in options.items()}
    picture = replace(
        picture,
        icc=given.get("icc_profile", picture.icc) or None,
        exif=given.get("exif", picture.exif) or None,
        xmp=given.get("xmp", picture.xmp) or None,
    )
    stream.write(encode(picture, **{name: options[name] for name in _WISHES if name in options}).data)


def register_moe_opener(*, limits: Limits = DEFAULT_LIMITS) -> None:
    """Teach Pillow to open and save `.moe` files.

    Args:
        limits: sizes above which files are refused.
    """
    MoeImageFile.limits = limits
    Image.register_open(MoeImageFile.format, MoeImageFile, _accept)
    Image.register_save(MoeImageFile.format, _save)
    Image.register_extension(MoeImageFile.format, ".moe")
    Image.register_mime(MoeImageFile.format, "image/x-moesaic")


register_moe_opener()
