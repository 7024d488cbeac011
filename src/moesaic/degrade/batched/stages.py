"""Each kind for the pictures of a batch that it falls on, with parameters and random fields drawn on their device."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from moesaic.degrade.batched import codec, depth, optics, sensor, weather
from moesaic.degrade.ranges import (
    DEPTH_MODES,
    GRAIN,
    GRAIN_QUALITY,
    PATH_POINTS,
    RAIN_LAYERS,
    RANGES,
    SNOW_LAYERS,
    STREAK_REACH,
)

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """The pictures of a batch that one kind falls on, and what its parameters follow from."""

    x: Tensor  # (n, 3, H, W)
    severity: Tensor  # (n,), on the pictures' device
    choice: list[float]  # n, uniform in [0, 1): what decides between ways to compute, known without waiting for a GPU
    strength: list[float]  # n, the severities again, for the same reason
    alone: list[bool]  # n, whether nothing else falls on the picture
    fields: torch.Generator  # on the pictures' device

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Uniform numbers (n, *shape)."""
        drawn = torch.rand((len(self.x), *shape), generator=self.fields, device=self.x.device)
        return low + (high - low) * drawn

    def normal(self, *shape: int) -> Tensor:
        """Normal numbers (n, *shape)."""
        return torch.randn((len(self.x), *shape), generator=self.fields, device=self.x.device)

    def at(self, kind: str, name: str) -> Tensor:
        """A parameter (n,) at the pictures' severities."""
        mild, strong = RANGES[kind][name]
        return mild + self.severity * (strong - mild)

    def picked(self, which: list[bool]) -> Tensor:
        """Places (m,) of those for which it is true."""
        return torch.tensor([i for i, wanted in enumerate(which) if wanted], device=self.x.device, dtype=torch.int64)


def noise(part: Part) -> Tensor:
    """Gaussian noise; half of the pictures with nothing else keep what lies outside [0, 1]."""
    noisy = sensor.gaussian(part.x, part.normal(*part.x.shape[1:]), part.at("noise", "sigma"))
    clipped = part.picked([c < 0.5 or not alone for c, alone in zip(part.choice, part.alone, strict=True)])
    return noisy.index_copy(0, clipped, noisy[clipped].clamp(0, 1))


def grain(part: Part) -> Tensor:
    """Noise that channels and neighbours share; in a third of the pictures it has gone through a camera's JPEG."""
    families = [min(int(len(GRAIN) * c), len(GRAIN) - 1) for c in part.choice]
    ends = torch.tensor([list(GRAIN.values())[family] for family in families], device=part.x.device)  # (n, 2, 2)
    common, width = (ends[:, i, 0] + part.uniform() * (ends[:, i, 1] - ends[:, i, 0]) for i in (0, 1))
    field = sensor.grain(part.normal(4, *part.x.shape[2:]), common, width)
    noisy = sensor.gaussian(part.x, field, part.at("grain", "sigma")).clamp(0, 1)
    least, most = GRAIN_QUALITY
    names = list(GRAIN)
    # within its third, the same number that chose the family chooses the quality
    quality = {
        i: round(least + (len(GRAIN) * c - family) * (most - least))
        for i, (c, family) in enumerate(zip(part.choice, families, strict=True))
        if names[family] == "camera"
    }
    if not quality:
        return noisy
    places = torch.tensor(list(quality), device=part.x.device)
    return noisy.index_copy(0, places, codec.jpeg(noisy[places], list(quality.values())))


def poisson(part: Part) -> Tensor:
    """Noise that grows with the light."""
    return sensor.poisson(
        part.x, part.normal(*part.x.shape[1:]), part.at("poisson", "gain"), part.at("poisson", "read")
    )


def low_light(part: Part) -> Tensor:
    """Too little light, then the sensor's noise."""
    dark = sensor.darken(part.x, part.uniform(low=0.9), part.uniform(low=0.5), part.at("low_light", "power"))
    return sensor.poisson(
        dark, part.normal(*part.x.shape[1:]), part.at("low_light", "gain"), part.at("low_light", "read")
    )


def rain(part: Part) -> Tensor:
    """A few streaks of one direction."""
    return _rain(part, "rain", torch.zeros_like(part.severity))


def heavy_rain(part: Part) -> Tensor:
    """Streaks of several directions and sizes, and the veil of those too far to be seen."""
    return _rain(part, "heavy_rain", part.at("heavy_rain", "veil"))


