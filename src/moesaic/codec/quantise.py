"""Parameters to integers and back, with steps chosen per picture.

The shape of a kernel, its factor L of the precision, is taken apart into three numbers whose errors matter alike in
every direction and for every shape: the logarithm of its size, log2 sqrt(l_xx l_yy); of its aspect, log2(l_xx / l_yy);
and its shear, l_yx / l_yy. (Aspect and shear are the half-plane coordinates of a precision of determinant 1; equal
steps in them are equal steps in the invariant metric of such matrices.) Centres are placed at a precision in proportion
to the kernel: y in steps of 1 / l_yy, then x in steps of 1 / l_xx, chosen so that x also makes up for the shear times
the error of y. Colours lie along the axes of grey, red-blue and green-magenta, orthonormal, so that equal steps make
equal errors; they are finer for large kernels, each of which covers more pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cache
from math import isqrt
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from moesaic.codec.container import Cursor, signed_varint, varint
from moesaic.codec.entropy import Ints
from moesaic.codec.positions import UNIT_BITS, Square
from moesaic.errors import ArgumentError, FormatError
from moesaic.mixture.model import Mixture

Floats: TypeAlias = npt.NDArray[np.float64]

FINE = 4096  # parts of an octave, of a nat and of shear in which steps are stated
COLOUR_BITS = 24  # colours are multiples of 2^-24
OCTAVES = 16  # sizes and aspects stay within 2^-16 and 2^16
SHEAR_MOST, PRIOR_MOST, _COLOUR_MOST = 2.0**12, 2.0**10, 16.0
_LEVELS_MOST = 2**16  # steps of one axis within a part

_GREY_RED_GREEN = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3.0], [2.0], [6.0]])  # orthonormal


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """The quantiser's steps, as integers: what a file states, and all that decoding needs.

    The defaults spend bits where they buy most on fits of Kodak pictures with 2,000 to 10,000 kernels: 40 to 44 bits a
    kernel, at a point where finer steps would cost more than the quality that further kernels give.
    """

    size: int = 384  # 1/4096 octave
    aspect: int = 828  # 1/4096 octave
    shear: int = 672  # 1/4096
    prior: int = 2464  # 1/4096 nat
    position: int = -10819  # log2 of the step over the kernel's extent, in 1/4096
    colour: int = -18919  # log2 of the step for a kernel of 1 px, in 1/4096
    tilt: int = 109  # how the colours' steps grow as kernels shrink: 1/256 octave an octave
    slope: int = 0  # log2 of a slope's step times the kernel's extent over the colour's step, in 1/4096

    def scaled(self, factor: float) -> Steps:
        """All steps times a factor."""
        if not 0 < factor < np.inf:
            raise ArgumentError(f"steps can be scaled by a positive number, not by {factor}")
        octaves = round(FINE * float(np.log2(factor)))
        return replace(
            self,
            size=max(1, round(self.size * factor)),
            aspect=max(1, round(self.aspect * factor)),
            shear=max(1, round(self.shear * factor)),
            prior=max(1, round(self.prior * factor)),
            position=self.position + octaves,
            colour=self.colour + octaves,
        )

    def check(self) -> Steps:
        """The steps themselves, when a file can state them.

        Raises:
            ArgumentError: one is out of range.
        """
        for name, (least, most) in _RANGES.items():
            if not least <= getattr(self, name) <= most:
                raise ArgumentError(f"the step {name}={getattr(self, name)} is outside {least} to {most}")
        return self

    def pack(self) -> bytes:
        """As bytes, for the quantiser's section."""
        return b"".join(
            varint(getattr(self, name)) if least >= 0 else signed_varint(getattr(self, name))
            for name, (least, _) in _RANGES.items()
        )

    @classmethod
    def unpack(cls, cursor: Cursor) -> Steps:
        """From bytes.

        Raises:
            FormatError: a step is out of range.
        """
        found = {
            name: cursor.unsigned(most) if least >= 0 else cursor.signed(most)
            for name, (least, most) in _RANGES.items()
        }
        try:
            return cls(**found).check()
        except ArgumentError as cause:
            raise FormatError(f"the quantiser's section is damaged: {cause}") from cause


