"""From a picture to kernels, stage by stage: new ones where the most is missing, and all of them corrected."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

from moesaic.errors import ArgumentError
from moesaic.mixture import start
from moesaic.mixture.backends.cpu import Packed
from moesaic.mixture.colours import solve
from moesaic.mixture.render import draw
from moesaic.predict.shapes import COLOUR, RAW, Geometry, geometry
from moesaic.predict.views import at, maps, own, sampled, windows
from moesaic.values import is_a, is_number

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from moesaic.predict.network import MixturePredictor

SHARES = (0.6, 1.0, 1.0)
"""Of all kernels, how many there are after each stage; a stage that adds none corrects those that are there."""

COARSE = 80.0  # px of the canvas for each kernel, beyond which the network sees the picture at half the size
_POWER = 0.65  # of what is missing, squared, in the density of new kernels: as a start's power of the gradient
_EVEN = 0.05  # share of the new kernels that are spread evenly
_LOUD = 30.0  # of slopes: most are far below 1
_DAMPING = 0.05  # of the colours in closed form, px


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernels:
    """N kernels on a canvas, as they stand after a stage."""

    places: Tensor  # (N, 2), px, from which they move
    spacing: Tensor  # (N,), px
    raw: Tensor  # (N, RAW)
    colours: Tensor  # (N, 3)
    stage: Tensor  # (N,) int64, in which each was placed
    down: Tensor  # (N, RAW + 1), which way the error falls, and the gate's mass; zeros for new ones

    def __len__(self) -> int:
        return len(self.places)

    @property
    def geometry(self) -> Geometry:
        """Centres, factors and log priors."""
        return geometry(self.raw, self.places, self.spacing)

    def drawn(self, size: tuple[int, int]) -> Tensor:  # (3, H, W)
        """The picture that they show, at (width, height) px; with gradients for raw numbers and colours."""
        centres, factors, log_priors = self.geometry
        backend = "gpu" if centres.is_cuda else "cpu"
        return draw(centres.double(), factors, log_priors, self.colours, *size, 0, backend=backend)

    def packed(self) -> Packed:
        """As the CPU's loops take them."""
        centres, factors, log_priors = (value.detach().cpu() for value in self.geometry)
        shape = torch.cat([factors, log_priors[:, None]], dim=1).contiguous()
        return Packed(centres.double().numpy(), shape.numpy(), self.colours.detach().cpu().contiguous().numpy(), 3, 0)


def checked_shares(shares: Any) -> tuple[float, ...]:
    """The shares of stages, see `SHARES`.

    Raises:
        ArgumentError: they are none.
    """
    listed = is_a(shares, tuple, list) and len(shares) > 0 and all(is_number(one) and 0 < one <= 1 for one in shares)
    if not listed or sorted(shares) != list(shares) or shares[-1] != 1:
        raise ArgumentError(f"shares {shares!r} must be numbers above 0 that never fall, and end with 1")
    return tuple(shares)


def totals(experts: int, shares: Sequence[float] = SHARES) -> list[int]:
    """How many kernels there are after each stage."""
    return [min(experts, max(1, math.ceil(share * experts))) for share in shares[:-1]] + [experts]


def halvings(experts: int, pixels: int) -> int:
    """How often the picture is halved for the network: fewer kernels see a coarser picture."""
    return max(0, math.ceil(math.log(pixels / (experts * COARSE), 4))) if pixels > experts * COARSE else 0


def stages(
    network: MixturePredictor,
    picture: Tensor,  # (3, H, W), float32
    experts: int,
    random: np.random.Generator,
    *,
    shares: Sequence[float] = SHARES,
    colours: int = 4,
) -> Iterator[tuple[Kernels, Tensor]]:
    """The kernels after each stage, with gradients of that stage alone, and the picture that they show.

    Without gradients under `torch.no_grad`; not under `inference_mode`, as slopes are found by going backward.

    Args:
        network: says how each kernel changes.
        picture: the canvas.
        experts: kernels in the end.
        random: of the places.
        shares: see `SHARES`.
        colours: steps of conjugate gradients on the colours after each stage; 0: as the network says.
    """
    height, width = picture.shape[1:]
    level = halvings(experts, height * width)
    seen = picture if not level else F.avg_pool2d(picture[None], 2**level, ceil_mode=True, count_include_pad=False)[0]
    kernels: Kernels | None = None
    drawn: Tensor | None = None
    for stage, (before, after) in enumerate(pairwise([0, *totals(experts, shares)])):
        if kernels is not None:
            kernels, _ = sloped(kernels, picture)
        kernels = placed(picture, drawn, kernels, after - before, stage, random)
        shown = _shrunk(drawn, level)
        features = network.look(maps(seen, shown, kernels.geometry.centres.detach() / 2**level), stage)[0].float()
        kernels = changed(network, features, seen, shown, kernels, stage, 2**level)
        if colours:
            kernels = coloured(kernels, picture, colours)
        found = kernels.drawn((width, height))
        yield kernels, found
        kernels, drawn = detached(kernels), found.detach()


