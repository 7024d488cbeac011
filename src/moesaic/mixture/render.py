"""render(): a mixture drawn at any size, on the backend that suits its device, with a gradient for every parameter."""

from __future__ import annotations

import functools
import importlib
import logging
import math
import operator
import re
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
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

PIXEL_LIMIT = 2**28  # of one rendered picture; a .moe file of 1 kB could ask for any size
SIDE = 1e-6  # px, of the smallest region
_BAND, _BAND_STEP = 2**21, 64  # px of a band of rows, about; its rows are a multiple of the tiles' sides
_BACKENDS = ("auto", "cpu", "gpu", "reference")
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


@functools.cache
def gpu_problem() -> str | None:
    """Why the GPU backend cannot run here, or None; tried once."""
    try:  # a missing compiler shows only at a launch
        importlib.import_module("moesaic.mixture.backends.gpu").launch_once()
    except Exception as cause:  # noqa: BLE001  whatever it is, the reason is kept and shown
        return f"{type(cause).__name__}: {str(cause).strip().splitlines()[-1] if str(cause).strip() else 'no reason'}"
    return None


@functools.cache
def _warn(problem: str) -> None:
    """Say once that the GPU is not used."""
    _log.warning("the gpu backend cannot run here (%s): drawing and fitting on the CPU", problem)


def _backend(asked: str, device: torch.device) -> str:
    """The backend for a mixture on that device; "cpu" for another device means moving it there and back."""
    name = _forced.get() or asked
    if name not in _BACKENDS:
        raise ArgumentError(f"backend {name!r} is unknown; choose one of {', '.join(_BACKENDS)}")
    if name == "cpu" and device.type != "cpu":
        raise BackendError(f"the cpu backend cannot draw a mixture on {device}: move it with mixture.to(device='cpu')")
    if name == "gpu":
        if problem := gpu_problem():
            raise BackendError(f"the gpu backend cannot run here ({problem}): leave the choice to backend='auto'")
        gpu = importlib.import_module("moesaic.mixture.backends.gpu")
        if device.type != "cuda" and not (gpu.interpreted() and device.type == "cpu"):
            raise BackendError(
                f"the gpu backend cannot draw a mixture on {device}: move it with mixture.to(device='cuda')"
            )
    if name != "auto":
        return name
    if device.type == "cpu":
        return "cpu"
    if device.type == "cuda":
        problem = gpu_problem()
        if problem is None:
            return "gpu"
        _warn(problem)
        return "cpu"
    _log.warning("no fast backend for %s yet: drawing with the dense reference", device)
    return "reference"


