"""The codecs that Pillow brings, and JPEG XL where its plug-in is installed: real files in memory."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features


@dataclass(frozen=True, kw_only=True)
class Codec:
    """A format, its settings and the qualities at which it is measured."""

    name: str
    words: str
    format: str
    qualities: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)
    library: str = ""

    def encode(self, image: Image.Image, quality: int) -> bytes:
        """The whole file."""
        stream = io.BytesIO()
        image.save(stream, format=self.format, quality=quality, **self.options)
        return stream.getvalue()


_LADDER = (1, 3, 6, 9, 12, 16, 20, 25, 30, 40, 50, 60, 70, 78, 85, 90, 95)


def available() -> tuple[Codec, ...]:
    """The codecs that this installation can measure."""
    found = [
        Codec(
            name="JPEG",
            words="4:2:0, optimized tables, progressive",
            format="JPEG",
            qualities=_LADDER,
            options={"optimize": True, "progressive": True, "subsampling": "4:2:0"},
            library=f"libjpeg-turbo {features.version('libjpeg_turbo')}",
        )
    ]
    if features.check("webp"):
        found.append(
            Codec(
                name="WebP",
                words="method 6",
                format="WEBP",
                qualities=(0, 1, 2, 4, 7, *_LADDER[4:]),
                options={"method": 6},
                library=f"libwebp {features.version('webp')}",
            )
        )
    if features.check("avif"):
        found.append(
            Codec(
                name="AVIF",
                words="speed 4, 4:2:0",
                format="AVIF",
                qualities=(0, 9, 20, 32, 48, 64, 80, 90),
                options={"speed": 4, "subsampling": "4:2:0"},
                library=f"libavif {features.version('avif')}",
            )
        )
    try:
        import pillow_jxl  # type: ignore[import-not-found]  # registers itself
    except ImportError:
        pass
    else:
        found.append(
            Codec(
                name="JPEG XL",
                words="effort 7",
                format="JXL",
                qualities=(2, 10, 20, 30, 40, 50, 60, 70, 80, 86, 91, 95),
                options={"effort": 7},
                library=f"pillow_jxl {getattr(pillow_jxl, '__version__', '')}".strip(),
            )
        )
    return tuple(found)


def decode(data: bytes) -> NDArray[np.float32]:  # (H, W, 3) in [0, 1]
    """The pixels of a file."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"), np.float32) / np.float32(255)


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """A result and the milliseconds that it took."""
    start = time.perf_counter()
    result = work()
    return result, round(1e3 * (time.perf_counter() - start), 2)
