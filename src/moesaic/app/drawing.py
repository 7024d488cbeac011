"""Parts of mixtures drawn by the server, for browsers that cannot draw them by themselves.

In a process of its own, as a mixture of a few kilobytes can be made so that one part of it takes all of a machine.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moesaic.app.limits import Limits
from moesaic.app.workers import Worker
from moesaic.errors import LimitError
from moesaic.picture import Picture, to_pillow

if TYPE_CHECKING:
    from pathlib import Path

    from moesaic.codec.file import MoeFile

_KEPT = 4  # mixtures that are ready to be drawn
_REMEMBERED = 1000  # mixtures that take too much


@dataclass(frozen=True, slots=True)
class Tile:
    """What to draw."""

    path: Path  # of the .moe file
    region: tuple[float, float, float, float]  # left, top, right and bottom, px of the canvas
    size: tuple[int, int]  # width and height, px


class Tiles:
    """Draws tiles one after another.

    Args:
        limits: of the server.
        threads: that may be used for one.
    """

    def __init__(self, limits: Limits, threads: int) -> None:
        self._limits = limits
        self._worker = Worker(Drawer(), limits, limits.tile_bytes, threads, seconds=limits.tile_seconds)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tiles")
        self._free = threading.Semaphore(limits.tiles)
        self._too_much: deque[Path] = deque(maxlen=_REMEMBERED)
        self._stopped = False

    def drawn(self, tile: Tile) -> Future[bytes] | None:
        """The tile as PNG, which is to come; None where too many others wait.

        Its errors are LimitError for a mixture that takes too long or too much memory, and ArgumentError or
        FormatError where it cannot be drawn at all.
        """
        if not self._free.acquire(blocking=False):
            return None
        future = self._thread.submit(self._draw, tile)
        future.add_done_callback(lambda _: self._free.release())
        return future

    def stop(self) -> None:
        """Draw no more."""
        self._stopped = True
        self._thread.shutdown(cancel_futures=True)
        self._worker.end()

    def _draw(self, tile: Tile) -> bytes:
        found: list[bytes] = []
        if tile.path not in self._too_much:
            ended = self._worker.run(
                tile, lambda _: None, lambda told: found.append(told["png"]), lambda: self._stopped
            )
            if found:
                return found[0]
            if ended.error is not None and not ended.was_cut_off:
                raise LimitError(ended.error)
            self._too_much.append(tile.path)
        raise LimitError("This picture takes too long to be drawn here. Look at it in a browser that has WebGL2.")


class Drawer:
    """Draws tiles in their process; the mixtures that were asked for last stay in memory."""

    def __init__(self) -> None:
        self._held: OrderedDict[Path, MoeFile] = OrderedDict()

    def __call__(self, tile: Tile, send: Callable[[str, Any], None], limits: Limits) -> None:  # noqa: ARG002 - as others
        """See `workers.Doing`."""
        send("done", {"png": self.draw(tile)})

    def draw(self, tile: Tile) -> bytes:
        """A part of a `.moe` file's picture as PNG.

        Raises:
            ArgumentError: the region is too small to be drawn.
            FormatError: the file is damaged.
        """
        from moesaic.mixture.render import render

        held = self._loaded(tile.path)
        pixels = render(held.mixture, size=tile.size, region=tile.region).numpy()
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
