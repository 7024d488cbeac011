"""What a picture file says beside its pixels: orientation, ICC profile, EXIF and XMP, made fit to be carried along."""

from __future__ import annotations

import logging
import re
from typing import NamedTuple

from PIL import ExifTags, Image

_log = logging.getLogger(__name__)

_ORIENTATION = ExifTags.Base.Orientation.value
_SIZE_TAGS = (ExifTags.Base.ExifImageWidth.value, ExifTags.Base.ExifImageHeight.value)

# Tags that tell how the pixels of one TIFF file are stored, or that are carried apart (XMP, ICC): wrong in any other.
_STORAGE_TAGS = frozenset(
    {254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 277, 278, 279, 280, 281, 284, 288, 289, 290, 291, 292}
    | {293, 297, 301, 317, 318, 319, 320, 321, 322, 323, 324, 325, 326, 327, 328, 330, 332, 333, 334, 336, 337, 338}
    | {339, 340, 341, 342, 343, 344, 345, 346, 347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532}
    | {559, 700, 33723, 34377, 34675, 50341}
)


class Metadata(NamedTuple):
    """What is carried from one file to the next, and the orientation that has to be applied to the pixels first."""

    orientation: int = 1  # 1 to 8, as EXIF counts them
    icc: bytes | None = None
    exif: bytes | None = None  # starts with b"Exif\0\0", as Pillow writes it
    xmp: bytes | None = None


def read_metadata(image: Image.Image) -> Metadata:
    """Orientation, ICC, EXIF and XMP of an image.

    The EXIF comes back with its orientation reset to 1, without its thumbnail and without the tags that describe how
    the pixels of this one file are stored; EXIF that cannot be parsed is dropped with a warning in the log.
    """
    orientation, exif = _read_exif(image)
    return Metadata(orientation, image.info.get("icc_profile") or None, exif, _read_xmp(image))


def _read_exif(image: Image.Image) -> tuple[int, bytes | None]:
    try:
        found = image.getexif()
        orientation = found.get(_ORIENTATION, 1)
        if orientation not in range(1, 9):
            orientation = 1
        kept = Image.Exif()  # a copy: the caller's image stays as it is
        kept.load(found.tobytes())  # which leaves the thumbnail behind
        for tag in _STORAGE_TAGS & set(kept):
            del kept[tag]
        if _ORIENTATION in kept:
            kept[_ORIENTATION] = 1
            if len(kept) == 1 and "exif" not in image.info:  # it stood in the XMP, or among the tags of a TIFF
                return orientation, None
        if len(kept):
            return orientation, kept.tobytes()
        if image.info.get("exif"):
            _log.warning("the EXIF data holds nothing that can be read and was left out")
        return orientation, None
    except Exception as cause:  # noqa: BLE001 - Pillow raises a dozen kinds on damaged EXIF, and none is worth a picture
        _log.warning("the EXIF data is damaged and was left out: %s", cause)
        return 1, None


def _read_xmp(image: Image.Image) -> bytes | None:
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    if not xmp:
        tags = getattr(image, "tag_v2", None)
        xmp = tags.get(700) if tags is not None else None
    if isinstance(xmp, str):
        xmp = xmp.encode()
    if not isinstance(xmp, bytes) or not xmp:
        return None
    xmp = re.sub(rb"""(tiff:Orientation\s*=\s*["'])\d(["'])""", rb"\g<1>1\2", xmp)
    return re.sub(rb"(<tiff:Orientation>\s*)\d(\s*</tiff:Orientation>)", rb"\g<1>1\2", xmp)


def renew_size_tags(exif: bytes, *, width: int, height: int) -> bytes:
    """The same EXIF with the pixel counts that it states, if it states any, set to those of the picture it goes with.

    Args:
        exif: as `read_metadata` returns it.
        width: of the picture, px.
        height: of the picture, px.
    """
    tags = Image.Exif()
    tags.load(exif)
    if ExifTags.IFD.Exif in tags:
        details = tags.get_ifd(ExifTags.IFD.Exif)
        for tag, value in zip(_SIZE_TAGS, (width, height), strict=True):
            if tag in details:
                details[tag] = value
    return tags.tobytes()
