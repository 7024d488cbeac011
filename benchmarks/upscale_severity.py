"""What --severity does: which ranks act at a severity set by hand, where it helps, and what JPEG alone is taken for.

The pictures are those of the record `upscale` that are farthest below bicubic, as they are estimated and with every
rank on; and Kodak pictures from clean shrinks that went through JPEG alone.
"""

from __future__ import annotations

import argparse
import io
import statistics
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.record import RESULTS, Record, Row, read, rows
from benchmarks.super_resolution import Eight, eight_bits, psnr_y, resized
from benchmarks.upscale import identity, network
from benchmarks.upscale_sets import cases
from moesaic.upscale.estimators import make_estimator
from moesaic.upscale.use import ranks_used, upscale

SEVERITIES = (0.0, 0.1, 0.2, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.8, 1.0)
QUALITIES = (20, 30, 40, 50, 60, 70, 80, 90)
WORST = 4  # pictures
EVERY = 4  # Kodak pictures, for JPEG


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--model", default="compact_upscale", help="a name, or a weights file")
    options.add_argument("--results", type=Path, metavar="DIR", default=RESULTS, help="where the JSON goes")
    asked = options.parse_args(arguments)
    record = Record("upscale_severity", settings={"model": identity(asked.model)}, folder=asked.results)
    estimator, found = make_estimator(), network(asked.model)
    for severity in SEVERITIES:
        active = sum(used.active for used in ranks_used(found, estimator.at(severity)).values())
        record.put("by_hand", f"{severity:g}", {"severity": severity, "ranks": active})
    for row in worst():
        case = next(one for one in cases(row["set"], row["sort"]) if one.picture == row["picture"])
        told = {"bicubic": row["methods"]["bicubic"]["psnr_y"]}
        for name, severity in (("estimated", None), ("severity 1", 1.0)):
            made = upscale(case.small, case.scale, found, severity=severity)
            told[name] = psnr_y(eight_bits(made.picture.pixels), case.large, case.scale)
        key = f"{row['set']}/{row['sort']}/{row['picture']}"
        record.put("worst", key, {"picture": key, "psnr_y": told})
        print(key, told, flush=True)
    held = list(cases("Kodak", "bicubic", every=EVERY))
    for quality in QUALITIES:
        scores: dict[str, list[float]] = {"bicubic": [], "estimated": [], "severity 0": [], "severity 1": []}
        ranks = []
        for case in held:
            small = through_jpeg(case.small, quality)
            height, width = case.large.shape[:2]
            scores["bicubic"].append(psnr_y(resized(small, (width, height), "bicubic"), case.large, case.scale))
            for name, severity in (("estimated", None), ("severity 0", 0.0), ("severity 1", 1.0)):
                made = upscale(small, case.scale, found, severity=severity)
                scores[name].append(psnr_y(eight_bits(made.picture.pixels), case.large, case.scale))
                if severity is None:
                    ranks.append(sum(used.active for used in made.ranks.values()))
        means = {name: round(statistics.fmean(values), 3) for name, values in scores.items()}
        row = {"quality": quality, "pictures": len(held), "psnr_y": means, "ranks": round(statistics.fmean(ranks), 1)}
        record.put("jpeg", str(quality), row)
        print(quality, row, flush=True)


def worst() -> list[Row]:
    """The pictures of the record `upscale` that lose the most against bicubic, of those that were damaged."""
    every = [row for row in rows(read(RESULTS / "upscale.json"), "pictures") if row["scale"] == 4]
    damaged = [row for row in every if row["sort"] in ("mild", "medium", "severe")]

    def gain(row: Row) -> float:
        return float(row["methods"]["moesaic"]["psnr_y"] - row["methods"]["bicubic"]["psnr_y"])

    return sorted(damaged, key=gain)[:WORST]


def through_jpeg(picture: Eight, quality: int) -> Eight:
    """Written as JPEG and read again."""
    held = io.BytesIO()
    Image.fromarray(picture).save(held, "JPEG", quality=quality)
    with Image.open(held) as image:
        return np.asarray(image.convert("RGB"))


if __name__ == "__main__":
    main()
