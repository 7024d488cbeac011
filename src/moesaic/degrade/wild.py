"""The second-order chain: blur, size, noise and JPEG, and all of it once more, as pictures meet them on their way.

Source:
    Wang et al. 2021, "Real-ESRGAN: training real-world blind super-resolution with pure synthetic data"; at severity 1
    the ranges are those of its published settings. Its Poisson noise is taken in the normal approximation.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from moesaic.degrade import codec, filters
from moesaic.degrade.bases import smaller
from moesaic.degrade.told import MAX_SEED, Told, rounded
from moesaic.errors import ArgumentError, LimitError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

Step = dict[str, Any]

METHODS = ("area", "bilinear", "bicubic")
SHAPES = ("bell", "generalised", "plateau")  # of blur kernels
_SHARES = (0.70, 0.15, 0.15)  # of the shapes; of each, about four in five are round
_ROUND = 0.8
LARGEST = 2**28  # px of a picture on its way
COUNTS = 256  # photons of a white pixel, for Poisson noise of strength 1


def draw_steps(rng: np.random.Generator, height: int, width: int, severity: float, shrink: int) -> list[Step]:
    """The steps of one picture of height and width px, which ends at 1 / `shrink` of its size."""
    end = smaller(height, shrink), smaller(width, shrink)
    s = severity
    steps = [_draw_blur(rng, 0.2 + 2.8 * s)]
    steps.append(_draw_resize(rng, (height, width), (0.2, 0.7), 1 - 0.85 * s, 1 + 0.5 * s))
    steps.append(_draw_noise(rng, 1 + 29 * s, 0.05 + 2.95 * s))
    steps.append(_draw_jpeg(rng, s))
    if rng.random() < 0.8:
        steps.append(_draw_blur(rng, 0.2 + 1.3 * s))
    steps.append(_draw_resize(rng, end, (0.3, 0.4), 1 - 0.7 * s, 1 + 0.2 * s))
    steps.append(_draw_noise(rng, 1 + 24 * s, 0.05 + 2.45 * s))
    last: list[Step] = [{"step": "resize", "height": end[0], "width": end[1], "method": _method(rng)}]
    if rng.random() < 0.8:
        last.append(_draw_sinc(rng, math.pi / 3))
    shared = [_draw_jpeg(rng, s)]
    return steps + (last + shared if rng.random() < 0.5 else shared + last)


def _draw_blur(rng: np.random.Generator, widest: float) -> Step:
    size = 7 + 2 * int(rng.integers(8))
    if rng.random() < 0.1:
        return _draw_sinc(rng, math.pi / 3 if size < 13 else math.pi / 5, size)
    shape = SHAPES[int(rng.choice(len(SHAPES), p=_SHARES))]
    wide = rounded(rng.uniform(0.2, widest))
    narrow = wide if rng.random() < _ROUND else rounded(rng.uniform(0.2, widest))
    power = {"bell": 1.0, "generalised": rng.uniform(0.5, 4), "plateau": rng.uniform(1, 2)}[shape]
    turn = rounded(rng.uniform(-math.pi, math.pi))
    return {
        "step": "blur",
        "shape": shape,
        "size": size,
        "sigmas": [wide, narrow],
        "turn": turn,
        "power": rounded(power),
    }


def _draw_sinc(rng: np.random.Generator, lowest: float, size: int | None = None) -> Step:
    size = 7 + 2 * int(rng.integers(8)) if size is None else size
    return {"step": "sinc", "size": size, "cutoff": rounded(rng.uniform(lowest, math.pi))}


def _draw_resize(
    rng: np.random.Generator, base: tuple[int, int], shares: tuple[float, float], low: float, high: float
) -> Step:
    chance = rng.random()
    scale = 1.0
    if chance < shares[0]:
        scale = rng.uniform(1, high)
    elif chance < sum(shares):
        scale = rng.uniform(low, 1)
    height, width = (smaller(side, 1 / scale) for side in base)
    return {"step": "resize", "height": height, "width": width, "method": _method(rng)}


def _draw_noise(rng: np.random.Generator, sigma: float, strength: float) -> Step:
    seed, grey = int(rng.integers(MAX_SEED, endpoint=True)), bool(rng.random() < 0.4)
    if rng.random() < 0.5:
        return {"step": "noise", "sigma": rounded(rng.uniform(1, sigma)), "grey": grey, "seed": seed}
    return {"step": "poisson", "strength": rounded(rng.uniform(0.05, strength)), "grey": grey, "seed": seed}


def _draw_jpeg(rng: np.random.Generator, severity: float) -> Step:
    return {"step": "jpeg", "quality": round(rng.uniform(95 - 65 * severity, 95))}


def _method(rng: np.random.Generator) -> str:
    return METHODS[int(rng.integers(len(METHODS)))]


def apply_steps(x: Array, steps: list[Told]) -> Array:
    """A picture (H, W, 3) after the steps, in [0, 1] and on the levels of 8 bits."""
    for told in steps:
        x = _apply(x, told)
    return np.floor(np.clip(x, 0, 1) * 255 + 0.5) / 255


def _apply(x: Array, told: Told) -> Array:
    name = told.one_of("step", ("blur", "sinc", "resize", "noise", "poisson", "jpeg"))
    if name in ("blur", "sinc"):
        x = filters.convolve(x, step_kernel(name, told))
    elif name == "resize":
        x = filters.resize(x, *step_size(told))
    elif name == "jpeg":
        x = codec.jpeg(x, step_quality(told))
    else:
        grey, amount = told.flag("grey"), step_amount(name, told)
        noise = np.random.default_rng(told.seed()).standard_normal((*x.shape[:2], 1 if grey else 3))
        light = x.mean(2, keepdims=True) if grey else x
        deviation = amount if name == "noise" else amount * np.sqrt(np.clip(light, 0, 1) / COUNTS)
        x = np.clip(x + deviation * noise, 0, 1)
    told.done()
    return x


def step_kernel(name: str, told: Told) -> Array:
    """The kernel (K, K), of sum 1, of a step "blur" or "sinc"."""
    size = told.whole("size", 1, 51)
    if size % 2 == 0:
        raise ArgumentError(f"wild: 'size' is an odd number of px, not {size}: an even kernel would shift the picture")
    places: Array = np.arange(size) - np.float64((size - 1) / 2)
    if name == "sinc":
        return _sinc(places, told.number("cutoff", 0.01, math.pi))
    shape, power, turn = told.one_of("shape", SHAPES), told.number("power", 0.1, 8), told.number("turn", -7, 7)
    first, second = told.numbers("sigmas", 2, 0.01, 50)
    along = places * math.cos(turn) + places[:, None] * math.sin(turn)
    across = places[:, None] * math.cos(turn) - places * math.sin(turn)
    distance = ((along / first) ** 2 + (across / second) ** 2) ** power
    return _of_sum_1(1 / (1 + distance) if shape == "plateau" else np.exp(-0.5 * distance))


def _sinc(places: Array, cutoff: float) -> Array:
    """The kernel of an ideal round low-pass filter, which rings at edges as sharpened pictures do."""
    distance = np.maximum(np.sqrt(places[:, None] ** 2 + places**2), 1e-6)
    angles = (np.arange(256) + 0.5) * (np.pi / 256)
    # the Bessel function J1 by its integral, which the midpoint rule takes to the last digits
    bessel = np.cos(angles - cutoff * distance[..., None] * np.sin(angles)).mean(2)
    return _of_sum_1(cutoff * bessel / (2 * np.pi * distance))


def _of_sum_1(kernel: Array) -> Array:
    total = float(kernel.sum())
    if not abs(total) > 1e-9:
        raise ArgumentError("wild: the sum of the kernel is 0; take another size, cutoff or sigmas")
    summed: Array = kernel / total
    return summed


def step_size(told: Told) -> tuple[int, int, str]:
    """Height and width, px, and the method of a step "resize"."""
    height, width = told.whole("height", 1, 2**16), told.whole("width", 1, 2**16)
    if height * width > LARGEST:
        raise LimitError(f"wild: a step resizes to {width}x{height} px, above the limit of {LARGEST} px")
    return height, width, told.one_of("method", METHODS)


def step_quality(told: Told) -> int:
    """The quality of a step "jpeg"."""
    return told.whole("quality", 1, 100)


def step_amount(name: str, told: Told) -> float:
    """The deviation of a step "noise" in [0, 1], or what that of a step "poisson" is multiplied by."""
    return told.number("sigma", 0, 255) / 255 if name == "noise" else told.number("strength", 0, 100)
