"""Speed, exactness and memory of the GPU backend on one CUDA device, beside compiled plain torch and the two ceilings.

All parts in one call take less than eight minutes. Kernel times are those of graph replays, so that launches cost what
they must; calls as a user makes them are timed too, by the wall clock.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks import gpu_work, quality
from benchmarks.pictures import Source, gallery, numbers, parser
from benchmarks.record import RESULTS, Record

if TYPE_CHECKING:
    from moesaic.mixture.fit_gpu import Batch
    from moesaic.mixture.model import Mixture

PARTS = ("ceilings", "exactness", "render", "step", "fit", "batch", "large")
EXPERTS = 10_000
LARGE = (7680, 4320)  # px
LARGE_EXPERTS = 500_000
MEMORY = 16  # GiB that a large fit may hold
FORMS = (("direct", 1), ("direct", 4), ("matrix", 4))  # of the rival: arithmetic, and groups of tiles
TARGETS = {
    "render": "at least 5,000 frames/s",
    "step": "at least 5 times faster than compiled plain torch",
    "fit": "the CPU's quality in at most 1 s",
    "batch": "24 pictures in less than 5 s",
    "large": f"fitted and drawn within {MEMORY} GiB",
}


def main(arguments: list[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--parts", default=",".join(PARTS), metavar=",".join(PARTS))
    options.add_argument("--experts", type=int, default=EXPERTS)
    options.add_argument("--steps", type=int, default=None, help="of the fits; the default of fit")
    options.add_argument("--large", type=numbers, default=(*LARGE, LARGE_EXPERTS), metavar="7680,4320,500000")
    asked = options.parse_args(arguments)
    parts = asked.parts.split(",")
    if not set(parts) <= set(PARTS):
        raise SystemExit(f"--parts takes {', '.join(PARTS)}")
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device here: this benchmark measures one, and nothing it could write would mean it")
    from moesaic.mixture.render import gpu_problem

    if problem := gpu_problem():
        raise SystemExit(f"the gpu backend cannot run here: {problem}")
    device = torch.device("cuda")
    shown = gallery(asked.pictures)
    settings = {
        "pictures": shown.name,
        "experts": asked.experts,
        "steps": asked.steps,
        "device": torch.cuda.get_device_name(device),
        "cuda": torch.version.cuda or "none",
        "triton": __import__("triton").__version__,
        "targets": TARGETS,
    }
    record = Record("gpu", settings=settings, folder=asked.results, resume=asked.resume)
    sources = shown.only(asked.only)
    work = Work(record, device, sources, asked.experts, asked.steps)
    work.warm_up()
    for part in parts:
        began = time.perf_counter()
        work.large(*asked.large) if part == "large" else getattr(work, part)()
        print(f"-- {part}: {time.perf_counter() - began:.1f} s", flush=True)


def planes(source: Source) -> np.ndarray:  # (3, H, W)
    """A picture as fits take it."""
    return np.ascontiguousarray(source.read().pixels[..., :3].transpose(2, 0, 1), dtype=np.float32)


def mosaic(pictures: list[np.ndarray], width: int, height: int) -> np.ndarray:  # (3, height, width)
    """A large picture put together from small ones, row by row, cut off at the edges."""
    made = np.empty((3, height, width), np.float32)
    tall, wide = (max(p.shape[a] for p in pictures) for a in (1, 2))
    for place, (y, x) in enumerate((y, x) for y in range(0, height, tall) for x in range(0, width, wide)):
        picture = pictures[place % len(pictures)]
        high, broad = min(tall, height - y), min(wide, width - x)
        times = (1, -(-high // picture.shape[1]), -(-broad // picture.shape[2]))
        made[:, y : y + high, x : x + broad] = np.tile(picture, times)[:, :high, :broad]
    return made


def batch(targets: list[np.ndarray], experts: int, device: torch.device) -> Batch:
    """A fit of some pictures, as `fit` and `fit_many` start it."""
    from moesaic.mixture.fit_gpu import Batch
    from moesaic.mixture.fitting import FitConfig

    return Batch(targets, [experts] * len(targets), 0, 0, FitConfig(), device)


class Drawn:
    """A mixture on the device in the form that the backend takes, and its exact lists."""

    def __init__(self, mixture: Mixture) -> None:
        from moesaic.mixture.backends import gpu
        from moesaic.mixture.backends.cover import exact_margin
        from moesaic.mixture.backends.gpu_canvas import canvas

        self.mixture = mixture
        geometry = torch.cat([mixture.factors, mixture.log_priors[:, None]], 1).contiguous()
        self.kernels = gpu.Kernels(mixture.centres.double(), geometry, mixture.colours.contiguous(), 3, 0)
        self.sheet = canvas(((mixture.width, mixture.height),), (len(mixture),), mixture.device)
        self.margin = exact_margin(len(mixture))
        self.lists = gpu.list_exactly(self.sheet, self.kernels, self.margin)
        self.pairs = int(self.lists.start[-1])

    def draw(self) -> torch.Tensor:
        """The picture (C * pixels,) by these lists."""
        from moesaic.mixture.backends import gpu

        return gpu.draw(self.sheet, self.kernels, self.lists)[0]

    def list_and_draw(self) -> torch.Tensor:
        """The picture, its lists made anew in the room that is there."""
        from moesaic.mixture.backends import gpu
        from moesaic.mixture.backends.gpu_lists import list_kernels

        k = self.kernels
        lists = list_kernels(self.sheet, k.centres, k.geometry, self.margin, self.lists.room)
        return gpu.draw(self.sheet, k, lists)[0]


def exactness(mixture: Mixture, target: np.ndarray, *, many: int = 1500, few: int = 200) -> dict[str, Any]:
    """Differences from the float64 reference at some pixels, and of the gradient of a loss on fewer of them."""
    from moesaic.mixture import reference
    from moesaic.mixture.render import render

    random = np.random.default_rng(0)
    pixels = mixture.width * mixture.height
    chosen = torch.from_numpy(random.choice(pixels, min(many, pixels), replace=False)).to(mixture.device)
    x, y = chosen % mixture.width, chosen // mixture.width
    points = torch.stack([x + 0.5, y + 0.5], 1).double()
    exact = mixture.detach().to(dtype=torch.float64)
    with torch.no_grad():
        values = torch.cat([reference.evaluate(exact, part) for part in points.split(250)])
    single = mixture.detach()._map(lambda t: t.clone().requires_grad_())
    picture = render(single, backend="gpu")
    aims = torch.from_numpy(target).to(mixture.device)[:, y[:few], x[:few]]
    found = torch.autograd.grad(((picture[:, y[:few], x[:few]] - aims) ** 2).sum(), list(single._tensors().values()))
    leaves = exact._map(lambda t: t.clone().requires_grad_())
    loss = ((reference.evaluate(leaves, points[:few]).T - aims.double()) ** 2).sum()
    true = torch.autograd.grad(loss, list(leaves._tensors().values()))
    again = render(single, backend="gpu")
    row: dict[str, Any] = {
        "picture": float(f"{float((picture.detach()[:, y, x].T.double() - values).abs().max()):.2e}"),
        "same_bytes_again": bool(torch.equal(picture, again)),
    }
    for name, one, other in zip(single._tensors(), found, true, strict=True):
        row[name] = float(f"{float((one.double() - other).norm() / other.norm()):.2e}")
    return row


class Work:
    """The parts of the benchmark, which share a fitted picture and the ceilings."""

    def __init__(
        self, record: Record, device: torch.device, sources: tuple[Source, ...], experts: int, steps: int | None
    ) -> None:
        from moesaic.mixture.fit import STEPS

        self.record, self.device, self.sources = record, device, sources
        self.experts, self.steps = experts, steps or STEPS
        self.first = planes(sources[0])
        self.turns = 50
        self.copied, self.chained = 4.0, 2000  # GiB copied, and times that a chain is run, for the ceilings
        self._mixture: Mixture | None = None
        self._limits: dict[str, float] = {}

    @property
    def mixture(self) -> Mixture:
        """A fit of the first picture."""
        if self._mixture is None:
            (self._mixture,) = batch([self.first], self.experts, self.device).fit(steps=self.steps, seconds=None)
        return self._mixture

    @property
    def limits(self) -> dict[str, float]:
        """What the device can do, measured in this run."""
        from benchmarks import gpu_ceilings

        if not self._limits:
            self._limits = gpu_ceilings.ceilings(self.device, gibibytes=self.copied, times=self.chained)
        return self._limits

    def put(self, section: str, key: str, row: dict[str, Any]) -> None:
        """Record a row and show it."""
        self.record.put(section, key, row)
        print(f"{section}: {key}: {json.dumps(row)}", flush=True)

    def warm_up(self) -> None:
        """Compile everything that fits and draws."""
        noise = np.random.default_rng(0).random((3, 96, 96), dtype=np.float32)
        batch([noise], 150, self.device).fit(steps=120, seconds=None)

    def wall(self, call: Callable[[], Any]) -> tuple[float, Any]:
        """Seconds of a call, and what it gave."""
        wait(self.device)
        began = time.perf_counter()
        result = call()
        wait(self.device)
        return time.perf_counter() - began, result

    def ceilings(self) -> None:
        """Bandwidth and arithmetic."""
        self.put("ceilings", "device", dict(self.limits))

    def exactness(self) -> None:
        """Held against the reference in float64."""
        self.put("exactness", self.sources[0].name, exactness(self.mixture, self.first))

    def render(self) -> None:
        """Frames a second: with lists that are there, with lists made anew, and as a user calls it."""
        from benchmarks import gpu_ceilings
        from moesaic.mixture.render import render

        drawn = Drawn(self.mixture)
        times = {
            "draw": gpu_ceilings.replayed(drawn.draw, self.device, turns=self.turns),
            "list_and_draw": gpu_ceilings.replayed(drawn.list_and_draw, self.device, turns=self.turns),
            "call": 1e3 * min(self.wall(lambda: render(self.mixture, backend="gpu"))[0] for _ in range(self.turns)),
        }
        work = gpu_work.frame(drawn.pairs, drawn.sheet.pixels)
        row = {"experts": len(self.mixture), "pairs": drawn.pairs, **work}
        row |= {f"{name}_ms": round(ms, 5) for name, ms in times.items()}
        row |= {f"{name}_frames_per_s": round(1e3 / ms, 1) for name, ms in times.items()}
        self.put("render", self.sources[0].name, row | gpu_work.shares(work, times["draw"], self.limits))

    def step(self) -> None:
        """One step of a fit, its lists given, beside the same by compiled plain torch."""
        from benchmarks import gpu_ceilings
        from moesaic.mixture.backends import gpu, gpu_gather

        made = batch([self.first], self.experts, self.device)
        made._begin([self.experts])
        mixture = self.mixture
        for into, values in zip(
            (made.state.centres, made.state.geometry, made.state.experts),
            (mixture.centres, torch.cat([mixture.factors, mixture.log_priors[:, None]], 1), mixture.colours),
            strict=True,
        ):
            into[: len(values)] = values
        made._pace(1e-6)
        made._make_room(gpu.list_exactly(made.sheet, made._kernels(), made.config.margin).needed.tolist())
        lists = made._list()
        pairs = gpu_gather.by_kernel(lists, len(made.state.centres))
        ours = gpu_ceilings.replayed(lambda: made._step(lists, pairs), self.device, turns=self.turns)
        listing = gpu_ceilings.replayed(
            lambda: gpu_gather.by_kernel(made._list(), self.experts), self.device, turns=self.turns
        )
        count = int(lists.start[-1])
        work = gpu_work.step(count, made.sheet.pixels, self.experts)
        row = {
            "experts": self.experts,
            "pairs": count,
            **work,
            "step_ms": round(ours, 5),
            "lists_ms": round(listing, 5),
        }
        row |= gpu_work.shares(work, ours, self.limits)
        row["rivals"] = rivals = self.rivals(lists)
        row["times_faster"] = round(min(r["step_ms"] for r in rivals if r["step_ms"]) / ours, 2)
        self.put("step", self.sources[0].name, row)

    def rivals(self, lists: Any) -> list[dict[str, Any]]:
        """Plain torch in its forms, compiled, and captured as a graph as ours is."""
        from benchmarks import gpu_ceilings, gpu_plain

        torch._dynamo.config.cache_size_limit = 64
        mixture = self.mixture
        parameters = [mixture.centres.double(), mixture.factors, mixture.log_priors, mixture.colours]
        target = torch.from_numpy(self.first).to(self.device)
        found = []
        for form, groups in FORMS:
            row: dict[str, Any] = {"form": form, "groups": groups, "step_ms": None}
            try:
                cut = gpu_plain.cut(lists.start, lists.kernel, lists.bars, target, groups)
                call = gpu_plain.stepper(parameters, cut, form, compiled=self.device.type == "cuda")
                row["step_ms"] = round(gpu_ceilings.replayed(call, self.device, turns=self.turns, inner=2), 4)
            except Exception as cause:  # noqa: BLE001  a rival that cannot run here is told, and the others count
                row["failed"] = f"{type(cause).__name__}: {str(cause).strip()[:80].replace('/', ' ')}"
            found.append(row)
        return found

    def fit(self) -> None:
        """Fits one by one, by the wall clock, and their quality beside the CPU's."""
        wanted = cpu_quality(self.experts)
        rows = []
        for source in self.sources:
            target = planes(source)
            made = batch([target], self.experts, self.device)
            seconds, (mixture,) = self.wall(lambda made=made: made.fit(steps=self.steps, seconds=None))
            row = {"seconds": round(seconds, 4), "steps": self.steps, "cpu_psnr": wanted.get(source.name)}
            row |= score(mixture, target)
            self.put("fit", source.name, row)
            rows.append(row)
        both = [r for r in rows if r["cpu_psnr"] is not None]
        summary = {"seconds": mean(rows, "seconds"), "psnr": mean(rows, "psnr"), "pictures": len(rows)}
        self.put("fit", "mean", summary | {"psnr_where_cpu": mean(both, "psnr"), "cpu_psnr": mean(both, "cpu_psnr")})

    def batch(self) -> None:
        """All pictures in one go, read beforehand."""
        targets = [planes(source) for source in self.sources]
        made = batch(targets, self.experts, self.device)
        hold(self.device, None)
        seconds, mixtures = self.wall(lambda: made.fit(steps=self.steps, seconds=None))
        rows = [score(m, t) for m, t in zip(mixtures, targets, strict=True)]
        row = {"pictures": len(targets), "seconds": round(seconds, 4), "psnr": mean(rows, "psnr")}
        row["peak_gib"] = peak_gib(self.device)
        self.put("batch", "all", row)

    def large(self, width: int, height: int, experts: int) -> None:
        """A large picture, with no more memory than stated."""
        from moesaic.mixture.render import render

        target = mosaic([planes(source) for source in self.sources], width, height)
        self._mixture = None
        hold(self.device, MEMORY)
        batch([target], experts, self.device).fit(steps=2, seconds=None)  # compiles the larger cells
        seconds, (mixture,) = self.wall(
            lambda: batch([target], experts, self.device).fit(steps=self.steps, seconds=None)
        )
        drawing = min(self.wall(lambda: render(mixture, backend="gpu"))[0] for _ in range(3))
        row = {"width": width, "height": height, "experts": len(mixture), "steps": self.steps}
        row |= {"seconds": round(seconds, 3), "render_ms": round(1e3 * drawing, 3)}
        row["peak_gib"] = peak_gib(self.device)
        error = float(((render(mixture, backend="gpu").cpu().clamp(0, 1).numpy() - target) ** 2).mean(dtype=np.float64))
        self.put("large", f"{width}x{height}", row | {"psnr": round(-10 * math.log10(error), 3)})


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def hold(device: torch.device, gibibytes: int | None) -> None:
    """Count memory anew, and allow no more than so much of it from now on."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        if gibibytes is not None:
            total = torch.cuda.get_device_properties(device).total_memory
            torch.cuda.set_per_process_memory_fraction(min(1.0, gibibytes * 2**30 / total), device)
        torch.cuda.reset_peak_memory_stats(device)


def peak_gib(device: torch.device) -> float:
    """The most memory that was held, kept free for reuse included."""
    return round(torch.cuda.max_memory_reserved(device) / 2**30, 3) if device.type == "cuda" else 0.0


def score(mixture: Mixture, target: np.ndarray) -> dict[str, float]:
    """Quality of a mixture's picture, drawn where it is."""
    from moesaic.mixture.render import render

    drawn = render(mixture, backend="gpu").cpu().numpy()
    return quality.score(*(np.ascontiguousarray(p.transpose(1, 2, 0)) for p in (drawn, target)))


def cpu_quality(experts: int, folder: Path = RESULTS) -> dict[str, float]:
    """PSNR that the CPU's fits reach, by picture, from their own benchmark."""
    path = folder / "fit.json"
    if not path.is_file():
        return {}
    rows = json.loads(path.read_text(encoding="utf-8"))["results"].get("pictures", {}).values()
    return {row["picture"]: row["psnr"] for row in rows if row["experts"] == experts}


def mean(rows: list[dict[str, Any]], field: str) -> float | None:
    """Of a column, to four digits."""
    return round(float(np.mean([row[field] for row in rows])), 4) if rows else None


if __name__ == "__main__":
    main()
