"""The test sets of upscaling: four sets of clean pictures made small in four ways, and pairs from a real camera.

"bicubic" is Pillow's shrink alone. "mild", "medium" and "severe" are second-order chains of blur, noise, JPEG and sizes
that end at a quarter of the size; `benchmarks/frozen/upscale_x4.json` names their parameters and the hash of each
result, so they are the same bytes for everyone. `--freeze` writes it, `--check` reproduces all of it. "camera" are the
four pairs of City100: what a phone sees from afar and from near, on one grid; the far one is shrunk first, as its grid
is finer than what it shows.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import ROOT
from benchmarks.super_resolution import DATA, SETS, Eight, made_small, pictures, read, resized
from moesaic.degrade.frozen import Entry, freeze, read_frozen, reproduce, write_frozen

FROZEN = ROOT / "benchmarks" / "frozen" / "upscale_x4.json"
SEVERITY = {"mild": 0.15, "medium": 0.5, "severe": 0.85}
SORTS = ("bicubic", *SEVERITY)
CAMERA = "City100"
_SCALE = 4
_SEEDS = 1000  # seeds of a sort begin at its place times this


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One picture to enlarge."""

    set: str
    sort: str
    picture: str
    scale: int
    small: Eight
    large: Eight  # what it should become


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--freeze", action="store_true", help="write the file anew, as moesaic.degrade is now")
    options.add_argument("--check", action="store_true", help="make every picture anew and compare")
    asked = options.parse_args(arguments)
    if asked.freeze:
        held = list(_frozen())
        write_frozen(FROZEN, held, force=True)
        print(f"{len(held)} pictures, {FROZEN.stat().st_size:,} bytes")
    if asked.check:
        for name in SETS:
            for path in pictures(name):
                for sort in SEVERITY:
                    _damaged(name, path, sort)
        print("all are as they were frozen")


def cases(name: str, sort: str, scale: int = _SCALE, every: int = 1) -> Iterator[Case]:
    """The pictures of a set in one sort; chains end at x4 only.

    Args:
        name: of `benchmarks.super_resolution.SETS`, or `CAMERA`, whose only sort is "camera".
        sort: of `SORTS`, or "camera".
        scale: to enlarge by.
        every: takes each so many-th picture, from the first.
    """
    if name == CAMERA:
        yield from _camera(scale)
        return
    for path in pictures(name)[::every]:
        if sort == "bicubic":
            large, small = made_small(read(path), scale)
        else:
            large, small = _clean(path), _damaged(name, path, sort)
        yield Case(set=name, sort=sort, picture=path.stem, scale=scale, small=small, large=large)


def steps_of(case: Case) -> tuple[list[dict[str, Any]], float]:
    """What was done to a case of `SORTS` before it shrank for good, and its severity."""
    if case.sort == "bicubic":
        return [], 0.0
    entry = _read()[f"{case.sort}/{case.set}/{case.picture}"]
    return list(entry.params["steps"]), SEVERITY[case.sort]


def _camera(scale: int) -> Iterator[Case]:
    folder = DATA / "real_sr" / "City100_iPhoneX_part"
    for path in sorted(folder.glob("*L.PNG")):
        far, near = read(path), read(path.with_name(path.name.replace("L.", "H.")))
        height, width = (side // scale * scale for side in far.shape[:2])
        small = resized(far[:height, :width], (width // scale, height // scale), "bicubic")
        large = np.ascontiguousarray(near[:height, :width])
        yield Case(set=CAMERA, sort="camera", picture=path.stem, scale=scale, small=small, large=large)


def _clean(path: Path) -> Eight:
    return made_small(read(path), _SCALE)[0]


def _damaged(name: str, path: Path, sort: str) -> Eight:
    """To the byte; refused where it comes out otherwise."""
    return reproduce(_read()[f"{sort}/{name}/{path.stem}"], _clean(path))


def _frozen() -> Iterator[Entry]:
    for number, (sort, severity) in enumerate(SEVERITY.items()):
        every = [(name, path) for name in SETS for path in pictures(name)]
        for place, (name, path) in enumerate(every):
            seed = _SEEDS * number + place
            title = f"{sort}/{name}/{path.stem}"
            yield freeze(title, _clean(path), "wild", seed=seed, severity=severity, family=f"x{_SCALE}")


@lru_cache(maxsize=1)
def _read() -> dict[str, Entry]:
    return {entry.picture: entry for entry in read_frozen(FROZEN)}


if __name__ == "__main__":
    main()
