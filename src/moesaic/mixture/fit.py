"""fit(): a mixture from pixels, for a number of experts, a PSNR to reach, or a time to spend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from moesaic.errors import ArgumentError
from moesaic.mixture.backends.threads import MOST_THREADS, default_threads
from moesaic.mixture.fitting import Callback, FitConfig, Fitting
from moesaic.mixture.model import Mixture
from moesaic.mixture.observed import Pixels
from moesaic.mixture.render import check, fitting_device
from moesaic.values import is_a

if TYPE_CHECKING:
    from moesaic.image import PictureSource

STEPS = 700  # of gradient descent, when neither steps nor seconds are given
LONGEST = 1e9  # s
PIXELS_PER_EXPERT = 40  # when nothing is asked for: about one bit per pixel in a file


def fit(
    picture: PictureSource,
    *,
    experts: int | None = None,
    psnr: float | None = None,
    seconds: float | None = None,
    steps: int | None = None,
    order: int = 0,
    seed: int = 0,
    threads: int | None = None,
    progress: Callback | None = None,
    config: FitConfig | None = None,
    device: str = "auto",
    begin: Mixture | None = None,
) -> Mixture:
    """Fit a mixture to a picture.

    Args:
        picture: a path, Pillow image, array or tensor; whatever `moesaic.read_picture` takes.
        experts: number of kernels. Without experts and psnr, one for every 40 pixels.
        psnr: dB to reach with as few experts as a short search finds, instead of a number of experts.
        seconds: time to spend, by the clock; the result then depends on the machine's speed.
        steps: gradient steps instead of a time; with neither, 700.
        order: 0 for constant experts, 1 for experts linear in position.
        seed: of the random start; the same seed, steps and machine give the same bytes.
        threads: of the CPU backend; as many as the process may use when None. Does not change the result.
        progress: called after each step; returning True ends the fit early with what there is.
        config: rates and rhythm.
        device: "cpu", "cuda" (also "cuda:1"), or "auto": a CUDA device where the GPU backend runs, for all but a psnr.
            On a GPU a progress callback is told only every few steps.
        begin: a mixture to go on from, on the picture's canvas, such as `moesaic.predict` gives, instead of fresh
            kernels; `experts` are then as many as it has or fewer, and the least useful go. On the CPU, not for a psnr.

    Returns:
        The mixture on the picture's canvas, float32; with alpha its colours are premultiplied. It is on the CPU unless
        another device was named.

    Raises:
        ArgumentError: a number is out of range, both experts and psnr are given, or a psnr and a CUDA device; `begin`
            does not fit the picture or the other options.
        BackendError: a CUDA device was named and cannot be used.
        LimitError: the PSNR is not reached with one expert for every two pixels.
        PictureError: the picture cannot be read.

    Source: docs/fitting.md; the normalised mixture of arXiv 2510.05814 with a start, moves and steps of our own.
    """
    from moesaic.image import read_picture

    read = read_picture(picture)
    target = np.ascontiguousarray(read.premultiplied().transpose(2, 0, 1), dtype=np.float32)
    return fit_pixels(
        target,
        experts=experts,
        psnr=psnr,
        seconds=seconds,
        steps=steps,
        order=order,
        seed=seed,
        threads=threads,
        progress=progress,
        config=config,
        device=device,
        begin=begin,
    )


def fit_pixels(
    target: NDArray[np.float32],  # (C, H, W), premultiplied
    *,
    experts: int | None = None,
    psnr: float | None = None,
    seconds: float | None = None,
    steps: int | None = None,
    order: int = 0,
    seed: int = 0,
    threads: int | None = None,
    progress: Callback | None = None,
    config: FitConfig | None = None,
    device: str = "auto",
    begin: Mixture | None = None,
) -> Mixture:
    """`fit` for pixels that have been read already; see there."""
    pixels = target.shape[1] * target.shape[2]
    for name, whole in {"experts": experts, "steps": steps, "seed": seed, "threads": threads}.items():
        if whole is not None and not isinstance(whole, int | np.integer):
            raise ArgumentError(f"{name} ({whole!r}) must be a whole number")
    for name, number in {"psnr": psnr, "seconds": seconds}.items():
        if number is not None and not isinstance(number, int | float | np.number):
            raise ArgumentError(f"{name} ({number!r}) must be a number")
    if experts is not None and psnr is not None:
        raise ArgumentError("give experts or psnr, not both: a PSNR decides the number of experts")
    if experts is not None and not 1 <= experts <= max(64, 4 * pixels):
        raise ArgumentError(f"experts ({experts}) must lie between 1 and {max(64, 4 * pixels)} for {pixels} pixels")
    if psnr is not None and not 0.0 < psnr <= 100.0:
        raise ArgumentError(f"psnr ({psnr}) must lie between 0 and 100 dB")
    if seconds is not None and not 0.0 < seconds <= LONGEST:
        raise ArgumentError(f"seconds ({seconds}) must lie above 0, and not above {LONGEST:g}")
    if steps is not None and seconds is not None:
        raise ArgumentError("give steps or seconds, not both")
    if steps is not None and steps < 1:
        raise ArgumentError(f"steps ({steps}) must be at least 1")
    if seed < 0:
        raise ArgumentError(f"seed ({seed}) must not be negative")
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise ArgumentError(f"threads ({threads}) must lie between 1 and {MOST_THREADS}")
    if progress is not None and not callable(progress):
        raise ArgumentError(f"progress is a function, not {type(progress).__name__}")
    if order not in (0, 1):
        raise ArgumentError(f"order ({order}) must be 0 (constant experts) or 1 (linear)")
    if psnr is not None and device not in ("auto", "cpu"):
        raise ArgumentError(f"device {device!r} cannot search for a psnr: give a number of experts, or device='cpu'")
    if begin is not None:
        _check_begin(begin, target, experts, psnr, order, device)
        device = "cpu"
    wanted = experts or (max(1, round(pixels / PIXELS_PER_EXPERT)) if begin is None else len(begin))
    spend: dict[str, Any] = {"steps": None if seconds else steps or STEPS, "seconds": seconds}
    there = fitting_device(device) if psnr is None else None
    if there is not None:
        from moesaic.mixture.fit_gpu import Batch

        (fitted,) = Batch([target], [wanted], order, seed, config or FitConfig(), there, progress).fit(**spend)
        return fitted.to(device="cpu") if device == "auto" else fitted
    search = Fitting(target, order, seed, threads or default_threads(), progress, config or FitConfig(), Pixels(target))
    if begin is not None:
        search.go_on(begin, wanted, **spend)
    elif psnr is None:
        search.fit(wanted, **spend)
    else:
        search.reach(psnr, steps or STEPS, seconds)
    return search.mixture()


def _check_begin(
    begin: Mixture,
    target: NDArray[np.float32],
    experts: int | None,
    psnr: float | None,
    order: int,
    device: str,
) -> None:
    if not is_a(begin, Mixture):
        raise ArgumentError(f"begin is a Mixture, not {type(begin).__name__}")
    if psnr is not None:
        raise ArgumentError("give begin or psnr, not both: a PSNR is searched for with fresh kernels")
    if device not in ("auto", "cpu"):
        raise ArgumentError(f"device {device!r} cannot go on from a mixture: use device='cpu'")
    has, wanted = (begin.channels, begin.height, begin.width), target.shape
    if has != wanted:
        raise ArgumentError(f"begin has channels, height and width {has}, the picture {wanted}: they must agree")
    if begin.order != order:
        raise ArgumentError(f"begin has experts of order {begin.order}, order says {order}: they must agree")
    if experts is not None and experts > len(begin):
        raise ArgumentError(f"experts ({experts}) must not be more than the {len(begin)} of begin")
    check(begin)
