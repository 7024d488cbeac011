"""What was promised, and what the records show of it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.rates import lead_at, mean_at, rate_for
from benchmarks.record import Row, rows

Curves = dict[str, tuple[list[float], list[float]]]  # by picture: bpp, values


@dataclass(frozen=True, kw_only=True)
class Floor:
    """One promise. Without a figure it was not measured."""

    what: str
    asked: float
    reached: float | None
    at_most: bool = False  # the figure must not exceed what is asked; else it must not stay below
    unit: str = ""
    on: str = ""  # what the figure is a mean or the worst of
    aim: bool = False  # hoped for, not promised

    @property
    def met(self) -> bool | None:
        """Whether the promise is kept; None if not measured."""
        if self.reached is None or math.isnan(self.reached):
            return None
        return self.reached <= self.asked if self.at_most else self.reached >= self.asked


def curves(record: Row | None, value: str = "psnr") -> dict[str, Curves]:
    """By codec, the rate-distortion curves of a record."""
    found: dict[str, Curves] = {}
    for row in rows(record, "curves"):
        files = row["files"]
        found.setdefault(row["codec"], {})[row["picture"]] = ([f["bpp"] for f in files], [f[value] for f in files])
    return found


def speed_rows(record: Row | None, experts: int, threads: int | None = 2) -> list[Row]:
    """Rows of the render benchmark with so many experts, on two threads if there are such."""
    found = [row for row in rows(record, "speed") if row["experts"] == experts]
    counts = {row["threads"] for row in found}
    chosen = threads if threads in counts else max(counts, default=0)
    return [row for row in found if row["threads"] == chosen]


def right(row: Row) -> list[Row]:
    """The plain renderers of a row that draw the mixture's picture."""
    return [rival for rival in row["rivals"] if rival["error"] <= row["same_picture"]]


def ratio(row: Row, what: str, rivals: Sequence[Row]) -> float:
    """How many times as long as moesaic the fastest of some plain renderers takes."""
    times = [rival[what]["median_ms"] for rival in rivals]
    return float(min(times) / row["moesaic"][what]["median_ms"]) if times else math.nan


def all_floors(records: Mapping[str, Row | None]) -> list[Floor]:
    """Every promise with its figure."""
    return [*_render(records.get("render")), *_fit(records.get("fit")), *_file(records.get("rate_distortion"))]


def _over(values: list[float], pick: Callable[[list[float]], float]) -> float | None:
    return pick(values) if values else None


def _pictures(count: int) -> str:
    return f"{count} picture" + ("s" if count != 1 else "")


def _render(record: Row | None) -> list[Floor]:
    found = speed_rows(record, 10_000)
    on = f"median of {_pictures(len(found))}, {found[0]['threads']} threads" if found else ""
    made = []
    for what, words, most in (("render", "render", 8.0), ("gradient", "render + gradient", 25.0)):
        reached = _over([r["moesaic"][what]["median_ms"] for r in found], statistics.median)
        what_is_asked = f"{words}, 768x512, 10,000 kernels"
        made.append(Floor(what=what_is_asked, asked=most, reached=reached, at_most=True, unit="ms", on=on))
    for what, words in (("render", "render"), ("gradient", "render + gradient")):
        for kind, choose in (("exact lists", right), ("any form", lambda row: row["rivals"])):
            reached = _over([ratio(r, what, choose(r)) for r in found], statistics.median)
            made.append(
                Floor(
                    what=f"{words}, times as fast as plain torch ({kind})", asked=15.0, reached=reached, unit="x", on=on
                )
            )
    every = rows(record, "speed")
    worst = _over([r["moesaic"]["error"] for r in every], max)
    made.append(
        Floor(what="picture against the float64 reference", asked=1e-4, reached=worst, at_most=True, on="worst")
    )
    worst = _over([max(r["moesaic"]["gradient_error"].values()) for r in every], max)
    made.append(Floor(what="gradients against it, relative norm", asked=1e-3, reached=worst, at_most=True, on="worst"))
    return made


