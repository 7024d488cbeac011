"""Fits on the GPU: the method of `fit`, for many pictures at once, without waiting for the device within a step.

Pictures stand side by side: one list of tiles, the same number of places for kernels in each, and every choice of a
round made on the device. A cycle of steps that share their lists is captured as a CUDA graph once and then replayed, as
is a round of moves; the host looks in only between rounds, to see whether the lists kept to their room.

Two things differ from the fit on the CPU: rounds come at whole cycles, and a progress callback is told once a cycle.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import triton
from numpy.typing import NDArray
from torch import Tensor

from moesaic.mixture import gpu_growth, gpu_start
from moesaic.mixture.backends import gpu, gpu_descent, gpu_gather, gpu_survey
from moesaic.mixture.backends.cover import exact_margin
from moesaic.mixture.backends.gpu_canvas import Canvas, canvas
from moesaic.mixture.backends.gpu_lists import Lists, list_kernels, rounded
from moesaic.mixture.fitting import FitConfig, Progress, starter
from moesaic.mixture.gpu_growth import GONE, State
from moesaic.mixture.model import Mixture

SPACIOUS = 1.5  # room for lists of the whole fit against the need of its start
DAMPING = 0.05  # px of weight, of the colours in closed form, as in `fit`

Callback = Callable[[Progress], "bool | None"]


@dataclass(slots=True)
class Batch:
    """Pictures being fitted together."""

    targets: Sequence[NDArray[np.float32]]  # (C, H, W) each, premultiplied
    experts: Sequence[int]  # wanted of each
    order: int
    seed: int
    config: FitConfig
    device: torch.device
    progress: Callback | None = None
    began: float = field(default_factory=time.perf_counter)
    stopped: bool = False
    sheet: Canvas = field(init=False)
    state: State = field(init=False)
    target: Tensor = field(init=False)  # (C * pixels,)
    room: tuple[int, ...] = field(init=False)
    most: Tensor = field(init=False)  # (levels,) the longest lists since the last look
    count: Tensor = field(init=False)  # (1,) int32, steps taken
    settings: Tensor = field(init=False)  # (5,) float64, see `gpu_descent.descend`
    rates: Tensor = field(init=False)  # (K,)
    wanted: Tensor = field(init=False)  # (P,) int64
    surplus: Tensor = field(init=False)  # (P,) int64
    _graphs: dict[str, torch.cuda.CUDAGraph] = field(default_factory=dict)
    _pool: Any = None
    _error: Tensor = field(init=False)  # (pixels,), of the last step

    def fit(self, *, steps: int | None, seconds: float | None) -> list[Mixture]:
        """Place kernels, descend for so many steps or seconds, solve the colours; mixtures on the device."""
        c = self.config
        short = steps is not None and steps < 4 * c.apart
        with torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext():
            self._begin([n if short else round(c.surplus * n) for n in self.experts])
            self._descend(steps, seconds)
            self._graphs.clear()
            self._settle()
            self._solve()
            return self.mixtures()

    def mixtures(self) -> list[Mixture]:
        """What has been fitted."""
        s, made = self.state, []
        alive = s.alive
        for picture, (width, height) in enumerate(self.sheet.sizes):
            rows = picture * alive.shape[1] + alive[picture].nonzero()[:, 0]
            experts = s.experts[rows]
            geometry = s.geometry[rows]
            mixture = Mixture(
                centres=s.centres[rows].float(),
                factors=geometry[:, :3].contiguous(),
                log_priors=geometry[:, 3].contiguous(),
                colours=experts[:, : s.channels].contiguous(),
                slopes=experts[:, s.channels :].reshape(len(rows), s.channels, 2) if self.order else None,
                width=width,
                height=height,
            )
            made.append(mixture)
        return made

    def _begin(self, several: list[int]) -> None:
        """Kernels in their first places, and all that keeps its size through the fit."""
        channels, places, c = len(self.targets[0]), max(several), self.config
        sizes = tuple((int(t.shape[2]), int(t.shape[1])) for t in self.targets)
        self.sheet = canvas(sizes, (places,) * len(sizes), self.device)
        gpu.check_size(self.sheet, channels)
        pictures = [torch.from_numpy(np.ascontiguousarray(t)).to(self.device) for t in self.targets]
        self.target = torch.cat([p.flatten() for p in pictures])
        width = channels * (3 if self.order else 1)
        n = places * len(sizes)
        self.state = State(
            torch.zeros((n, 2), dtype=torch.float64, device=self.device),
            torch.tensor([1.0, 0.0, 1.0, GONE], device=self.device).repeat(n, 1),
            torch.zeros((n, width), device=self.device),
            torch.zeros((n, 6 + width), device=self.device),
            torch.zeros((n, 6 + width), device=self.device),
            len(sizes),
            channels,
        )
        for picture, (pixels, number) in enumerate(zip(pictures, several, strict=True)):
            random, begin = np.random.default_rng(self.seed), starter(c)
            if c.start == "gradient":
                found = gpu_start.begin(pixels, number, self.order, random)
            else:  # the other starts are not worth a twin
                packed = begin(np.ascontiguousarray(self.targets[picture]), number, self.order, random)
                arrays = (packed.centres, packed.geometry, packed.experts)
                x, y, z = (torch.from_numpy(a).to(self.device) for a in arrays)
                found = x, y, z
            rows = slice(picture * places, picture * places + number)
            for into, values in zip((self.state.centres, self.state.geometry, self.state.experts), found, strict=True):
                into[rows] = values
        slopes = width - channels
        rates = [c.rate_centre] * 2 + [c.rate_shape] * 3 + [c.rate_prior]
        rates += [c.rate_colour] * channels + [c.rate_slope] * slopes
        self.rates = torch.tensor(rates, device=self.device)
        self.count = torch.zeros(1, dtype=torch.int32, device=self.device)
        numbers = [0.0, c.decay1, c.decay2, c.sharpest, c.beyond]
        self.settings = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        self.wanted = torch.tensor(self.experts, device=self.device)
        self.surplus = torch.tensor(several, device=self.device) - self.wanted
        self._error = torch.zeros(self.sheet.pixels, device=self.device)
        lists = gpu.list_exactly(self.sheet, self._kernels(), c.margin)
        self._make_room(lists.needed.tolist())

    def _make_room(self, needed: list[int]) -> None:
        self.room = tuple(rounded(int(SPACIOUS * pairs)) for pairs in needed)
        gpu.check_room(self.room, self.state.experts.shape[1])
        self.most = torch.zeros(len(needed), dtype=torch.int64, device=self.device)
        self._graphs.clear()
        self._pool = None

    def _kernels(self, experts: Tensor | None = None, order: int | None = None) -> gpu.Kernels:
        s = self.state
        return gpu.Kernels(
            s.centres, s.geometry, s.experts if experts is None else experts, s.channels,
            self.order if order is None else order,
        )  # fmt: skip

    def _list(self) -> Lists:
        lists = list_kernels(self.sheet, self.state.centres, self.state.geometry, self.config.margin, self.room)
        torch.maximum(self.most, lists.needed, out=self.most)
        return lists

    def _cycle(self, steps: int) -> None:
        """Lists, and steps that share them."""
        lists = self._list()
        pairs = gpu_gather.by_kernel(lists, len(self.state.centres))
        for _ in range(steps):
            self._step(lists, pairs)

    def _full_cycle(self) -> None:
        self._cycle(self.config.relist)

    def _step(self, lists: Lists, pairs: tuple[Tensor, Tensor]) -> None:
        """One step of Adam on all kernels of all pictures."""
        s, kernels = self.state, self._kernels()
        placed = gpu.put(self.sheet, kernels, lists)
        seen = gpu.compare(self.sheet, kernels, lists, placed, self.target)
        moments = gpu.go_back(self.sheet, kernels, lists, placed, pairs, seen.level, seen.slope, seen.base)
        self._error.copy_(seen.error)
        self.count.add_(1)
        each = self.sheet.kernels[0]
        gpu_descent.descend[(s.pictures, triton.cdiv(each, gpu_descent.WIDTH))](
            self.sheet.bounds, self.count, self.settings, self.rates, moments,
            s.centres, s.geometry, s.experts, s.first, s.second, each,
            C=s.channels, ORDER=self.order, WIDTH=gpu_descent.WIDTH, num_warps=2,
        )  # fmt: skip

    def _round(self) -> None:
        """Prune towards the number that this part of the fit asks for, and move kernels."""
        c = self.config
        done = self.count * self.settings[0]
        later = done + self._gap() * done / self.count
        extra = (self.surplus * (1.0 - later / c.settled).clamp(min=0.0)).round().long()
        self._move((self.state.alive.sum(1) - self.wanted - extra).clamp(min=0), c.moved)

    def _gap(self) -> Tensor:
        """Steps between rounds."""
        c = self.config
        asked = (1.0 / (self.settings[0] * c.rounds) + 1e-6).floor().clamp(min=c.apart)
        return (asked / c.relist).ceil() * c.relist

    def _move(self, fewer: Tensor, share: float) -> None:
        s, kernels, lists = self.state, self._kernels(), self._list()
        placed = gpu.put(self.sheet, kernels, lists)
        picture, level = gpu.draw(self.sheet, kernels, lists, placed)
        partial = torch.empty((len(lists.kernel), 4 + 2 * s.channels), device=self.device)
        tiles = len(self.sheet.tiles)
        gpu_survey.survey[(tiles, gpu.shares(tiles))](
            self.sheet.tiles, lists.start, lists.kernel, len(lists.kernel), placed.record, placed.span,
            level, picture, self.target, s.experts, partial, gpu.shares(tiles),
            C=s.channels, ORDER=self.order, num_warps=gpu.BACK_WARPS,
        )  # fmt: skip
        pairs = gpu_gather.by_kernel(lists, len(s.centres))
        found = gpu_growth.weigh(gpu.sum_by_kernel(pairs, partial), s.pictures)
        gpu_growth.move(s, found, fewer, share, self.config.worth)

    def _descend(self, steps: int | None, seconds: float | None) -> None:
        c = self.config
        began = time.perf_counter()
        done, count, last, seen = 0.0, 0, 0, 0
        if steps is not None:
            self._pace(1.0 / steps)
        kept, at = self._snapshot(), (0, 0)
        while done < 1.0 and not self.stopped:
            cycle = c.relist if steps is None else min(c.relist, steps - count)
            if cycle == c.relist:
                self._run("cycle", self._full_cycle)
            else:
                self._cycle(cycle)
            count += cycle
            spent = self._spent(began) if steps is None or self.progress is not None else 0.0
            done = count / steps if steps is not None else spent / (seconds or 1.0)
            if steps is None:
                self._pace(min(done, 1.0) / count)
            asked = max(c.apart, int((steps or count / max(done, 1e-6)) / c.rounds))
            gap = -(-asked // c.relist) * c.relist
            if count - last >= gap and done <= c.until:
                last = count
                self._run("round", self._round)
            if count - seen >= gap or done >= 1.0:  # now and then the host looks whether lists were cut short
                needed = self.most.tolist()
                if any(pairs > wide for pairs, wide in zip(needed, self.room, strict=True)):
                    self._restore(kept)
                    count, last = at
                    done, seen = 0.0, count
                    self._make_room(needed)
                    continue
                kept, at, seen = self._snapshot(), (count, last), count
                self.most.zero_()
            if self.progress is not None:
                self._tell(count, steps, done, spent, seconds)

    def _pace(self, share: float) -> None:
        self.settings[0] = share

    def _spent(self, began: float) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - began

    def _tell(self, count: int, steps: int | None, done: float, spent: float, seconds: float | None) -> None:
        mean = float(self._error.sum(dtype=torch.float64)) / self.target.numel()
        told = Progress(
            step=count,
            steps=steps,
            seconds=time.perf_counter() - self.began,
            seconds_left=spent * (1.0 - done) / done if steps is not None else max((seconds or 0.0) - spent, 0.0),
            psnr=-10.0 * math.log10(max(mean, 1e-12)),
            experts=int(self.state.alive.sum()),
        )
        self.stopped = bool(self.progress and self.progress(told))

    def _snapshot(self) -> list[Tensor]:
        return [t.clone() for t in self._changing()]

    def _restore(self, kept: list[Tensor]) -> None:
        for tensor, before in zip(self._changing(), kept, strict=True):
            tensor.copy_(before)

    def _changing(self) -> tuple[Tensor, ...]:
        s = self.state
        return s.centres, s.geometry, s.experts, s.first, s.second, self.count

    def _run(self, name: str, work: Callable[[], None]) -> None:
        """Do some work: the first time as it is, so that all is compiled; then as a graph, captured once."""
        if name in self._graphs:
            self._graphs[name].replay()
            return
        work()
        if self.device.type == "cuda":
            self._pool = self._pool or torch.cuda.graph_pool_handle()  # shared: nothing in it outlives a replay
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool):
                work()
            self._graphs[name] = graph

    def _settle(self) -> None:
        """Down to the number asked for, where the fit was stopped or too short for rounds."""
        while True:
            more = self.state.alive.sum(1) - self.wanted
            if not bool((more > 0).any()):
                return
            self._move(torch.minimum(more.clamp(min=0), (self.state.alive.sum(1) // 4).clamp(min=1)), 0.0)

    def _solve(self) -> None:
        """Colours in closed form, by conjugate gradients for each picture; see `colours.solve`."""
        s, sheet = self.state, self.sheet
        lists = gpu.list_exactly(sheet, self._kernels(), exact_margin(max(self.experts)))
        pairs = gpu_gather.by_kernel(lists, len(s.centres))
        nothing = torch.zeros(sheet.pixels, device=self.device)

        def draw(experts: Tensor) -> tuple[Tensor, Tensor]:
            return gpu.draw(sheet, self._kernels(experts), lists)

        blank = gpu.put(sheet, self._kernels(), lists)

        def spread(pixels: Tensor, level: Tensor) -> Tensor:  # the transpose of draw
            return gpu.go_back(sheet, self._kernels(), lists, blank, pairs, level, pixels, nothing)[:, 6:].double()

        def dot(a: Tensor, b: Tensor) -> Tensor:  # (P,)
            return (a * b).view(s.pictures, -1).sum(1)

        def each(factor: Tensor) -> Tensor:  # (P,) -> (N, 1)
            return factor.repeat_interleave(sheet.kernels[0])[:, None]

        experts = s.experts.double()
        picture, level = draw(s.experts)
        residual = spread(self.target - picture, level)
        scale = 1.0 / (self._diagonal(spread(torch.ones_like(self.target), level)) + DAMPING)
        direction = scale * residual
        power = dot(residual, direction)
        for _ in range(self.config.solve):
            along = spread(draw(direction.float())[0], level) + DAMPING * direction
            curvature = dot(direction, along)
            step = torch.where((power > 0.0) & (curvature > 0.0), power / curvature.clamp(min=1e-300), 0.0)
            experts += each(step) * direction
            residual -= each(step) * along
            towards = scale * residual
            after = dot(residual, towards)
            direction = towards + each(after / power.clamp(min=1e-300)) * direction
            power = after
        s.experts.copy_(experts.float())

    def _diagonal(self, mass: Tensor) -> Tensor:  # (N, K)
        """A bound on the normal matrix's rows; see `colours._diagonal`."""
        s = self.state
        mass = mass[:, : s.channels].clamp(min=0.0)
        if not self.order:
            return mass
        f0, f1, f2 = s.geometry[:, :3].double().unbind(1)
        variance = torch.stack([(f1 * f1 + f2 * f2) / (f0 * f2) ** 2, 1.0 / (f2 * f2)], dim=1)  # (N, 2), px^2
        return torch.cat([mass, (mass[:, :, None] * variance[:, None, :]).flatten(1)], dim=1)
