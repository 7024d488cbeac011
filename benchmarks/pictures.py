"""The pictures that are measured: a folder of them, or the photographs that come with scikit-image."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.record import RESULTS, ROOT

if TYPE_CHECKING:
    from moesaic.image import Picture

KODAK = ROOT.parent / "shared" / "data" / "kodak"
_SUFFIXES = {".png", ".bmp", ".tif", ".tiff", ".ppm"}  # lossless: a codec must not be judged by another one's traces
_SHIPPED = ("astronaut", "cat", "coffee", "rocket")
FOUR = (1, 9, 13, 21)  # smooth, fine, busy and wide: what a curve is drawn on where 24 pictures would take too long


@dataclass(frozen=True, kw_only=True)
class Source:
    """One picture to measure on."""

    name: str
    path: Path | None  # None: from scikit-image

    def read(self) -> Picture:
        """The picture, without metadata, so that files hold pixels only."""
        from moesaic import read_picture

        if self.path is not None:
            return read_picture(self.path).without_metadata()
        from skimage import data

        return read_picture(np.ascontiguousarray(getattr(data, self.name)()[..., :3]))


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Pictures with a name for the set; `only` counts from 1 in the order of names."""

    name: str
    sources: tuple[Source, ...]

    def only(self, numbers: tuple[int, ...] | None) -> tuple[Source, ...]:
        """The pictures of these numbers that exist; all of them without numbers."""
        if numbers is None:
            return self.sources
        return tuple(self.sources[n - 1] for n in numbers if 1 <= n <= len(self.sources))


def gallery(folder: Path | None = None) -> Gallery:
    """The lossless pictures of a folder: Kodak beside the repository by default, scikit-image's without it."""
    if folder is None and KODAK.is_dir():
        folder = KODAK
    if folder is None:
        return Gallery(name="scikit-image", sources=tuple(Source(name=name, path=None) for name in _SHIPPED))
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES) if folder.is_dir() else []
    if not paths:
        raise SystemExit(f"no lossless pictures ({', '.join(sorted(_SUFFIXES))}) in {folder}")
    return Gallery(name=folder.resolve().name, sources=tuple(Source(name=p.stem, path=p) for p in paths))


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    made = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    made.add_argument("--pictures", type=Path, metavar="DIR", help="lossless pictures; Kodak beside the repository")
    made.add_argument("--only", type=numbers, metavar="1,9,13", help="pictures by their place in the folder, from 1")
    made.add_argument("--threads", type=int, default=None, help="as many as the process may use")
    made.add_argument("--results", type=Path, metavar="DIR", default=RESULTS, help="where the JSON goes")
    made.add_argument("--resume", action="store_true", help="keep the rows of an earlier run of the same code")
    return made


def numbers(text: str) -> tuple[int, ...]:
    """Whole numbers between commas."""
    return tuple(int(part) for part in text.split(",") if part)
