"""Restoration measured: noise by the protocol of denoisers, frozen damage of every kind, and real pairs.

Everything is scored on 8-bit arrays. Synthetic noise is `default_rng(place of the picture in its set)` as in
`benchmarks.denoise`: unclipped, or clipped and rounded to 8 bits. Classic remedies are those of `benchmarks.classic`;
NLM is told sigma where noise was added last, the network is never told anything. What is scored further: PSNR after a
global fit of the exposure ("gain"), and after the best shift by whole pixels ("shift"), for every method alike.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import restore_sets
from benchmarks.classic import REMEDIES, best_shift, gain_fitted
from benchmarks.denoise import REAL
from benchmarks.noise_estimate import sets, with_noise
from benchmarks.record import Record, Row
from benchmarks.restore_network import Pixels, identity, parser, restored, workers
from benchmarks.restore_scores import OURS, psnr, score, summary
from moesaic import read_picture
from moesaic.degrade.frozen import Entry

SIGMAS = (25, 50, 15)
NOISES = ("unclipped", "clipped")
PARTS = ("noise", "frozen", "real")
EVERY = {"noise": 1, "frozen": 1, "real": 1}  # pictures, where --only says nothing
EVERY_REAL = {"PolyU": 5}
SHIFT = 5  # px
RIM = 16  # px that are not scored of pictures blurred by a camera: about half of the largest kernel
DATA = REAL.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One picture to restore.

    Args:
        picture: its name in the set.
        read: damaged and clean, (H, W, 3) each.
        sigma: of its noise, for who may be told.
        remedies: what else is tried.
        gain: score after a fit of the exposure, too.
        shift: score after the best shift, too, and all of it without `RIM` px at each side.
        grey: the picture has one channel, thrice; what networks make of it is averaged.
    """

    picture: str
    read: Callable[[], tuple[Pixels, Pixels]]
    sigma: float | None = None
    remedies: tuple[str, ...] = ()
    gain: bool = False
    shift: bool = False
    grey: bool = False