def placed(
    picture: Tensor,  # (3, H, W)
    drawn: Tensor | None,
    kernels: Kernels | None,
    count: int,
    stage: int,
    random: np.random.Generator,
) -> Kernels:
    """Some more kernels: by the picture's detail at first, later where the most is missing."""
    if kernels is not None and not count:
        return kernels
    pixels = picture.detach().cpu().numpy()
    wanted = start.density(pixels) if drawn is None else _missing(pixels, drawn.detach().cpu().numpy())
    found = start.scatter(wanted, count, random)
    columns, rows = torch.from_numpy(found.columns), torch.from_numpy(found.rows)
    places = torch.stack([columns, rows], dim=1).float() + torch.from_numpy(random.uniform(size=(count, 2))).float()
    spacing = torch.from_numpy(found.spacing).float().clamp(0.7, max(pixels.shape[1:]))
    places, spacing = places.to(picture.device), spacing.to(picture.device)
    mine = Kernels(
        places=places,
        spacing=spacing,
        raw=picture.new_zeros(count, RAW),
        colours=sampled(picture, places),
        stage=torch.full((count,), stage, device=picture.device),
        down=picture.new_zeros(count, RAW + 1),
    )
    return mine if kernels is None else joined(kernels, mine)


def changed(
    network: MixturePredictor,
    features: Tensor,  # (width, h / 8, w / 8), what the network knows of each patch
    seen: Tensor,  # (3, h, w), the picture at the size at which the network sees it
    drawn: Tensor | None,  # (3, h, w)
    kernels: Kernels,
    stage: int,
    factor: int,
) -> Kernels:
    """The kernels as the network changes them, with the colours that it says."""
    centres, spacing = kernels.geometry.centres.detach() / factor, kernels.spacing / factor
    change = network.say(
        at(features, centres),
        windows(seen, drawn, centres, spacing),
        own(centres, spacing, kernels.raw, kernels.stage == stage, kernels.down),
    )
    return replace(kernels, raw=kernels.raw + change, colours=kernels.colours + change[:, COLOUR])


def coloured(
    kernels: Kernels,
    picture: Tensor,  # (3, H, W)
    steps: int,
) -> Kernels:
    """With the colours that bring them closest to the picture; no gradients go through them.

    At the best colours the loss does not change with them, so its gradient by the geometry is the same with and without
    (Golub and Pereyra 1973, variable projection).
    """
    target = np.ascontiguousarray(picture.detach().cpu().numpy())
    found = solve(kernels.packed(), target, steps=steps, damping=_DAMPING)
    return replace(kernels, colours=torch.from_numpy(found).to(picture.device))


def sloped(
    kernels: Kernels,
    picture: Tensor,  # (3, H, W)
) -> tuple[Kernels, Tensor]:
    """With the way in which the squared error falls by each raw number, over the kernel's mass; and what they show."""
    with torch.enable_grad():
        raw = kernels.raw.detach().requires_grad_()
        colours = kernels.colours.detach().requires_grad_()
        ones = torch.ones_like(colours[:, :1]).requires_grad_()
        here = replace(kernels, raw=raw, colours=torch.cat([colours, ones], dim=1))
        drawn = here.drawn((picture.shape[2], picture.shape[1]))
        error = (drawn[:3] - picture).square().sum() / 2
        by_raw, by_colour = torch.autograd.grad(error, (raw, colours), retain_graph=True)
        (mass,) = torch.autograd.grad(drawn[3].sum(), ones)
    # of a kernel whose gate is a Gaussian, mass is the pixels that it owns: what is over it is a mean over these pixels
    by_raw = torch.cat([by_raw[:, : COLOUR.start], by_colour], dim=1)
    slope = torch.tanh(-_LOUD * by_raw / (mass + 1.0))
    down = torch.cat([slope, (mass / kernels.spacing[:, None] ** 2 + 0.01).log()], dim=1)
    return replace(kernels, down=down), drawn[:3].detach()


def joined(a: Kernels, b: Kernels) -> Kernels:
    """Both."""
    names = ("places", "spacing", "raw", "colours", "stage", "down")
    return Kernels(**{name: torch.cat([getattr(a, name), getattr(b, name)]) for name in names})


def detached(kernels: Kernels) -> Kernels:
    """Cut off from the gradient graph."""
    return replace(kernels, raw=kernels.raw.detach(), colours=kernels.colours.detach())


def _missing(pixels: NDArray[np.float32], drawn: NDArray[np.float32]) -> NDArray[np.float64]:  # (H, W)
    error = start.smoothed(np.square(pixels - drawn, dtype=np.float64).sum(0))
    wanted = np.maximum(error, 0.0) ** _POWER
    mean = wanted.mean()
    if mean <= 1e-12:
        return np.ones_like(wanted)
    return np.asarray((1.0 - _EVEN) * wanted / mean + _EVEN)


def _shrunk(drawn: Tensor | None, level: int) -> Tensor | None:
    if drawn is None or not level:
        return drawn
    return F.avg_pool2d(drawn[None], 2**level, ceil_mode=True, count_include_pad=False)[0]