def _rain(part: Part, kind: str, veil: Tensor) -> Tensor:
    layers = RAIN_LAYERS[kind]
    nearness = 0.6 + 0.4 * part.uniform(layers)
    angle = part.normal(1) * math.radians(15) + part.normal(layers) * math.radians(5)
    kernels = weather.particle_kernels(
        part.at(kind, "length")[:, None] * nearness,
        angle,
        part.uniform(layers, low=0.4, high=0.9),
        torch.ones_like(nearness),
    )
    density = part.at(kind, "density")[:, None].expand(-1, layers)
    streaks = weather.particles(_seeds(part, layers), density, kernels)
    return weather.rain(part.x, streaks, part.at(kind, "gain"), veil, part.uniform(low=0.6, high=0.9))


def snow(part: Part) -> Tensor:
    """Flakes of several sizes, each with a short motion."""
    sizes = torch.linspace(0.5, 1.5, SNOW_LAYERS, device=part.x.device)
    radius = part.at("snow", "radius")[:, None] * sizes
    angle = part.normal(1) * math.radians(25) + part.normal(SNOW_LAYERS) * math.radians(10)
    kernels = weather.particle_kernels(part.uniform(SNOW_LAYERS) * 3 * radius, angle, radius, radius + 0.5)
    density = part.at("snow", "density")[:, None] / sizes.square()
    mask = weather.particles(_seeds(part, SNOW_LAYERS), density, kernels)
    return weather.snow(part.x, mask, part.uniform(low=0.85))


def _seeds(part: Part, layers: int) -> Tensor:
    height, width = part.x.shape[-2:]
    return part.uniform(layers, height + 2 * STREAK_REACH, width + 2 * STREAK_REACH)


def haze(part: Part) -> Tensor:
    """Haze over depths of three families; the crop is a part of a larger scene."""
    shape = (part.x.shape[2], part.x.shape[3])
    side = part.uniform(1, low=0.25)
    window = torch.cat([part.uniform(2) * (1 - side), side], 1)
    far = depth.plane_depth(
        shape,
        part.normal() * math.radians(8),
        part.uniform(low=-0.3, high=0.1),
        part.uniform(low=0.1, high=0.5),
        window,
    )
    smooth = part.picked([0.4 <= c < 0.7 for c in part.choice])
    fields = depth.field_depth(shape, part.normal(DEPTH_MODES, DEPTH_MODES), window)
    far = far.index_copy(0, smooth, fields[smooth])
    if any(coloured := [c >= 0.7 for c in part.choice]):
        places = part.picked(coloured)
        far = far.index_copy(0, places, depth.colour_depth(part.x[places]))
    airlight = (part.uniform(1, low=0.7) + part.uniform(3, low=-0.03, high=0.03)).clamp(0, 1)
    return weather.haze(part.x, far, part.at("haze", "beta"), airlight)


def motion_blur(part: Part) -> Tensor:
    """A camera that moves: straight for half of the pictures, and a little noise of the sensor."""
    length = part.at("motion_blur", "length")
    walks = optics.walk_paths(length, part.normal(PATH_POINTS, 2))
    straight = part.picked([c < 0.5 for c in part.choice])
    lines = optics.line_paths(length, part.uniform(high=math.pi))
    paths = walks.index_copy(0, straight, lines[straight])
    blurred = optics.blur(part.x, optics.path_kernels(paths))
    noisy = sensor.gaussian(blurred, part.normal(*part.x.shape[1:]), part.uniform(low=1, high=3))
    return noisy.clamp(0, 1)


def defocus(part: Part) -> Tensor:
    """A lens out of focus: discs for two pictures of three, else Gaussians of the same second moment."""
    radius = part.at("defocus", "radius")
    kernels = optics.disc_kernels(radius)
    soft = part.picked([c >= 2 / 3 for c in part.choice])
    return optics.blur(part.x, kernels.index_copy(0, soft, optics.bell_kernels(radius / 2)[soft]))


def resize(part: Part) -> Tensor:
    """A smaller size and back; steps of 1/8 keep the number of tables small."""
    mild, strong = RANGES["resize"]["scale"]
    return codec.shrink_and_enlarge(part.x, [round(8 * (mild + s * (strong - mild))) / 8 for s in part.strength])


def jpeg(part: Part) -> Tensor:
    """JPEG with chroma at half the size."""
    mild, strong = RANGES["jpeg"]["quality"]
    return codec.jpeg(part.x, [round(mild + s * (strong - mild)) for s in part.strength])


STAGES: dict[str, Callable[[Part], Tensor]] = {
    "haze": haze,
    "rain": rain,
    "heavy_rain": heavy_rain,
    "snow": snow,
    "motion_blur": motion_blur,
    "defocus": defocus,
    "low_light": low_light,
    "poisson": poisson,
    "noise": noise,
    "grain": grain,
    "resize": resize,
    "jpeg": jpeg,
}
"""What to call for each kind of `moesaic.degrade.ranges.ORDER`."""