def _fit(record: Row | None) -> list[Floor]:
    made = []
    for experts, decibels, seconds, aim in ((10_000, 34.8, 12.0, 36.0), (2_000, 28.5, 6.0, None)):
        found = [row for row in rows(record, "pictures") if row["experts"] == experts]
        on = f"mean of {_pictures(len(found))}" if found else ""
        mean = _over([r["psnr"] for r in found], statistics.fmean)
        words = f"fit, {experts:,} kernels"
        made.append(Floor(what=f"{words}: PSNR", asked=decibels, reached=mean, unit="dB", on=on))
        if aim:
            made.append(Floor(what=f"{words}: PSNR", asked=aim, reached=mean, unit="dB", on=on, aim=True))
        longest = _over([r["seconds"] for r in found], max)
        made.append(
            Floor(
                what=f"{words}: longest",
                asked=seconds,
                reached=longest,
                at_most=True,
                unit="s",
                on=on.replace("mean", "worst"),
            )
        )
    large = [row for row in rows(record, "large") if row["peak_mib"] is not None]
    peak = _over([r["peak_mib"] / 1024 for r in large], max)
    made.append(
        Floor(what="fit of 2048x1365, 50,000 kernels: memory", asked=2.0, reached=peak, at_most=True, unit="GiB")
    )
    return made


def _file(record: Row | None) -> list[Floor]:
    made = []
    close = rows(record, "file")
    on = f"mean of {_pictures(len(close))}" if close else ""
    for words, field, most, unit in (
        ("bits a kernel, 10,000 kernels", "bits_per_kernel", 40.0, "bit"),
        ("loss by quantisation, 10,000 kernels", "loss", 0.2, "dB"),
    ):
        reached = _over([r[field] for r in close], statistics.fmean)
        made.append(Floor(what=words, asked=most, reached=reached, at_most=True, unit=unit, on=on))
    slowest = _over([r["decode_ms"] / 1e3 for r in close], max)
    made.append(
        Floor(
            what="decode, 768x512, 10,000 kernels, warm", asked=0.1, reached=slowest, at_most=True, unit="s", on="worst"
        )
    )
    hits = [row for row in rows(record, "targets") if "miss" in row]
    for kind, words, most, unit in (("bpp", "--bpp", 3.0, "%"), ("psnr", "--psnr", 0.1, "dB")):
        found = [row for row in hits if row["kind"] == kind]
        factor = 100.0 if kind == "bpp" else 1.0
        worst = _over([abs(r["miss"]) * factor for r in found], max)
        on = f"worst of {len(found)}" if found else ""
        made.append(
            Floor(what=f"target of {words} missed by", asked=most, reached=worst, at_most=True, unit=unit, on=on)
        )
    both = curves(record)
    ours, jpeg = both.get("moesaic", {}), both.get("JPEG", {})
    for rate, least in ((0.2, 25.7), (0.5, 29.8), (1.0, 33.1)):
        made.append(_at(ours, rate, least, "JPEG's expected mean"))
    for rate in (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0) if ours and jpeg else (1.0,):
        lead = lead_at(ours, jpeg, rate)
        made.append(
            Floor(
                what=f"lead over JPEG at {rate:g} bpp, same run",
                asked=0.0,
                reached=lead.value if lead.count else None,
                unit="dB",
                on=f"mean of {_pictures(lead.count)}" if lead.count else "",
            )
        )
    rate = rate_for(ours, 30.5)
    on = f"mean curve of {_pictures(len(ours))}" if ours else ""
    reached = None if math.isnan(rate) else rate
    made.append(Floor(what="rate of 30.5 dB", asked=0.6, reached=reached, at_most=True, unit="bpp", on=on))
    made.append(_at(ours, 0.5, 31.0, "JPEG XL's expected mean", aim=True))
    made.append(_at(ours, 0.2, 28.5, "WebP's expected mean", aim=True))
    return made


def _at(ours: Curves, rate: float, least: float, words: str, aim: bool = False) -> Floor:
    mean = mean_at(ours, rate)
    return Floor(
        what=f"PSNR at {rate:g} bpp ({words})",
        asked=least,
        reached=mean.value if mean.count else None,
        unit="dB",
        on=f"mean of {_pictures(mean.count)}" if mean.count else "",
        aim=aim,
    )


def file_near(row: Row, rate: float) -> Row:
    """The file of a curve whose rate is nearest, in log(bpp)."""
    nearest: Row = min(row["files"], key=lambda f: abs(math.log(f["bpp"] / rate)))
    return nearest
