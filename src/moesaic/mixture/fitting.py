"""One picture being fitted: kernels go downhill, those that do little are moved, and the clock is watched."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from moesaic.errors import ArgumentError, LimitError
from moesaic.mixture import colours, growth, segments, start
from moesaic.mixture.backends import cpu
from moesaic.mixture.backends.cover import Cover, cover, exact_margin
from moesaic.mixture.descents import Adam, Bounds, Descent, Gait, GaussNewton
from moesaic.mixture.guess import Guess
from moesaic.mixture.model import Mixture
from moesaic.mixture.observed import DAMPING, Observed, Pixels
from moesaic.mixture.render import check

FINEST = 2.0  # pixels per expert, beyond which no PSNR is chased
SHORT = 1.5  # dB that a fit of a tenth of the steps stays below a full one, in a search
BRIEF = 120  # steps; shorter fits from a mixture go by curvature, longer ones by Adam first
_FINE = 44.0  # dB from which on all go by curvature: Adam's steps are coarser than what is missing
_LAST = (16, 8)  # steps by curvature at the end of a longer one: an eighth of all, and so many at the least
_APART = 10  # steps by curvature between rounds of moves
_FEW = 3  # steps of conjugate gradients after steps by curvature, which leave little to find
_AROUND = 1.25  # time of a step with all around it, against that of its slope
_EASED = 30  # steps; shorter fits by Adam from a mixture take shorter steps
STARTS = {"gradient": start.begin, "segments": segments.begin, "even": start.begin_even}


@dataclass(frozen=True, slots=True, kw_only=True)
class FitConfig:
    """How a fit moves; the defaults are those of docs/fitting.md."""

    start: str = "gradient"  # where kernels begin: a key of STARTS; see docs/denoising.md for when "segments" helps
    rate_centre: float = 0.5  # standard deviations of the kernel, a step of Adam at the start of the cosine
    rate_shape: float = 0.16  # relative change of the factor
    rate_prior: float = 0.1  # nats
    rate_colour: float = 0.02
    rate_slope: float = 0.02  # colour per standard deviation
    decay1: float = 0.9
    decay2: float = 0.9
    margin: float = 8.0  # between logits, for the lists of a fit: omitted kernels weigh below exp(-8) of the best
    relist: int = 8  # steps between listings of kernels by tile
    moved: float = 0.1  # share of the kernels that one round may move
    worth: float = 0.1  # gain asked of a move, against its cost
    rounds: int = 25  # rounds of moves in a long fit
    apart: int = 25  # steps between rounds at least
    until: float = 0.7  # share of the fit in which kernels are moved
    surplus: float = 1.5  # kernels at the start for each one asked for; the least useful go, round by round
    settled: float = 0.5  # share of the fit after which only the number asked for is left
    sharpest: float = 5.0  # 1/px
    beyond: float = 0.05  # of the longer side: how far outside the canvas centres may go
    again: float = 0.8  # steps of a fit that goes on from a mixture, against those of a fresh one
    solve: int = 8  # steps of conjugate gradients on the colours at the end


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What a progress callback is told."""

    step: int
    steps: int | None  # None when a time is spent rather than steps
    seconds: float  # since the fit began
    seconds_left: float  # expected
    psnr: float  # dB, of the last step
    experts: int
    phase: str = "fit"


Callback = Callable[[Progress], "bool | None"]


def starter(config: FitConfig) -> Callable[..., cpu.Packed]:
    """What places the kernels of a fit.

    Raises:
        ArgumentError: no such start is known.
    """
    if config.start not in STARTS:
        raise ArgumentError(f"start ({config.start!r}) must be one of {', '.join(STARTS)}")
    return STARTS[config.start]


