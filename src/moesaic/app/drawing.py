"""Parts of mixtures drawn by the server, for browsers that cannot draw them by themselves."""

from __future__ import annotations

import io
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from moesaic.picture import Picture, to_pillow

if TYPE_CHECKING:
    from pathlib import Path

    from moesaic.codec.file import MoeFile

_KEPT = 4  # mixtures that are ready to be drawn


class Tiles:
    """Draws tiles, one at a time and in a thread of its own; the mixtures that were asked for last stay in memory."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._held: OrderedDict[Path, MoeFile] = OrderedDict()

    def drawn(self, path: Path, region: tuple[float, ...], size: tuple[int, int]) -> Future[bytes]:
        """What `draw` will return."""
        return self._thread.submit(self.draw, path, region, size)

    def draw(self, path: Path, region: tuple[float, ...], size: tuple[int, int]) -> bytes:
        """A part of a `.moe` file's picture as PNG.

        Args:
            path: of the file.
            region: left, top, right and bottom, px of the canvas.
            size: width and height, px.

        Raises:
            ArgumentError: the region is too small to be drawn.
            FormatError: the file is damaged.
        """
        from moesaic.mixture.render import render

        left, top, right, bottom = region
        held = self._loaded(path)
        pixels = render(held.mixture, size=size, region=(left, top, right, bottom)).numpy()
        picture = Picture.from_premultiplied(pixels.transpose(1, 2, 0), icc=held.info.icc)
        file = io.BytesIO()
        to_pillow(picture).save(file, "PNG", compress_level=1)
        return file.getvalue()

    def _loaded(self, path: Path) -> MoeFile:
        from moesaic.codec.file import load_file

        held = self._held.pop(path, None) or load_file(path)
        self._held[path] = held
        while len(self._held) > _KEPT:
            self._held.popitem(last=False)
        return held