def main(arguments: list[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--parts", default=",".join(PARTS), metavar=",".join(PARTS))
    options.add_argument("--sets", metavar="NAMES", help="frozen and real sets by name, with commas between them")
    asked = options.parse_args(arguments)
    parts = asked.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        raise SystemExit(f"--parts are {', '.join(PARTS)}, not {', '.join(sorted(unknown))}")
    every = {part: asked.only or EVERY[part] for part in PARTS}
    settings = {"model": identity(asked.model), "every": every, "every_real": EVERY_REAL}
    record = Record("restore", settings=settings, folder=asked.results, resume=asked.resume)
    with workers(asked.workers, asked.model) as spread:
        for section, key, cases in conditions(parts, every, asked.sets.split(",") if asked.sets else None):
            if record.has(section, key) or not cases:
                continue
            row = summary(spread(functools.partial(measured, asked.model), cases))
            record.put(section, key, {"set": key} | row)
            told = ", ".join(f"{name} {found['psnr']:.2f}" for name, found in row["methods"].items())
            print(f"{section} {key} ({len(cases)}): {told}", flush=True)


def conditions(
    parts: list[str], every: dict[str, int], names: list[str] | None = None
) -> Iterator[tuple[str, str, list[Case]]]:
    """Section, key and pictures of each row."""
    if "noise" in parts:
        for name, sources in sets():
            for noise in NOISES:
                for sigma in SIGMAS:
                    read = functools.partial(noisy, sigma=sigma, clipped=noise == "clipped")
                    cases = [
                        Case(
                            picture=str(number),
                            read=functools.partial(read, source.path, number - 1),
                            sigma=sigma,
                            remedies=("NLM",),
                        )
                        for number, source in enumerate(sources, start=1)
                        if (number - 1) % every["noise"] == 0 and source.path is not None
                    ]
                    yield "noise", f"{name}/{noise}/{sigma}", cases
    if "frozen" in parts:
        for name, damage in restore_sets.SETS.items():
            if names is None or name in names:
                entries = restore_sets.entries(name, every["frozen"])
                yield "frozen", name, [from_entry(entry, damage) for entry in entries]
    if "real" in parts and DATA.is_dir():
        for name, cases in real().items():
            if names is None or name in names:
                yield "real", name, cases[:: EVERY_REAL.get(name, 1)][:: every["real"]]


def measured(model: str, case: Case) -> Row:
    """One picture as it is, restored, and after each classic remedy."""
    damaged, clean = case.read()
    results = {"input": damaged, OURS: restored(model, damaged)}
    results |= {name: REMEDIES[name](damaged, case.sigma) for name in case.remedies}
    if case.grey:
        results = {name: pixels.mean(axis=2, keepdims=True) for name, pixels in results.items()}
        clean = clean[..., :1]
    return {"picture": case.picture, "results": {name: _scores(case, one, clean) for name, one in results.items()}}


def _scores(case: Case, pixels: np.ndarray, clean: np.ndarray) -> Row:
    inner = (slice(RIM, -RIM), slice(RIM, -RIM)) if case.shift else (slice(None), slice(None))
    found = score(pixels[inner], clean[inner])
    if case.gain:
        found["gain"] = psnr(gain_fitted(pixels, clean), clean)
    if case.shift:
        wide = (slice(RIM - SHIFT, SHIFT - RIM), slice(RIM - SHIFT, SHIFT - RIM))
        found["shift"] = psnr(*best_shift(pixels[wide], clean[wide], SHIFT))
    return found


def noisy(path: Path, seed: int, *, sigma: float, clipped: bool) -> tuple[Pixels, Pixels]:
    """A clean picture with white noise, and as it was."""
    clean = read_picture(path).pixels
    return with_noise(clean, sigma, seed, clipped=clipped), clean


def from_entry(entry: Entry, damage: restore_sets.Damage) -> Case:
    """A picture of a frozen set."""
    return Case(
        picture=restore_sets.stem(entry),
        read=functools.partial(thawed, entry),
        sigma=restore_sets.sigma(entry),
        remedies=damage.remedies,
        gain=damage.gain,
    )


def thawed(entry: Entry) -> tuple[Pixels, Pixels]:
    """The damaged picture of an entry and the clean one, as floats."""
    damaged, clean = restore_sets.damaged(entry), restore_sets.clean(entry)
    return (damaged / np.float32(255)).astype(np.float32), (clean / np.float32(255)).astype(np.float32)


def real() -> dict[str, list[Case]]:
    """Damaged photographs, and how they should look; what was rendered onto photographs by others, too."""
    found = {}
    for name, folder, end in (("PolyU", "polyu_cropped", "JPG"), ("CC15", "cc15_part", "png")):
        paths = sorted((REAL / folder).glob(f"*real.{end}"))
        pairs = [(path, path.with_name(path.name.replace(f"real.{end}", f"mean.{end}"))) for path in paths]
        found[name] = _pairs(pairs, remedies=("NLM", "blur"))
    for name in ("rain100h_part", "didn_part"):
        paths = sorted((DATA / "rain" / name / "rain").glob("*.png"))
        found[name] = _pairs([(p, p.parents[1] / "clean" / p.name) for p in paths], remedies=("opening", "median"))
    for level in (2, 9):
        paths = sorted((DATA / "haze" / "sots_indoor_part" / "hazy").glob(f"*_{level}.png"))
        pairs = [(p, p.parents[1] / "gt" / f"{p.stem.partition('_')[0]}.png") for p in paths]
        found[f"SOTS indoor, level {level}"] = _pairs(pairs, remedies=("dark channel",), gain=True)
    paths = sorted((DATA / "lowlight" / "sice_pairs" / "low").iterdir())
    pairs = [(path, path.parents[1] / "ref" / path.name) for path in paths]
    found["SICE pairs"] = _pairs(pairs, remedies=("gamma", "CLAHE"), gain=True)
    paths = sorted((DATA / "blur" / "levin" / "blurred").glob("*.png"))
    pairs = [(path, path.parents[1] / "gt" / f"{path.stem.partition('_')[0]}.png") for path in paths]
    found["Levin"] = _pairs(pairs, remedies=("unsharp",), shift=True, grey=True)
    return {name: cases for name, cases in found.items() if cases}


def _pairs(
    pairs: list[tuple[Path, Path]],
    *,
    remedies: tuple[str, ...],
    gain: bool = False,
    shift: bool = False,
    grey: bool = False,
) -> list[Case]:
    return [
        Case(
            picture=damaged.stem,
            read=functools.partial(both, damaged, clean),
            remedies=remedies,
            gain=gain,
            shift=shift,
            grey=grey,
        )
        for damaged, clean in pairs
    ]


def both(damaged: Path, clean: Path) -> tuple[Pixels, Pixels]:
    """Two files as RGB; grey ones have their channel thrice."""
    return coloured(read_picture(damaged).pixels), coloured(read_picture(clean).pixels)


def coloured(pixels: Pixels) -> Pixels:
    """Three channels, of one, three or four."""
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels[..., :3]


if __name__ == "__main__":
    main()
