"""Speed and exactness of moesaic.render beside plain torch, and beside the machine's arithmetic peak.

Mixtures come from real fits. Everyone's list of kernels by tile is made anew in each turn, as a fit or a zoom needs;
moesaic is called as a user calls it, gradients by autograd. Rivals take turns and medians count. Torch's threads are
asked to sleep between turns (OMP_WAIT_POLICY=PASSIVE): left to spin, they take a core from whoever comes next.
"""

from __future__ import annotations

import itertools
import math
import os
import time
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported

import numpy as np
import torch

from benchmarks import arithmetic
from benchmarks.pictures import FOUR, gallery, numbers, parser
from benchmarks.plain_torch import Form, PlainRenderer
from benchmarks.record import Record
from benchmarks.timing import alternate, summary
from moesaic.mixture import ops, reference
from moesaic.mixture.backends import cpu
from moesaic.mixture.backends.cover import cover, exact_margin
from moesaic.mixture.backends.threads import default_threads
from moesaic.mixture.colours import pack
from moesaic.mixture.fit import fit
from moesaic.mixture.render import render

if TYPE_CHECKING:
    from moesaic.mixture.model import Mixture

CHUNKS = (8, 16, 24, 48, 96)
FAMILIES = tuple(itertools.product(("direct", "matrix"), ("boxes", "exact")))
_WRONG = 0.01  # beyond this difference a renderer does not draw the same picture