_LOG = 24 * FINE
_RANGES = {f.name: (1, 64 * FINE) for f in fields(Steps)} | {
    "position": (-_LOG, _LOG),
    "colour": (-_LOG, _LOG),
    "tilt": (-1024, 1024),
    "slope": (-_LOG, _LOG),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernels:
    """A mixture in integers, in the order of its file."""

    x: Ints  # (N,), units of positions.Square
    y: Ints  # (N,)
    size: Ints  # (N,), steps
    aspect: Ints  # (N,)
    shear: Ints  # (N,)
    prior: Ints  # (N,)
    colours: Ints  # (N, C)
    slopes: Ints  # (N, 2 C) of order 1: along x, then along y; (N, 0) of order 0

    def __len__(self) -> int:
        return len(self.size)

    def __getitem__(self, which: slice | Ints | npt.NDArray[np.bool_]) -> Kernels:
        return Kernels(**{f.name: getattr(self, f.name)[which] for f in fields(self)})

    @classmethod
    def join(cls, parts: list[Kernels]) -> Kernels:
        """One after the other."""
        return cls(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)})


# --- exact powers of two ----------------------------------------------------------------------------------------------


@cache
def _octave() -> Ints:
    """2^(i / 256) in 30 bits, for i in 0..255, by integer square roots."""
    bits = 96
    root = 2 << bits
    for _ in range(8):
        root = isqrt(root << bits)
    values, value = [], 1 << bits
    for _ in range(256):
        values.append(value >> (bits - 30))
        value = value * root >> bits
    return np.array(values, np.int64)


def power(
    log2: Ints,  # in 1/4096
    bits: int,  # binary places of the result
) -> Ints:
    """2^(log2 / 4096) with so many binary places, from 1 to 2^62: integers from integers, alike everywhere."""
    shift = np.clip((log2 >> 12) + bits, -1, 61) - 30
    mantissa = _octave()[log2 >> 4 & 255]
    found: Ints = (mantissa << np.maximum(shift, 0)) >> np.maximum(-shift, 0)
    return np.maximum(found, 1)


# --- what the steps mean ----------------------------------------------------------------------------------------------


def colour_steps(steps: Steps, size: Ints, channels: int) -> Ints:  # (N, C), in 2^-24
    """The step of each kernel's colours; of alpha the same for all kernels, so that a constant stays one integer."""
    tilted = steps.colour + (size * steps.size * steps.tilt >> 8)
    columns = [tilted] * channels
    if channels in (2, 4):
        columns[-1] = np.full_like(size, steps.colour)
    return power(np.clip(np.stack(columns, 1), -COLOUR_BITS * FINE, 4 * FINE), COLOUR_BITS)


def slope_steps(steps: Steps, size: Ints) -> Ints:  # (N,), in 2^-24 per px
    """The step of each kernel's slopes: the colour's step over the kernel's extent."""
    log2 = steps.colour + steps.slope + (size * steps.size * (256 + steps.tilt) >> 8)
    return power(np.clip(log2, -COLOUR_BITS * FINE, 4 * FINE), COLOUR_BITS)


def usual_colours(channels: int) -> list[float]:
    """What to expect of a kernel's luma and chroma before any is known: middle grey, opaque."""
    return {1: [0.5], 2: [0.5, 1.0], 3: [0.75**0.5, 0.0, 0.0], 4: [0.75**0.5, 0.0, 0.0, 1.0]}[channels]


def axis_levels(steps: Steps, size: Ints, aspect: Ints, bits: Ints, *, across: bool) -> Ints:
    """Steps into which a part of 2^bits units is divided for a kernel, along x (`across`) or y."""
    half_aspect = (aspect * steps.aspect >> 1) * (1 if across else -1)
    log2 = (bits - UNIT_BITS) * FINE + size * steps.size + half_aspect - steps.position
    levels: Ints = power(np.clip(log2, -FINE, 17 * FINE), 1) + 1 >> 1  # rounded
    most: Ints = np.minimum(_LEVELS_MOST, 1 << np.clip(bits - 1, 0, 30))
    return np.maximum(np.minimum(levels, most), 1)


def colours_most(steps: Steps, size: Ints, channels: int) -> Ints:  # (N, C)
    """The largest integers that colours may be: those of 16."""
    return (16 << COLOUR_BITS) // colour_steps(steps, size, channels)


