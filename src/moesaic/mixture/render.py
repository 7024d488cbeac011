"""render(): a mixture drawn at any size, on the backend that suits its device, with a gradient for every parameter."""

from __future__ import annotations

import logging
import math
import operator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from moesaic.errors import ArgumentError, BackendError, LimitError, ShapeError
from moesaic.mixture import reference
from moesaic.mixture.backends.cover import exact_margin
from moesaic.mixture.model import Mixture

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

PIXEL_LIMIT = 2**28  # of one rendered picture; a .moe file of 1 kB could ask for any size
SIDE = 1e-6  # px, of the smallest region
_BACKENDS = ("auto", "cpu", "reference")
_forced: ContextVar[str | None] = ContextVar("backend", default=None)
_log = logging.getLogger(__name__)


@contextmanager
def force_backend(name: str) -> Iterator[None]:
    """Overrule the choice of backend within a block; for tests."""
    token = _forced.set(name)
    try:
        yield
    finally:
        _forced.reset(token)


def _backend(asked: str, device: torch.device) -> str:
    name = _forced.get() or asked
    if name not in _BACKENDS:
        raise ArgumentError(f"backend {name!r} is unknown; choose one of {', '.join(_BACKENDS)}")
    if name == "cpu" and device.type != "cpu":
        raise BackendError(f"the cpu backend cannot draw a mixture on {device}: move it with mixture.to(device='cpu')")
    if name != "auto":
        return name
    if device.type != "cpu":
        _log.warning("no fast backend for %s yet: drawing with the dense reference", device)
        return "reference"
    return "cpu"


def render(
    mixture: Mixture,
    *,
    scale: float | None = None,
    size: tuple[int, int] | None = None,
    region: tuple[float, float, float, float] | None = None,
    backend: str = "auto",
    pixel_limit: int = PIXEL_LIMIT,
) -> Tensor:  # (C, H, W)
    """Draw a mixture: the whole canvas or a region of it, at any size, differentiable by every parameter.

    Args:
        mixture: what to draw.
        scale: output pixels per canvas pixel; 1 when neither scale nor size is given.
        size: (width, height) of the output in pixels, instead of a scale.
        region: (left, top, right, bottom) on the canvas in px, fractions and places beyond the canvas allowed; the
            whole canvas when None.
        backend: "cpu" (tiles in compiled loops), "reference" (dense torch), or "auto" by the mixture's device.
        pixel_limit: the largest output accepted, in pixels.

    Returns:
        The picture (C, H, W) in the dtype of the mixture, not clipped to [0, 1]. The cpu backend works in float32: it
        differs from the float64 reference by at most 1e-4, and each gradient by at most 1e-3 in relative norm.

    Raises:
        ArgumentError: both scale and size, an empty region, or parameters that are not finite or not a Cholesky factor.
        ShapeError: the mixture has no kernels.
        LimitError: the output has more than pixel_limit pixels.
        BackendError: the backend cannot run where the mixture is.
    """
    (width, height), box = _frame(mixture, scale, size, region, pixel_limit)
    check(mixture)
    if _backend(backend, mixture.device) == "reference":
        return reference.render(mixture, size=(width, height), region=box)
    left, top, right, bottom = box
    stretch = mixture.centres.new_tensor([width / (right - left), height / (bottom - top)], dtype=torch.float64)
    corner = mixture.centres.new_tensor([left, top], dtype=torch.float64)
    centres = (mixture.centres.double() - corner) * stretch
    factors = mixture.factors / stretch[[0, 1, 1]].to(mixture.dtype)
    experts = mixture.colours
    if mixture.slopes is not None:
        experts = torch.cat([experts, (mixture.slopes / stretch.to(mixture.dtype)).flatten(1)], dim=1)
    return draw(centres, factors, mixture.log_priors, experts, width, height, mixture.order).to(mixture.dtype)


def draw(
    centres: Tensor,  # (N, 2) float64
    factors: Tensor,  # (N, 3)
    log_priors: Tensor,  # (N,)
    experts: Tensor,  # (N, C), or (N, 3 C) with slopes
    width: int,
    height: int,
    order: int,
) -> Tensor:  # (C, H, W)
    """Draw kernels given in pixels of the output on the CPU backend, exactly."""
    from moesaic.mixture import ops

    still = (centres.detach(), factors.detach(), log_priors.detach())
    lists = ops.cover(*still, width, height, exact_margin(centres.shape[0]))
    picture: Tensor = ops.blend(centres, factors, log_priors, experts, *lists, width, height, order)[0]
    return picture


