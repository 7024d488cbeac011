"""What a file may ask for, checked before anything is allocated for it."""

from __future__ import annotations

from dataclasses import dataclass

from moesaic.errors import LimitError


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The largest sizes that a reader accepts; raise a field to accept more."""

    canvas_pixels: int = 2**28  # width x height of the canvas, px
    side: int = 2**18  # width or height of the canvas, px
    kernels: int = 2**21  # of a whole file
    section_bytes: int = 2**26  # of one section's payload
    file_bytes: int = 2**28  # of a whole file
    metadata_bytes: int = 2**24  # of ICC, EXIF, XMP and text together
    table_symbols: int = 2**33  # kernels times the sizes of the tables that each needs: bounds the time of decoding
    output_pixels: int = 2**28  # width x height of what is rendered, px

    def check(self, field: str, value: int, what: str) -> None:
        """Raise when `value` is above the limit called `field`.

        Raises:
            LimitError: it is; the text names the limit and how to raise it.
        """
        limit = getattr(self, field)
        if value > limit:
            raise LimitError(f"{what} {value}, the limit is {limit}: pass Limits({field}=...) to accept more")

    def check_output(self, width: int, height: int) -> None:
        """Raise when a picture of this size is more than may be rendered.

        Raises:
            LimitError: width x height is above `output_pixels`.
        """
        self.check("output_pixels", width * height, f"a rendering of {width}x{height} has pixels:")


DEFAULT_LIMITS = Limits()