def fitting_device(asked: str) -> torch.device | None:
    """Where the GPU backend fits when a fit is asked for on that device; None for the CPU's loops.

    Raises:
        ArgumentError: no such device is known.
        BackendError: a CUDA device was named and cannot be used.
    """
    if not isinstance(asked, str | torch.device):
        raise ArgumentError(f"device ({asked!r}) is a name: auto, cpu, cuda or cuda:1")
    asked = str(asked)
    if _forced.get() == "gpu":
        gpu = importlib.import_module("moesaic.mixture.backends.gpu")
        return torch.device("cpu" if gpu.interpreted() else "cuda")
    if asked == "cpu" or (asked == "auto" and not torch.cuda.is_available()):
        return None
    if asked != "auto" and not re.fullmatch(r"cuda(:\d+)?", asked):
        raise ArgumentError(f"device {asked!r} is unknown; choose one of auto, cpu, cuda, cuda:1")
    problem = gpu_problem()
    if problem is None and asked != "auto" and (torch.device(asked).index or 0) >= torch.cuda.device_count():
        problem = f"there are {torch.cuda.device_count()} CUDA devices"
    if problem is None:
        return torch.device("cuda" if asked == "auto" else asked)
    if asked != "auto":
        raise BackendError(f"cannot fit on {asked} ({problem}): leave the choice to device='auto'")
    _warn(problem)
    return None


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
        backend: "cpu" (tiles in compiled loops), "gpu" (tiles in Triton programs), "reference" (dense torch), or
            "auto" by the mixture's device; where Triton or its compiler is missing, "auto" draws a mixture on a GPU
            by the cpu backend, with one warning.
        pixel_limit: the largest output accepted, in pixels.

    Returns:
        The picture (C, H, W) in the dtype of the mixture, not clipped to [0, 1]. The fast backends work in float32:
        they differ from the float64 reference by at most 1e-4, and each gradient by at most 1e-3 in relative norm.

    Raises:
        ArgumentError: both scale and size, an empty region, or parameters that are not finite or not a Cholesky factor.
        ShapeError: the mixture has no kernels.
        LimitError: the output has more than pixel_limit pixels.
        BackendError: the backend cannot run where the mixture is.
    """
    (width, height), box = _frame(mixture, scale, size, region, pixel_limit)
    check(mixture)
    chosen = _backend(backend, mixture.device)
    if chosen == "reference":
        return reference.render(mixture, size=(width, height), region=box)
    drawn = draw(*_in_pixels(mixture, (width, height), box, chosen), width, height, mixture.order, backend=chosen)
    return drawn.to(device=mixture.device, dtype=mixture.dtype)


def output_size(
    mixture: Mixture,
    *,
    scale: float | None = None,
    size: tuple[int, int] | None = None,
    region: tuple[float, float, float, float] | None = None,
    pixel_limit: int = PIXEL_LIMIT,
) -> tuple[int, int]:
    """Width and height, px, of what `render` would draw; errors as there."""
    return _frame(mixture, scale, size, region, pixel_limit)[0]


def render_bands(
    mixture: Mixture,
    *,
    scale: float | None = None,
    size: tuple[int, int] | None = None,
    region: tuple[float, float, float, float] | None = None,
    pixel_limit: int = PIXEL_LIMIT,
) -> Iterator[Tensor]:  # each (C, rows, W)
    """As `render`, without a gradient, in bands of rows from top to bottom, which are never in memory all at once.

    A band is drawn as a region of its own. What `render` leaves out, less than exp(-10) of the weight of a pixel's best
    kernel, may be another there, so that pixels differ by about 1e-5.

    Raises:
        ArgumentError: see `render`.
        ShapeError: the mixture has no kernels.
        LimitError: the output has more than pixel_limit pixels.
    """
    (width, height), box = _frame(mixture, scale, size, region, pixel_limit)
    check(mixture)
    chosen = _backend("auto", mixture.device)
    rows = max(1, _BAND // width // _BAND_STEP) * _BAND_STEP

    @torch.no_grad()
    def band(top: int, bottom: int) -> Tensor:
        if chosen == "reference":
            left, upper, right, lower = box
            tall = (lower - upper) / height
            part = (left, upper + top * tall, right, upper + bottom * tall)
            return reference.render(mixture, size=(width, bottom - top), region=part)
        centres, factors, log_priors, experts = _in_pixels(mixture, (width, height), box, chosen)
        moved = centres - centres.new_tensor([0.0, top])  # by whole pixels, which is exact for those that are near
        drawn = draw(moved, factors, log_priors, experts, width, bottom - top, mixture.order, backend=chosen)
        return drawn.to(device=mixture.device, dtype=mixture.dtype)

    return (band(top, min(top + rows, height)) for top in range(0, height, rows))


def _in_pixels(
    mixture: Mixture, size: tuple[int, int], box: tuple[float, float, float, float], chosen: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Centres (N, 2), factors (N, 3), log priors (N,) and experts in pixels of the output, where they are drawn."""
    left, top, right, bottom = box
    stretch = mixture.centres.new_tensor([size[0] / (right - left), size[1] / (bottom - top)], dtype=torch.float64)
    corner = mixture.centres.new_tensor([left, top], dtype=torch.float64)
    centres = (mixture.centres.double() - corner) * stretch
    factors = mixture.factors / stretch[[0, 1, 1]].to(mixture.dtype)
    experts = mixture.colours
    if mixture.slopes is not None:
        experts = torch.cat([experts, (mixture.slopes / stretch.to(mixture.dtype)).flatten(1)], dim=1)
    place = torch.device("cpu") if chosen == "cpu" else mixture.device
    return centres.to(place), factors.to(place), mixture.log_priors.to(place), experts.to(place)