def gate_mass(mixture: Mixture) -> Tensor:  # (N,)
    """The area of the canvas, in px, that each kernel's gate owns; the sum over kernels is the canvas's area."""
    from moesaic.mixture import ops

    check(mixture)
    still = mixture.detach().to(device="cpu")
    geometry = (still.centres.double(), still.factors, still.log_priors)
    ones = torch.ones((len(mixture), 1))
    lists = ops.cover(*geometry, mixture.width, mixture.height, exact_margin(len(mixture)))
    picture, sums = ops.blend(*geometry, ones, *lists, mixture.width, mixture.height, 0)
    # the picture of ones is linear in the ones, and its gradient by each is the gate's sum over pixels
    mass: Tensor = ops.blend_backward(torch.ones_like(picture), picture, sums, *geometry, ones, *lists, 0)[:, 6]
    return mass.to(device=mixture.device, dtype=mixture.dtype)


def check(mixture: Mixture) -> None:
    """Refuse what no backend may meet.

    Raises:
        ShapeError: the mixture has no kernels.
        ArgumentError: a parameter is not finite or beyond what float32 can carry through a render.
    """
    if len(mixture) == 0:
        raise ShapeError("a mixture without kernels has no picture")
    for name, tensor in mixture._tensors().items():
        values = _array(tensor)
        if not max(float(values.max()), -float(values.min())) <= 1e9:  # false for NaN too
            raise ArgumentError(f"{name} hold values that are not finite or beyond 1e9")
    if not float(_array(mixture.factors)[:, ::2].min()) >= 1e-9:
        raise ArgumentError("factors need a positive diagonal of at least 1e-9 per px: they are Cholesky factors")


def _array(tensor: Tensor) -> NDArray[Any]:
    """A tensor for NumPy, since torch would wake its own threads for so little work."""
    still = tensor.detach().cpu()
    return still.numpy() if still.dtype in (torch.float32, torch.float64) else still.float().numpy()


def _frame(
    mixture: Mixture,
    scale: float | None,
    size: tuple[int, int] | None,
    region: tuple[float, float, float, float] | None,
    pixel_limit: int,
) -> tuple[tuple[int, int], tuple[float, float, float, float]]:
    """Output size and canvas box of a render, checked."""
    try:
        box = [float(v) for v in ((0.0, 0.0, mixture.width, mixture.height) if region is None else region)]
        scale = None if scale is None else float(scale)
        size = None if size is None else (operator.index(size[0]), operator.index(size[1]))
    except (TypeError, ValueError, OverflowError, IndexError) as cause:
        raise ArgumentError(
            f"region {region}, scale {scale} and size {size} must be four numbers, a number, and two whole numbers"
        ) from cause
    if len(box) != 4 or not all(map(math.isfinite, box)) or min(box[2] - box[0], box[3] - box[1]) < SIDE:
        raise ArgumentError(f"region {region} must be (left, top, right, bottom), sides of at least {SIDE} px")
    if max(abs(v) for v in box) > 1e7:
        raise ArgumentError(f"region {region} reaches beyond 10,000,000 px")
    if scale is not None and size is not None:
        raise ArgumentError("give either scale or size, not both")
    if size is None:
        scale = 1.0 if scale is None else scale
        if not (math.isfinite(scale) and scale > 0):
            raise ArgumentError(f"scale {scale} must be a positive number")
        sides = ((box[2] - box[0]) * scale, (box[3] - box[1]) * scale)
        if max(sides) > pixel_limit:
            raise LimitError(f"scale {scale} asks for a side of {max(sides):.3g} pixels: raise pixel_limit")
        size = (max(1, round(sides[0])), max(1, round(sides[1])))
    width, height = size
    if width < 1 or height < 1:
        raise ArgumentError(f"size {width}x{height} must be at least 1x1")
    if width * height > pixel_limit:
        raise LimitError(f"{width}x{height} output pixels exceed the limit of {pixel_limit}: raise pixel_limit")
    return (int(width), int(height)), (box[0], box[1], box[2], box[3])