@dataclass(slots=True)
class Fitting:
    """One picture being fitted: the kernels, the means of Adam, and the clock."""

    target: NDArray[np.float32]
    order: int
    seed: int
    threads: int
    progress: Callback | None
    config: FitConfig
    observed: Observed
    began: float = field(default_factory=time.perf_counter)
    stopped: bool = False
    _taken: int = field(default=0, init=False)
    _keeps: bool = field(default=False, init=False)  # whether the best is kept
    _best: tuple[float, cpu.Packed] | None = field(default=None, init=False)  # its mean squared error, and it
    packed: cpu.Packed = field(init=False)

    def fit(self, experts: int, *, steps: int | None, seconds: float | None, phase: str = "fit") -> None:
        """Place kernels anew, more than asked for, and descend to the number asked for."""
        several = experts if steps is not None and steps < 4 * self.config.apart else self.config.surplus * experts
        self.place(round(several))
        self.descend(experts, steps=steps, seconds=seconds, phase=phase)

    def go_on(self, begin: Mixture, experts: int, *, steps: int | None, seconds: float | None) -> None:
        """Descend from a mixture: by curvature where there is little time, else with shorter steps of Adam first.

        The best of what it came by is what is left, looked at with each listing; so with as many kernels as there were,
        none makes it worse.

        Raises:
            ArgumentError: the mixture's numbers grow without bound.
        """
        still = begin.detach().to(device="cpu", dtype=torch.float32)
        self.packed = colours.pack(still).copy()
        self._keeps, self._best = True, None
        if isinstance(self.observed, Pixels) and not self.packed.order:
            self._go_on_bending(self.observed, experts, steps, seconds, fine=_decibels(self._error()) >= _FINE)
        else:
            rate = self.config.again
            if steps is not None and steps < 4 * self.config.apart:
                self.config = replace(self.config, until=0.0)
                rate *= min(1.0, steps / _EASED)  # Adam's first steps are as long for settled numbers as for others
            self.descend(experts, steps=steps, seconds=seconds, rate=rate)
        self._give_best()
        try:
            check(self.mixture())
        except ArgumentError as cause:
            raise ArgumentError(f"begin cannot be fitted: {cause}") from None

    def _go_on_bending(
        self, observed: Pixels, experts: int, steps: int | None, seconds: float | None, *, fine: bool
    ) -> None:
        lasts = self._step_seconds() if seconds is not None else 1.0
        planned = steps if steps is not None else int((seconds or 0.0) / lasts)
        if fine or planned < BRIEF:
            self._walk(self._by_curvature(observed), experts, steps=steps, seconds=seconds, apart=_APART)
        else:
            last = max(_LAST[0], planned // _LAST[1])
            most, until = (planned - last, None) if seconds is None else (None, seconds - last * lasts)
            self._walk(self.by_adam(self.config.again), experts, steps=most, seconds=until, more=last)
            self._resize(experts)
            way, timed = self._by_curvature(observed), seconds is not None
            self._walk(way, experts, steps=last, seconds=None, apart=last + 1, timed=timed)
        self._resize(experts)
        numbers: dict[str, Any] = {"steps": _FEW, "damping": DAMPING, "margin": self.config.margin}
        self.packed = self.packed.with_experts(colours.solve(self.packed, self.target, threads=self.threads, **numbers))

    def place(self, kernels: int) -> None:
        """Begin with so many kernels, where the configuration wants them."""
        self.packed = starter(self.config)(self.target, kernels, self.order, np.random.default_rng(self.seed))

    def mixture(self) -> Mixture:
        """What has been fitted, as tensors."""
        height, width = self.target.shape[1:]
        return colours.unpack(self.packed, width, height)

    def list_kernels(self, margin: float) -> Cover:
        """The kernels by tile, those within a margin of the best."""
        height, width = self.target.shape[1:]
        return cover(self.packed.centres, self.packed.geometry, width, height, margin, self.threads)

    def psnr(self) -> float:
        """The dB of the exact picture, clipped to [0, 1]."""
        picture, _ = cpu.forward(self.packed, self.list_kernels(exact_margin(len(self.packed.centres))), self.threads)
        return _decibels(float(np.mean((np.clip(picture, 0.0, 1.0) - self.target) ** 2, dtype=np.float64)))

    def descend(
        self, experts: int, *, steps: int | None, seconds: float | None, rate: float = 1.0, phase: str = "fit"
    ) -> None:
        """Adam on all parameters under a cosine, with rounds of pruning and moves; then colours in closed form."""
        self._taken = 0
        self._walk(self.by_adam(rate), experts, steps=steps, seconds=seconds, phase=phase)
        self._settle(experts, self.config.solve)

    def _walk(
        self,
        way: Descent,
        experts: int,
        *,
        steps: int | None,
        seconds: float | None,
        apart: int | None = None,  # steps between rounds at least
        more: int = 0,  # steps that are to come after these
        timed: bool = False,  # whether a time is spent on the whole
        phase: str = "fit",
    ) -> None:
        """Steps downhill, with rounds of pruning and moves."""
        c = self.config
        least = c.apart if apart is None else apart
        surplus = len(self.packed.centres) - experts
        began = time.perf_counter()
        listed: Cover | None = None
        done, count, last_move = 0.0, 0, 0
        while done < 1.0 and not self.stopped:
            fresh = listed is None or count % c.relist == 0
            if listed is None or fresh:
                listed = self.list_kernels(c.margin)
            error = way.look(self.packed, listed, fresh=fresh)
            if self._keeps and fresh and len(self.packed.centres) == experts:
                self._keep(error)
            count += 1
            spent = time.perf_counter() - began
            done = count / steps if steps is not None else spent / (seconds or 1.0)
            way.go(self.packed, 0.51 + 0.49 * math.cos(math.pi * min(done, 1.0)))
            gap = max(least, int((steps or count / max(done, 1e-6)) / c.rounds))
            gap_share = gap * done / count
            if count - last_move >= gap and done <= c.until:
                last_move = count
                extra = round(surplus * max(0.0, 1.0 - (done + gap_share) / c.settled))
                self._move(len(self.packed.centres) - experts - extra, way)
                listed = None
            self._taken += 1
            if self.progress is not None:
                left = spent * (1.0 - done) / done if steps is not None else max((seconds or 0.0) - spent, 0.0)
                quality = _decibels(error)
                told = Progress(
                    step=self._taken,
                    steps=None if timed or steps is None else self._taken - count + steps + more,
                    seconds=time.perf_counter() - self.began,
                    seconds_left=left + more * spent / count,
                    psnr=quality,
                    experts=len(self.packed.centres),
                    phase=phase,
                )
                self.stopped = bool(self.progress(told))

    def _keep(self, error: float) -> None:
        """Keep the kernels as they are if they are the best so far."""
        if self._best is None or error < self._best[0]:
            self._best = error, self.packed.copy()

    def _give_best(self) -> None:
        """Go back to the best that was kept, where what there is falls behind it or is no number."""
        if self._best is not None and not self._error() <= self._best[0]:
            self.packed = self._best[1]

    def _settle(self, experts: int, solve: int) -> None:
        """As many kernels as were asked for, where the way was stopped or too short for rounds; and their colours."""
        if len(self.packed.centres) > experts:
            self._resize(experts)
        self.packed = self.packed.with_experts(self.observed.solve(self.packed, solve, self.threads))

    def reach(self, psnr: float, steps: int, seconds: float | None) -> None:
        """Search for the fewest experts that reach a PSNR: fresh fits at first, then the best one is pruned."""
        pixels = self.target.shape[1] * self.target.shape[2]
        guess = Guess(psnr - SHORT, max(1, int(pixels / FINEST)))

        def spend(part: float) -> dict[str, Any]:
            if seconds is not None:
                return {"steps": None, "seconds": part * seconds}
            return {"steps": max(1, round(part * steps)), "seconds": None}

        experts = min(guess.most, max(4, pixels // 100))
        self.fit(experts, **spend(0.1), phase="search")
        experts = guess.after(experts, self.psnr())
        guess.goal, guess.last = psnr + 0.1, None
        best: cpu.Packed | None = None
        excess = 0.0  # dB of the best above the goal
        for attempt in range(5):
            self.fit(experts, **spend(0.16 if seconds else 1.0), phase="search" if attempt else "fit")
            reached = self.psnr()
            if reached >= psnr and (best is None or experts < len(best.centres)):
                best, excess = self.packed.copy(), reached - psnr
            wanted = guess.after(experts, reached)
            if self.stopped or 0.0 <= reached - psnr <= 0.3 or wanted == experts:
                break
            experts = wanted
        if best is None and not self.stopped:
            raise LimitError(
                f"{psnr:g} dB are not reached: {self.psnr():.2f} dB with {len(self.packed.centres)} experts; "
                "ask for a lower psnr, or for a number of experts and more steps"
            )
        for _ in range(12):  # a few kernels fewer, as long as the goal is kept
            if best is None or self.stopped or excess <= 0.05 or len(best.centres) == 1:
                break
            self.packed = best.copy()
            fewer = max(1, round(len(best.centres) * (1.0 - 2.0 ** (-0.7 * excess / guess.slope))))
            self._resize(len(best.centres) - fewer)
            self.descend(len(self.packed.centres), **spend(0.02 if seconds else 0.1), rate=0.15, phase="search")
            reached = self.psnr()
            if reached < psnr:
                break
            best, excess = self.packed, reached - psnr
        self.packed = best or self.packed

    def _move(self, fewer: int, way: Descent) -> None:
        """One round: take away `fewer` kernels and move others."""
        found = self._survey()
        kept = np.ones(len(self.packed.centres), bool)
        kept[np.argsort(found.cost, kind="stable")[: max(fewer, 0)]] = False
        parents, places = growth.moves(found, self.config.moved, self.config.worth, kept)
        growth.split(self.packed, parents, places, found)
        way.follow(parents, places, kept)
        self.packed = self.packed.chosen(kept)

    def _survey(self) -> growth.Survey:
        listed = self.list_kernels(self.config.margin)
        wanted = self.observed.wanted(self.packed, listed, self.threads)
        return growth.survey(self.packed, listed, wanted, self.threads)

    def _resize(self, experts: int) -> None:
        """Grow by splits or prune by cost, in rounds that leave the rest time to adapt."""
        while len(self.packed.centres) != experts:
            n = len(self.packed.centres)
            found = self._survey()
            if experts > n:
                self.packed = growth.grown(self.packed, min(experts - n, max(1, n // 2)), found)
            else:
                self.packed = growth.pruned(self.packed, min(n - experts, max(1, n // 4)), found)

    def by_adam(self, rate: float = 1.0) -> Adam:
        """Adam from the kernels as they are, at such a part of the configuration's rates."""
        c, channels = self.config, self.packed.channels
        slopes = self.packed.experts.shape[1] - channels
        rates = np.array(
            [c.rate_centre] * 2 + [c.rate_shape] * 3 + [c.rate_prior]
            + [c.rate_colour] * channels + [c.rate_slope] * slopes
        )  # fmt: skip
        decays = (c.decay1, c.decay2)
        bounds, threads = self._bounds(), self.threads
        return Adam(self.observed, self.packed, rates=rate * rates, decays=decays, bounds=bounds, threads=threads)

    def _by_curvature(self, observed: Pixels) -> GaussNewton:
        return GaussNewton(observed, self.packed, gait=Gait(), bounds=self._bounds(), threads=self.threads)

    def _bounds(self) -> Bounds:
        height, width = self.target.shape[1:]
        longer = max(height, width)
        beyond = self.config.beyond * longer
        return Bounds(
            sharpest=self.config.sharpest,
            widest=2.0 / longer,
            right=width + beyond,
            bottom=height + beyond,
            left=-beyond,
            top=-beyond,
        )

    def _step_seconds(self) -> float:
        """How long a step lasts here, after what is compiled has been."""
        listed = self.list_kernels(self.config.margin)
        self.observed.error(self.packed, listed, self.threads)
        began = time.perf_counter()
        self.observed.error(self.packed, listed, self.threads)
        return max(_AROUND * (time.perf_counter() - began), 1e-6)

    def _error(self) -> float:
        """The mean squared error of what is drawn for a fit, not clipped."""
        picture, _ = cpu.forward(self.packed, self.list_kernels(self.config.margin), self.threads)
        return float(np.mean((picture - self.target) ** 2, dtype=np.float64))


def _decibels(mean_square: float) -> float:
    return -10.0 * math.log10(max(mean_square, 1e-12))
