"""What each part of the fit is worth: the same fits with one part changed at a time, and a table in docs/fitting.md."""

from __future__ import annotations

import re
import statistics
import time
from typing import TYPE_CHECKING, Any

from benchmarks import quality
from benchmarks.fit import pixels, warm_up
from benchmarks.pictures import FOUR, gallery, parser
from benchmarks.record import RESULTS, ROOT, Record, read
from moesaic.mixture import start
from moesaic.mixture.backends.threads import default_threads
from moesaic.mixture.fit import fit
from moesaic.mixture.fitting import FitConfig

if TYPE_CHECKING:
    from pathlib import Path

EXPERTS, STEPS = 10_000, 400
CHANGES: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "no surplus at the start": {"surplus": 1.0},
    "no moves": {"moved": 0.0},
    "neither surplus nor moves": {"surplus": 1.0, "moved": 0.0},
    "moves only where the gain is three times the cost": {"worth": 3.0},
    "log priors fixed at 0": {"rate_prior": 0.0},
    "half the steps of centres and shapes": {"rate_centre": 0.25, "rate_shape": 0.08},
    "one and a half times the steps of centres and shapes": {"rate_centre": 0.75, "rate_shape": 0.24},
    "second-moment decay 0.99": {"decay2": 0.99},
    "no closed-form colours at the end": {"solve": 0},
    "lists renewed at every step, margin 12": {"relist": 1, "margin": 12.0},
    "evenly spread start": {},
}
DOCUMENT = ROOT / "docs" / "fitting.md"


def main(arguments: list[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--steps", type=int, default=STEPS)
    asked = options.parse_args(arguments)
    shown = gallery(asked.pictures)
    threads = asked.threads or default_threads()
    settings = {"pictures": shown.name, "threads": threads, "steps": asked.steps, "experts": EXPERTS, "seed": 0}
    record = Record("ablations", settings=settings, folder=asked.results, resume=asked.resume)
    warm_up(0, threads)
    for source in shown.only(asked.only or FOUR):
        picture = source.read()
        for name, change in CHANGES.items():
            key = f"{source.name}/{name}"
            if record.has("changes", key):
                continue
            usual = start.UNIFORM
            start.UNIFORM = 1.0 if name == "evenly spread start" else usual
            began = time.perf_counter()
            mixture = fit(picture, experts=EXPERTS, steps=asked.steps, threads=threads, config=FitConfig(**change))
            seconds = round(time.perf_counter() - began, 3)
            start.UNIFORM = usual
            row = {"picture": source.name, "change": name, "seconds": seconds}
            record.put("changes", key, row | quality.score(pixels(mixture), picture.pixels))
            print(f"{key}: {record.content['results']['changes'][key]['psnr']:.2f} dB, {seconds:.1f} s", flush=True)
    if asked.results == RESULTS:
        write_table(record.path, DOCUMENT)


def write_table(results: Path, document: Path) -> None:
    """Renew the block between the marks in the document."""
    rows = list(read(results)["results"]["changes"].values())
    names = list(dict.fromkeys(row["change"] for row in rows))
    mean = {name: statistics.fmean(row["psnr"] for row in rows if row["change"] == name) for name in names}
    shipped = mean[names[0]]
    lines = ["| change | mean PSNR, dB | against shipped |", "| --- | ---: | ---: |"]
    lines += [f"| {name} | {mean[name]:.2f} | {mean[name] - shipped:+.2f} |" for name in names]
    block = "<!-- ablations -->\n" + "\n".join(lines) + "\n<!-- end of ablations -->"
    text = document.read_text(encoding="utf-8")
    document.write_text(
        re.sub(r"<!-- ablations -->.*?<!-- end of ablations -->", block, text, flags=re.DOTALL), "utf-8"
    )


if __name__ == "__main__":
    main()
