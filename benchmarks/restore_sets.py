"""The frozen test sets of restoration: CBSD68 in every kind of damage, the same bytes for everyone.

`benchmarks/frozen/restore_cbsd68.json` names each picture, the parameters of its damage, and the hash of the result;
what is read from it is made anew and must match. `--freeze` writes it, `--check` reproduces all of it. The clean
pictures are those of the data folder beside the project, decoded from their JPEG files; none of them was trained on.
Some sets are of ways of damage that training never draws: they say so in `NEVER_DRAWN`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.noise_estimate import CBSD68
from benchmarks.record import ROOT
from moesaic.degrade.frozen import Entry, freeze, read_frozen, reproduce, write_frozen

FROZEN = ROOT / "benchmarks" / "frozen" / "restore_cbsd68.json"
_SEEDS = 1000  # seeds of a set begin at its place times this

Levels = NDArray[np.uint8]  # (H, W, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """One set.

    Args:
        kind: of `moesaic.degrade.KINDS`.
        severity: of all pictures; None: drawn for each, from 0 to 1.
        family: of the kind; None: drawn for each.
        every: takes each so many-th picture of CBSD68, from the first.
        remedies: of `benchmarks.classic`, to hold a network against.
        gain: whether to score after a fit of the exposure, too.
    """

    kind: str
    severity: float | None = None
    family: str | None = None
    every: int = 2
    remedies: tuple[str, ...] = ()
    gain: bool = False


SETS: Mapping[str, Damage] = {
    "noise_25": Damage(kind="noise", severity=0.4, every=1, remedies=("NLM", "blur")),
    "poisson": Damage(kind="poisson", remedies=("NLM", "blur")),
    "rain": Damage(kind="rain", every=1, remedies=("opening", "median")),
    "heavy_rain": Damage(kind="heavy_rain", remedies=("opening", "median")),
    "haze": Damage(kind="haze", every=1, remedies=("dark channel",), gain=True),
    "haze_layers": Damage(kind="haze", family="layers", remedies=("dark channel",), gain=True),
    "snow": Damage(kind="snow", remedies=("opening", "median")),
    "motion_blur": Damage(kind="motion_blur", remedies=("unsharp",)),
    "motion_blur_arc": Damage(kind="motion_blur", family="arc", remedies=("unsharp",)),
    "defocus": Damage(kind="defocus", remedies=("unsharp",)),
    "low_light": Damage(kind="low_light", remedies=("gamma", "CLAHE"), gain=True),
    "jpeg_10": Damage(kind="jpeg", severity=1.0, every=1, remedies=("TV", "blur")),
    "jpeg": Damage(kind="jpeg", remedies=("TV", "blur")),
    "resize": Damage(kind="resize", remedies=("unsharp",)),
    "low_light+noise": Damage(kind="composite", family="low_light+noise", remedies=("gamma", "gamma, NLM"), gain=True),
    "haze+rain": Damage(kind="composite", family="haze+rain", remedies=("opening", "opening, dark channel"), gain=True),
    "motion_blur+noise+jpeg": Damage(kind="composite", family="motion_blur+noise+jpeg", remedies=("strong TV", "blur")),
    "rain+jpeg": Damage(kind="composite", family="rain+jpeg", remedies=("opening", "median")),
    "clean": Damage(kind="noise"),
    "wild": Damage(kind="wild", family="x1", remedies=("TV", "blur")),
    "grain": Damage(kind="grain", remedies=("NLM", "blur")),
}
NEVER_DRAWN = ("haze_layers", "motion_blur_arc", "wild")
"""Sets whose way of damage `moesaic.degrade.batch.DEFAULT_MIX` never draws."""

_NOTHING = {"sigma": 0, "clip": True, "seed": 0}  # noise of no strength, for the set "clean"


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--freeze", action="store_true", help="write the file anew, as moesaic.degrade is now")
    options.add_argument("--check", action="store_true", help="make every picture anew and compare")
    options.add_argument("--file", type=Path, default=FROZEN)
    asked = options.parse_args(arguments)
    if asked.freeze:
        paths = picture_paths()
        held = [frozen(name, place, path) for name in SETS for place, path in _of(name, paths)]
        asked.file.parent.mkdir(parents=True, exist_ok=True)
        write_frozen(asked.file, held, force=True)
        print(f"{len(held)} pictures, {asked.file.stat().st_size:,} bytes")
    if asked.check:
        for entry in read_frozen(asked.file):
            damaged(entry)
        print("all are as they were frozen")


def picture_paths() -> list[Path]:
    """The files of CBSD68, in its order."""
    if not CBSD68.is_file():
        raise SystemExit("CBSD68 is not there: it belongs into the data folder beside the project")
    lines = CBSD68.read_text(encoding="utf-8").splitlines()[1:]
    return [CBSD68.parents[1] / line.split("\t")[1] for line in lines]


def frozen(name: str, place: int, path: Path) -> Entry:
    """A picture of CBSD68, by its place there from 0, damaged once and for all."""
    damage = SETS[name]
    seed = _SEEDS * list(SETS).index(name) + place
    entry = freeze(
        f"{name}/{path.stem}", levels(path), damage.kind, seed=seed, severity=damage.severity, family=damage.family
    )
    if name == "clean":
        entry = replace(entry, params=_NOTHING, sha256=entry.picture_sha256)
    return entry


def entries(name: str, every: int = 1, first: int = 0, file: Path = FROZEN) -> list[Entry]:
    """The pictures of a set whose place in CBSD68, from 0, is `first` and each `every`-th after it.

    Most sets hold every second place only, so an even `every` and an even `first` get the most out of them.
    """
    places = {path.stem: place for place, path in enumerate(picture_paths())}
    mine = [entry for entry in _read(file) if entry.picture.partition("/")[0] == name]
    return [entry for entry in mine if places[stem(entry)] % every == first % every]


def stem(entry: Entry) -> str:
    """The name of the clean picture."""
    return entry.picture.partition("/")[2]


def clean(entry: Entry) -> Levels:
    """The clean picture of an entry."""
    return levels(CBSD68.parents[1] / "bsds500" / "val" / f"{stem(entry)}.jpg")


def damaged(entry: Entry) -> Levels:
    """The damaged picture of an entry, to the byte; refused where it comes out otherwise."""
    return reproduce(entry, clean(entry))


def sigma(entry: Entry) -> float | None:
    """The level of the noise that was added last, on the scale of 255, for those who are told; None where none was."""
    return float(entry.params["sigma"]) if entry.kind == "noise" else None


def levels(path: Path) -> Levels:
    """A picture file as (H, W, 3) in uint8."""
    from moesaic import read_picture

    return np.round(read_picture(path).pixels * 255).astype(np.uint8)


def _of(name: str, paths: list[Path]) -> list[tuple[int, Path]]:
    return list(enumerate(paths))[:: SETS[name].every]


@lru_cache(maxsize=4)
def _read(file: Path) -> tuple[Entry, ...]:
    return tuple(read_frozen(file))


if __name__ == "__main__":
    main()