def draw(
    centres: Tensor,  # (N, 2) float64
    factors: Tensor,  # (N, 3)
    log_priors: Tensor,  # (N,)
    experts: Tensor,  # (N, C), or (N, 3 C) with slopes
    width: int,
    height: int,
    order: int,
    *,
    backend: str = "cpu",
) -> Tensor:  # (C, H, W)
    """Draw kernels given in pixels of the output, exactly, on the backend "cpu" or "gpu"."""
    recorded = _is_recorded(centres, factors, log_priors, experts)
    cover, blend = _operations(backend, recorded=recorded)
    still = (centres.detach(), factors.detach(), log_priors.detach())
    lists = cover(*still, width, height, exact_margin(centres.shape[0]))
    picture: Tensor = blend(centres, factors, log_priors, experts, *lists, width, height, order)[0]
    return picture


def _is_recorded(*tensors: Tensor) -> bool:
    """Whether torch watches what is done with these: for a gradient, or to trace it."""
    wanted = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    return wanted or torch.compiler.is_compiling() or any(type(tensor) is not Tensor for tensor in tensors)


def _operations(backend: str, *, recorded: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """What lists kernels by tile, and what draws them."""
    if backend == "gpu":
        from moesaic.mixture import gpu_ops

        return gpu_ops.gpu_cover, gpu_ops.gpu_blend
    from moesaic.mixture import ops

    return (ops.cover, ops.blend) if recorded else (ops.list_tiles, ops.draw_tiles)


def gate_mass(mixture: Mixture) -> Tensor:  # (N,)
    """The area of the canvas, in px, that each kernel's gate owns; the sum over kernels is the canvas's area."""
    from moesaic.mixture import ops

    check(mixture)
    still = mixture.detach().to(device="cpu")
    geometry = (still.centres.double(), still.factors, still.log_priors)
    ones = torch.ones((len(mixture), 1))
    lists = ops.list_tiles(*geometry, mixture.width, mixture.height, exact_margin(len(mixture)))
    picture, sums = ops.draw_tiles(*geometry, ones, *lists, mixture.width, mixture.height, 0)
    # the picture of ones is linear in the ones, and its gradient by each is the gate's sum over pixels
    mass = ops.go_back_tiles(torch.ones_like(picture), picture, sums, *geometry, ones, *lists, 0)[:, 6]
    return mass.to(device=mixture.device, dtype=mixture.dtype)


def check(mixture: Mixture) -> None:
    """Refuse what no backend may meet.

    Raises:
        ShapeError: the mixture has no kernels.
        ArgumentError: a parameter is not finite or beyond what float32 can carry through a render.
    """
    if len(mixture) == 0:
        raise ShapeError("a mixture without kernels has no picture")
    largest, least = _extremes(mixture)
    for name, value in largest.items():
        if not value <= 1e9:  # false for NaN too
            raise ArgumentError(f"{name} hold values that are not finite or beyond 1e9")
    if not least >= 1e-9:
        raise ArgumentError("factors need a positive diagonal of at least 1e-9 per px: they are Cholesky factors")


def _extremes(mixture: Mixture) -> tuple[dict[str, float], float]:
    """The largest magnitude of each parameter, and the least number on a factor's diagonal."""
    tensors = mixture._tensors()
    if mixture.device.type == "cpu":
        arrays = {name: _array(tensor) for name, tensor in tensors.items()}
        sizes = {name: max(float(values.max()), -float(values.min())) for name, values in arrays.items()}
        return sizes, float(arrays["factors"][:, ::2].min())
    found = [tensor.detach().abs().amax() for tensor in tensors.values()]  # on the device, waiting for it once
    *sizes_there, least = torch.stack([*found, mixture.factors.detach()[:, ::2].amin()]).tolist()
    return dict(zip(tensors, sizes_there, strict=True)), least


def _array(tensor: Tensor) -> NDArray[Any]:
    """A tensor for NumPy, since torch would wake its own threads for so little work."""
    still = tensor.detach()
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