def main(arguments: list[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--experts", type=numbers, default=(10_000, 2_000), metavar="10000,2000")
    options.add_argument("--turns", type=int, default=41, help="turns of each rival")
    options.add_argument("--steps", type=int, default=None, help="of the fits; the default of fit")
    asked = options.parse_args(arguments)
    shown = gallery(asked.pictures)
    most = asked.threads or default_threads()
    settings = {"pictures": shown.name, "turns": asked.turns, "steps": asked.steps, "seed": 0}
    record = Record("render", settings=settings, folder=asked.results, resume=asked.resume)
    counts = sorted({most, 1}, reverse=True)
    for threads in counts:
        if not record.has("peak", f"{threads} threads"):
            peak = arithmetic.peak_gflops(threads)
            record.put("peak", f"{threads} threads", {"threads": threads, "gflops": round(peak, 1)})
    for experts, source in itertools.product(asked.experts, shown.only(asked.only or FOUR)):
        keys = {threads: f"{source.name}/{experts}/{threads} threads" for threads in counts}
        if all(record.has("speed", key) for key in keys.values()):
            continue
        picture = source.read()
        mixture = fit(picture, experts=experts, steps=asked.steps, threads=most)
        target = torch.from_numpy(np.ascontiguousarray(picture.pixels[..., :3].transpose(2, 0, 1)))
        named = {"picture": source.name, "experts": experts}
        for threads, key in keys.items():
            row = named | {"threads": threads} | measure(mixture, target, threads, asked.turns)
            record.put("speed", key, row)
            print(describe(row), flush=True)


def describe(row: dict[str, Any]) -> str:
    """One line of progress."""
    ours, rivals = row["moesaic"], row["rivals"]
    words = f"{row['picture']}, {row['experts']} experts, {row['threads']} threads: render"
    words += f" {ours['render']['median_ms']:.1f} ms, with gradient {ours['gradient']['median_ms']:.1f} ms;"
    for rival in rivals:
        words += f" {rival['arithmetic']}/{rival['lists']} {rival['render']['median_ms']:.0f}"
        words += f" / {rival['gradient']['median_ms']:.0f}"
    return words


def measure(mixture: Mixture, target: torch.Tensor, threads: int, turns: int) -> dict[str, Any]:
    """Times of moesaic and of the best plain renderer of each family, work done, and exactness of all."""
    before = torch.get_num_threads(), ops.threads
    torch.set_num_threads(threads)
    ops.threads = threads
    try:
        plain = {family: best(mixture, target, threads, *family) for family in FAMILIES}
        ours = Ours(mixture, target)
        drawn = alternate({"moesaic": ours.render} | _calls(plain, "render"), turns=turns)
        climbed = alternate({"moesaic": ours.gradient} | _calls(plain, "gradient", target), turns=turns)
        points = _Points(mixture, target)
        rivals = []
        for family, (first, second) in plain.items():
            name = "/".join(family)
            rivals.append(
                {
                    "arithmetic": family[0],
                    "lists": family[1],
                    "render_form": first.form.words,
                    "gradient_form": second.form.words,
                    "render": summary(drawn[name]),
                    "gradient": summary(climbed[name]),
                    "error": points.error(first.render()),
                    "gradient_error": points.gradient_error(second.gradient(target, mask=points.mask)),
                }
            )
        return {
            "canvas": [mixture.width, mixture.height],
            "moesaic": {
                "render": summary(drawn["moesaic"]),
                "gradient": summary(climbed["moesaic"]),
                "error": points.error(ours.render()),
                "gradient_error": points.gradient_error(ours.gradient(points.mask)),
            },
            "rivals": rivals,
            "same_picture": _WRONG,
            "work": work(mixture, threads),
        }
    finally:
        torch.set_num_threads(before[0])
        ops.threads = before[1]


class Ours:
    """moesaic.render as a user calls it."""

    def __init__(self, mixture: Mixture, target: torch.Tensor) -> None:
        self.still = mixture.detach()
        self.leaves = mixture._map(lambda t: t.detach().clone().requires_grad_())
        self.target = target

    def render(self) -> torch.Tensor:  # (C, H, W)
        """The picture."""
        with torch.no_grad():
            return render(self.still)

    def gradient(self, mask: torch.Tensor | None = None) -> torch.Tensor:  # (N, 6 + C)
        """Gradient of the sum of squared errors by centre, factors, log prior and colour."""
        tensors = list(self.leaves._tensors().values())
        errors = (render(self.leaves) - self.target) ** 2
        loss = errors.sum() if mask is None else (errors * mask).sum()
        return torch.cat([g.reshape(len(g), -1) for g in torch.autograd.grad(loss, tensors)], 1)


def best(
    mixture: Mixture, target: torch.Tensor, threads: int, form: str, lists: str
) -> tuple[PlainRenderer, PlainRenderer]:
    """The fastest plain renderers of one family, for drawing and for the gradient, over chunk sizes and drivers."""
    drivers = ("inner", "outer") if threads > 1 else ("inner",)
    tried = []
    for chunk, driver in itertools.product(CHUNKS, drivers):
        plain = PlainRenderer(mixture, Form(arithmetic=form, lists=lists, chunk=chunk, driver=driver), threads)
        tried.append((_least(plain.render), _least(lambda p=plain: p.gradient(target)), plain))
    first = min(tried, key=lambda t: t[0])[2]
    second = min(tried, key=lambda t: t[1])[2]
    return first, second


def _least(call: Any) -> float:
    spent = []
    for _ in range(4):
        start = time.perf_counter()
        call()
        spent.append(time.perf_counter() - start)
    return min(spent)


def _calls(plain: dict[Any, Any], what: str, *arguments: Any) -> dict[str, Any]:
    which = 0 if what == "render" else 1
    return {"/".join(f): lambda r=pair[which]: getattr(r, what)(*arguments) for f, pair in plain.items()}


def work(mixture: Mixture, threads: int) -> dict[str, Any]:
    """Kernel-pixels that the loops evaluate, and the time of each part of moesaic's work by itself."""
    packed = pack(mixture)
    n = len(mixture)

    def listing() -> Any:
        return cover(packed.centres, packed.geometry, mixture.width, mixture.height, exact_margin(n), threads)

    listed = listing()
    picture, sums = cpu.forward(packed, listed, threads)
    parts = alternate(
        {
            "lists": listing,
            "forward": lambda: cpu.forward(packed, listed, threads),
            "backward": lambda: cpu.backward(packed, listed, picture, sums, picture, threads),
        },
        turns=21,
    )
    rows = int((listed.pair_rows[:, 1].astype(np.int64) - listed.pair_rows[:, 0]).sum())
    return {
        "pairs": len(listed.pair_kernel),
        "kernel_pixels": 16 * rows,
        "flops_forward": arithmetic.FORWARD_FLOPS,
        "flops_backward": arithmetic.BACKWARD_FLOPS,
        "parts": {name: summary(spent) for name, spent in parts.items()},
    }


class _Points:
    """The float64 reference on some pixels: values, and gradients of a loss on those pixels alone."""

    def __init__(self, mixture: Mixture, target: torch.Tensor, many: int = 1500, few: int = 200) -> None:
        rng = np.random.default_rng(0)
        chosen = torch.from_numpy(rng.choice(mixture.width * mixture.height, many, replace=False))
        self.x, self.y = chosen % mixture.width, chosen // mixture.width
        places = torch.stack([self.x + 0.5, self.y + 0.5], 1).double()
        exact = mixture.detach().to(dtype=torch.float64)
        with torch.no_grad():
            self.values = torch.cat([reference.evaluate(exact, p) for p in places.split(250)])  # (P, C)
        leaves = exact._map(lambda t: t.clone().requires_grad_())
        aims = target[:, self.y[:few], self.x[:few]].T.double()
        loss = ((reference.evaluate(leaves, places[:few]) - aims) ** 2).sum()
        slopes = torch.autograd.grad(loss, list(leaves._tensors().values()))
        self.slope = torch.cat([g.reshape(len(g), -1) for g in slopes], 1)
        self.mask = torch.zeros(mixture.height, mixture.width)
        self.mask[self.y[:few], self.x[:few]] = 1.0

    def error(self, picture: torch.Tensor) -> float:  # of (C, H, W)
        """Largest difference."""
        return _short(float((picture[:, self.y, self.x].T.double() - self.values).abs().max()))

    def gradient_error(self, slope: torch.Tensor) -> dict[str, float]:  # of (N, 6 + C)
        """Difference by parameter, in relative norm."""
        groups = {"centres": (0, 2), "factors": (2, 5), "log_priors": (5, 6), "colours": (6, self.slope.shape[1])}
        found = {}
        for name, (a, b) in groups.items():
            expected = self.slope[:, a:b]
            found[name] = _short(float((slope[:, a:b].double() - expected).norm() / expected.norm()))
        return found


def _short(error: float) -> float:
    """Three digits; 1e9 stands for a difference that is not finite, which some of the rivals have."""
    return float(f"{error:.2e}") if math.isfinite(error) else 1e9


if __name__ == "__main__":
    main()