def check_ranges(kernels: Kernels, steps: Steps) -> None:
    """Raise when integers stand for shapes, priors or colours that no mixture of a picture has.

    Raises:
        FormatError: a kernel is degenerate: its size, aspect, shear, prior, colour or slope is out of range.
    """
    spans = {
        "size": (kernels.size * steps.size, OCTAVES * FINE),
        "aspect": (kernels.aspect * steps.aspect, OCTAVES * FINE),
        "shear": (kernels.shear * steps.shear, SHEAR_MOST * FINE),
        "prior": (kernels.prior * steps.prior, PRIOR_MOST * FINE),
    }
    for name, (values, most) in spans.items():
        if (np.abs(values) > most).any():
            raise FormatError(f"a kernel is degenerate: its {name} is out of range")
    if (np.abs(kernels.colours) > colours_most(steps, kernels.size, kernels.colours.shape[1])).any():
        raise FormatError("a kernel is degenerate: its colour is out of range")
    if kernels.slopes.size and (np.abs(kernels.slopes) > 2**20).any():
        raise FormatError("a kernel is degenerate: its slope is out of range")


def to_luma_chroma(colours: Floats) -> Floats:  # (..., C)
    """Red, green and blue to grey, red-blue and green-magenta; other channels, alpha among them, as they are."""
    if colours.shape[-1] < 3:
        return colours
    return np.concatenate([colours[..., :3] @ _GREY_RED_GREEN.T, colours[..., 3:]], -1)


def from_luma_chroma(colours: Floats) -> Floats:  # (..., C)
    """The inverse of `to_luma_chroma`."""
    if colours.shape[-1] < 3:
        return colours
    return np.concatenate([colours[..., :3] @ _GREY_RED_GREEN, colours[..., 3:]], -1)


# --- floats to integers -----------------------------------------------------------------------------------------------


def colour_integers(colours: Floats, size: Ints, steps: Steps) -> Ints:  # (N, C)
    """Colours in luma and chroma, rounded to each kernel's step."""
    step, most = colour_steps(steps, size, colours.shape[1]), colours_most(steps, size, colours.shape[1])
    clipped = np.clip(to_luma_chroma(colours), -_COLOUR_MOST, _COLOUR_MOST)
    return np.clip(nearest(clipped * 2.0**COLOUR_BITS / step), -most, most)


def slope_integers(slopes: Floats, size: Ints, steps: Steps) -> Ints:  # (N, C, 2) -> (N, 2 C)
    """Slopes in luma and chroma, rounded to each kernel's step."""
    along = np.concatenate([to_luma_chroma(slopes[..., 0]), to_luma_chroma(slopes[..., 1])], -1)
    codes = along * 2.0**COLOUR_BITS / slope_steps(steps, size)[:, None]
    return nearest(np.clip(codes, -(2.0**20), 2.0**20))


def nearest(values: Floats) -> Ints:
    """Rounded to integers."""
    return np.rint(values).astype(np.int64)


# --- integers to floats -----------------------------------------------------------------------------------------------


def factors_of(size: Ints, aspect: Ints, shear: Ints, steps: Steps) -> Floats:  # (N, 3)
    """Factors of the precision from their integers."""
    half = size * steps.size / FINE, aspect * steps.aspect / FINE / 2
    across, down = np.exp2(half[0] + half[1]), np.exp2(half[0] - half[1])
    lean = np.clip(shear * steps.shear / FINE * down, -(2.0**29), 2.0**29)
    return np.stack([across, lean, down], 1)


def dequantise(kernels: Kernels, steps: Steps, *, width: int, height: int) -> Mixture:
    """The mixture, float32, that integers stand for; values are finite and factors regular, whatever the integers."""
    square = Square.around(width, height)
    unit = 2.0**-UNIT_BITS
    centres = np.stack([kernels.x * unit + square.left, kernels.y * unit + square.top], 1)
    colour_step = colour_steps(steps, kernels.size, kernels.colours.shape[1])
    colours = from_luma_chroma(kernels.colours * (colour_step * 2.0**-COLOUR_BITS))
    slopes = None
    if kernels.slopes.shape[1]:
        scaled = kernels.slopes * (slope_steps(steps, kernels.size) * 2.0**-COLOUR_BITS)[:, None]
        slopes = np.stack([from_luma_chroma(half) for half in np.split(scaled, 2, axis=1)], -1)

    def tensor(values: npt.NDArray[np.floating]) -> torch.Tensor:
        return torch.from_numpy(values.astype(np.float32))

    return Mixture(
        centres=tensor(centres),
        factors=tensor(factors_of(kernels.size, kernels.aspect, kernels.shear, steps)),
        log_priors=tensor(kernels.prior * (steps.prior / FINE)),
        colours=tensor(colours),
        slopes=None if slopes is None else tensor(slopes),
        width=width,
        height=height,
    )
