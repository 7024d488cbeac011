"""fit_many(): mixtures from many pictures, all at once where there is a GPU for them."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from moesaic.errors import ArgumentError
from moesaic.mixture.fit import PIXELS_PER_EXPERT, STEPS, fit_pixels
from moesaic.mixture.fitting import FitConfig
from moesaic.mixture.model import Mixture
from moesaic.mixture.render import fitting_device

if TYPE_CHECKING:
    from moesaic.image import PictureSource

TOGETHER = 2**25  # px, of the pictures fitted at once: about as many as fit into 16 GiB with an expert for 40 of them


def fit_many(
    pictures: Sequence[PictureSource],
    *,
    experts: int | Sequence[int] | None = None,
    steps: int | None = None,
    order: int = 0,
    seed: int = 0,
    threads: int | None = None,
    config: FitConfig | None = None,
    device: str = "auto",
) -> list[Mixture]:
    """Fit a mixture to each of many pictures; on a GPU, pictures with as many channels are fitted together.

    Args:
        pictures: each whatever `moesaic.read_picture` takes; sizes may differ.
        experts: number of kernels of every picture, or one number each; without it one for every 40 pixels.
        steps: gradient steps; 700 when None.
        order: 0 for constant experts, 1 for experts linear in position.
        seed: of each picture's random start.
        threads: of the CPU backend, as for `moesaic.fit`.
        config: rates and rhythm.
        device: "cpu", "cuda" (also "cuda:1"), or "auto", as for `moesaic.fit`.

    Returns:
        The mixtures in the order of the pictures, on the CPU unless another device was named. Each is what
        `moesaic.fit` makes of its picture on that device, up to rounding.

    Raises:
        ArgumentError: a number is out of range, or experts and pictures differ in number.
        BackendError: a CUDA device was named and cannot be used.
        PictureError: a picture cannot be read.
    """
    from moesaic.image import read_picture

    if not isinstance(pictures, list | tuple):
        raise ArgumentError("fit_many takes a list of pictures; moesaic.fit takes one")
    wholes: dict[str, Any] = {"steps": (steps, 1), "seed": (seed, 0)}
    for name, (whole, least) in wholes.items():
        if (whole is not None or name == "seed") and (not isinstance(whole, int | np.integer) or whole < least):
            raise ArgumentError(f"{name} ({whole!r}) must be a whole number of at least {least}")
    if order not in (0, 1):
        raise ArgumentError(f"order ({order}) must be 0 (constant experts) or 1 (linear)")
    there = fitting_device(device)
    targets = []
    for picture in pictures:
        pixels = read_picture(picture).premultiplied().transpose(2, 0, 1)
        targets.append(np.ascontiguousarray(pixels, dtype=np.float32))
    numbers = _numbers(experts, targets)
    if there is None:
        alone: dict[str, Any] = {"steps": steps, "order": order, "seed": seed, "threads": threads, "config": config}
        return [fit_pixels(t, experts=n, device="cpu", **alone) for t, n in zip(targets, numbers, strict=True)]
    from moesaic.mixture.fit_gpu import Batch

    made: dict[int, Mixture] = {}
    for which in _groups(targets):
        batch = Batch(
            [targets[i] for i in which], [numbers[i] for i in which], order, seed, config or FitConfig(), there
        )
        fitted = batch.fit(steps=steps or STEPS, seconds=None)
        made |= dict(zip(which, fitted, strict=True))
    ordered = [made[i] for i in range(len(targets))]
    return [mixture.to(device="cpu") for mixture in ordered] if device == "auto" else ordered


def _numbers(experts: int | Sequence[int] | None, targets: list[NDArray[np.float32]]) -> list[int]:
    """Kernels of each picture, checked."""
    areas = [target.shape[1] * target.shape[2] for target in targets]
    if experts is None:
        return [max(1, round(area / PIXELS_PER_EXPERT)) for area in areas]
    try:
        numbers = [operator.index(n) for n in (experts if isinstance(experts, Sequence) else [experts] * len(areas))]
    except TypeError as cause:
        raise ArgumentError(f"experts ({experts!r}) must be a whole number, or one for each picture") from cause
    if len(numbers) != len(areas):
        raise ArgumentError(f"experts holds {len(numbers)} numbers for {len(areas)} pictures")
    for number, area in zip(numbers, areas, strict=True):
        if not 1 <= number <= max(64, 4 * area):
            raise ArgumentError(f"experts ({number}) must lie between 1 and {max(64, 4 * area)} for {area} pixels")
    return numbers


def _groups(targets: list[NDArray[np.float32]]) -> Iterator[list[int]]:
    """Pictures to fit together, by position: of as many channels, and not too many pixels."""
    for channels in sorted({len(target) for target in targets}):
        group: list[int] = []
        held = 0
        for i, target in enumerate(targets):
            if len(target) != channels:
                continue
            area = target.shape[1] * target.shape[2]
            if group and held + area > TOGETHER:
                yield group
                group, held = [], 0
            group.append(i)
            held += area
        if group:
            yield group
