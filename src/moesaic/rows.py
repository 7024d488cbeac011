"""A large picture on disk as bands of rows: read and written without ever being in memory as a whole.

PNG files of 8 and 16 bits that are not interlaced are decoded as their rows are asked for. Of all others the decoder
makes the whole picture; that is kept as it is, in integers, and only bands of it become floats.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import PngImagePlugin

from moesaic.decoded import unit, with_key
from moesaic.errors import MoesaicError, ShapeError
from moesaic.files import atomic_file, atomic_write
from moesaic.image import PIXEL_LIMIT
from moesaic.metadata import read_metadata
from moesaic.picture import Frame, check_pixel_limit, rounded
from moesaic.picture_files import (
    decode_file,
    encode_integers,
    fit_metadata,
    format_of,
    one_line_errors,
    read_size,
    refuse_unfit,
)
from moesaic.png_rows import PngHead, PngRows, PngRowWriter, read_head

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Band = Callable[[int, int, int, int], NDArray[np.float32]]

LARGE = 2**24
"""Pixels of a picture above which the verbs that can go from disk to disk do so: 4096 x 4096."""


def is_large(path: str | os.PathLike[str], *, pixel_limit: int = PIXEL_LIMIT, times: int = 1) -> bool:
    """Whether a picture file, or what becomes of it, has more than `LARGE` pixels; False for what cannot be read.

    Args:
        path: of the file; only its head is read.
        pixel_limit: what has more is refused, and so not large; some decoders take memory as soon as they are made.
        times: pixels of the result for each of the file.
    """
    try:
        width, height = read_size(path, pixel_limit=pixel_limit, turned=False)
    except MoesaicError:
        return False  # whoever reads it whole says why
    return width * height * times > LARGE


class Rows:
    """A picture on disk; `open_rows` makes it.

    Args:
        name: of the file, for errors.
        frame: all but its pixels.
        band: gives pixels for rows and columns, each from the first to one past the last.
    """

    def __init__(self, name: str, frame: Frame, band: Band) -> None:
        self.frame, self._name, self._band = frame, name, band

    def band(
        self, top: int, bottom: int, left: int = 0, right: int | None = None
    ) -> NDArray[np.float32]:  # (bottom - top, right - left, C)
        """The pixels of some rows, and of some columns of them, in [0, 1], as `read_picture` would have them.

        Rows are cheap when they are asked for from top to bottom, each at most 32 rows above the last ones; for others
        the file may be read anew.

        Raises:
            PictureError: the file is truncated or damaged.
        """
        with one_line_errors(self._name):
            return self._band(top, bottom, left, self.frame.width if right is None else right)


@contextmanager
def open_rows(path: str | os.PathLike[str], *, pixel_limit: int = PIXEL_LIMIT) -> Iterator[Rows]:
    """Within this a picture file can be read band by band.

    What `read_picture` does holds here as well. Damage within a PNG file's pixels shows when they are asked for, and
    wrong checksums of them are damage, of 8 bits, too.

    Args:
        path: of the file.
        pixel_limit: largest W * H to accept.

    Raises:
        PictureError: the file is missing, no picture, damaged, truncated, or of a kind that moesaic does not read.
        LimitError: the picture has more than `pixel_limit` pixels.
        MissingExtraError: 16-bit colour in TIFF or AVIF, and the extra `formats` is not installed.
    """
    name = os.fspath(path)
    with ExitStack() as held:
        with one_line_errors(name):
            rows = _opened(name, pixel_limit, held)
        yield rows


def _opened(name: str, pixel_limit: int, held: ExitStack) -> Rows:
    plain = _plain(name, pixel_limit)
    if plain is None:
        decoded = decode_file(name, pixel_limit=pixel_limit)
        return Rows(name, decoded.frame, decoded.band)
    head, frame = plain
    rows = held.enter_context(closing(PngRows(name, head)))

    def band(top: int, bottom: int, left: int, right: int) -> NDArray[np.float32]:
        return unit(with_key(rows.rows(top, bottom)[:, left:right], head.key))

    return Rows(name, frame, band)


def _plain(name: str, pixel_limit: int) -> tuple[PngHead, Frame] | None:
    """The head and frame of a PNG file that can be decoded band by band."""
    with Path(name).open("rb") as file:
        head = read_head(file)
    if head is None:
        return None
    check_pixel_limit(head.width, head.height, pixel_limit, name)
    with PngImagePlugin.PngImageFile(io.BytesIO(head.skeleton)) as image:
        image.load()
        found = read_metadata(image)
    if found.orientation != 1:
        return None
    return head, Frame(
        width=head.width,
        height=head.height,
        channels=head.channels + (head.key is not None),
        depth=head.bits,
        icc=found.icc,
        exif=found.exif,
        xmp=found.xmp,
    )


@contextmanager
def write_rows(
    path: str | os.PathLike[str],
    frame: Frame,
    *,
    quality: int | None = None,
    force: bool = False,
    metadata: Literal["keep", "strip"] = "keep",
) -> Iterator[Callable[[NDArray[np.float32]], None]]:
    """Within this a picture file is written band by band, whole or not at all; see `moesaic.write_picture`.

    PNG goes to the disk as it comes; of the other formats the rounded pixels are kept until all are there.

    Args:
        path: where; the suffix chooses the format.
        frame: of the picture.
        quality: 1 to 100 for JPEG, WebP and AVIF.
        force: replace a file that is there.
        metadata: carry ICC profile, EXIF and XMP, or "strip" to leave them out.

    Yields:
        what takes the next rows, (rows, W, C) float32 in [0, 1].

    Raises:
        PictureError: the suffix is unknown, or the format cannot hold this picture.
        OutputExistsError: the file is there and `force` is False.
        MissingExtraError: a TIFF of 16-bit colour, and the extra `formats` is not installed.
        ArgumentError: the quality is out of range, or the path cannot be written.
        ShapeError: rows are missing at the end, are too many, or of another width.
    """
    kind = format_of(Path(path), None)
    refuse_unfit(frame, kind, quality=quality)
    if metadata == "strip":
        frame = replace(frame, icc=None, exif=None, xmp=None)
    if kind == "PNG":
        fit = fit_metadata(frame, kind)
        with atomic_file(path, force=force) as write:
            carried = {"icc": fit.icc, "exif": fit.exif, "xmp": fit.xmp}
            writer = PngRowWriter(write, fit.width, fit.height, fit.channels, fit.depth, **carried)
            yield lambda pixels: writer.rows(rounded(pixels, fit.depth))
            writer.close()
        return
    gathered = _Gathered(frame)
    yield gathered.rows
    atomic_write(path, encode_integers(gathered.whole(), frame, kind, quality=quality), force=force)


class _Gathered:
    """Rows in integers, until all are there."""

    def __init__(self, frame: Frame) -> None:
        kind = np.uint8 if frame.depth == 8 else np.uint16
        self._pixels: NDArray[Any] = np.empty((frame.height, frame.width, frame.channels), kind)
        self._depth, self._done = frame.depth, 0

    def rows(self, pixels: NDArray[np.float32]) -> None:
        room = self._pixels[self._done : self._done + len(pixels)]
        if room.shape != pixels.shape:
            raise ShapeError(f"rows {pixels.shape} do not fit {room.shape}")
        room[:] = rounded(pixels, self._depth)
        self._done += len(pixels)

    def whole(self) -> NDArray[Any]:
        if self._done < len(self._pixels):
            raise ShapeError(f"{len(self._pixels) - self._done} rows of the picture are missing")
        return self._pixels
