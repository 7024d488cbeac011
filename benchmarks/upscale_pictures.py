"""The pictures of docs/upscaling.md: crops as three ways enlarge them, and what they were made small from.

Each strip is bicubic, `moesaic enlarge`, `moesaic upscale`, and the clean picture, from left to right. All are Kodak
pictures, which are free for any use, made small as the frozen test sets are. The sheet is what `--explain` draws.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from benchmarks.record import ROOT
from benchmarks.restore_pictures import SIDE, write
from benchmarks.super_resolution import Eight, eight_bits, resized, score
from benchmarks.upscale import ours
from benchmarks.upscale_sets import Case, cases


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """One row.

    Args:
        caption: of the page.
        picture: number in the Kodak set.
        sort: of `benchmarks.upscale_sets.SORTS`.
        left: of the crop, px of the large picture.
        top: of the crop, px of the large picture.
    """

    caption: str
    picture: int
    sort: str
    left: int
    top: int

    def case(self) -> Case:
        """The small picture and what it should become."""
        name = f"kodim{self.picture:02d}"
        return next(case for case in cases("Kodak", self.sort) if case.picture == name)


STRIPS = {
    "bicubic": Strip(caption="A clean shrink, x4", picture=19, sort="bicubic", left=250, top=230),
    "mild": Strip(caption="Mild damage, x4", picture=23, sort="mild", left=95, top=110),
    "medium": Strip(caption="Medium damage, x4", picture=5, sort="medium", left=260, top=160),
    "severe": Strip(caption="Severe damage, x4", picture=4, sort="severe", left=140, top=230),
}
"""By name, which is that of the file, too."""

SHEET = ("upscale_explained.png", "severe")  # the file, and the strip whose picture is explained


DIFFUSION = "upscale_diffusion.jpg"  # the file of what `benchmarks.upscale_diffusion` draws


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--model", default="compact_upscale", help="a name, or a weights file")
    options.add_argument("--strips", metavar="NAMES", help="some of them, with commas between")
    options.add_argument("--docs", type=Path, default=ROOT / "docs", metavar="DIR")
    asked = options.parse_args(arguments)
    folder = asked.docs / "images"
    for name in asked.strips.split(",") if asked.strips else STRIPS:
        strip = STRIPS[name]
        case = strip.case()
        upscaled = ours(case, asked.model)
        shown = {"bicubic": _bicubic(case), "enlarge": _enlarged(case), "upscale": eight_bits(upscaled.picture.pixels)}
        path = folder / f"upscale_{name}.jpg"
        write(path, [crop(one, strip) for one in (*shown.values(), case.large)])
        told = ", ".join(
            f"{method} {score(one, case.large, case.scale)['psnr_y']:.2f}" for method, one in shown.items()
        )
        print(f"{strip.caption}: {told} dB, {path.name}", flush=True)
        if name == SHEET[1]:
            sheet = Image.fromarray(eight_bits(upscaled.routing_picture().pixels))
            sheet.save(folder / SHEET[0], optimize=True)


def crop(picture: Eight, strip: Strip) -> Eight:
    """`SIDE` px of a picture."""
    return picture[strip.top : strip.top + SIDE, strip.left : strip.left + SIDE]


def _bicubic(case: Case) -> Eight:
    height, width = case.large.shape[:2]
    return resized(case.small, (width, height), "bicubic")


def _enlarged(case: Case) -> Eight:
    from moesaic import enlarge

    return eight_bits(enlarge(case.small, scale=case.scale).pixels)


if __name__ == "__main__":
    main()
