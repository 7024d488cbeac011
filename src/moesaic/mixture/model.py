"""The `Mixture` object: a picture as steered kernels, independent of resolution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from moesaic.errors import ArgumentError, ShapeError

if TYPE_CHECKING:
    from typing import Self

_FIELDS = ("centres", "factors", "log_priors", "colours", "slopes")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Mixture:
    """N steered kernels on a canvas; the gate of kernel j at x is softmax_j(log_prior - |L^T (x - centre)|^2 / 2).

    The picture at x is the gated sum of the experts: `colours` for order 0, `colours + slopes @ (x - centre)` for
    order 1. Coordinates are pixels of the canvas, x to the right and y down, and the centre of pixel (i, j) is at
    (j + 0.5, i + 0.5).

    Source: Bochinski et al., "Regularized gradient descent training of steered mixture of experts" (ICIP 2018), for
    the normalised gate; arXiv 2510.05814 for constant experts drawn by tiles.

    Raises:
        ShapeError: the tensors do not agree in shape, or hold 0 or more than 4 channels.
        ArgumentError: the tensors differ in dtype or device, or the canvas is empty.
    """

    centres: Tensor  # (N, 2), x and y, px
    factors: Tensor  # (N, 3), l_xx, l_yx, l_yy of the Cholesky factor L of the precision L L^T, 1/px
    log_priors: Tensor  # (N,), natural logarithm, up to a common constant
    colours: Tensor  # (N, C), the expert's value at the centre; nominally in [0, 1]
    width: int  # px
    height: int  # px
    slopes: Tensor | None = None  # (N, C, 2), change of the value per px along x and y; None for order 0

    def __post_init__(self) -> None:
        n = self.centres.shape[0] if self.centres.ndim else 0
        c = self.colours.shape[-1] if self.colours.ndim == 2 else 0
        expected = {"centres": (n, 2), "factors": (n, 3), "log_priors": (n,), "colours": (n, c), "slopes": (n, c, 2)}
        tensors = self._tensors()
        for name, tensor in tensors.items():
            if tuple(tensor.shape) != expected[name]:
                raise ShapeError(f"{name} has shape {tuple(tensor.shape)}, {expected[name]} is needed for {n} kernels")
        if not 1 <= c <= 4:
            raise ShapeError(f"colours have {c} channels; a mixture holds 1 (grey), 2 (with alpha), 3 or 4")
        if len({t.dtype for t in tensors.values()}) > 1 or len({t.device for t in tensors.values()}) > 1:
            raise ArgumentError("the tensors of a mixture must share one dtype and one device")
        if not self.centres.dtype.is_floating_point:
            raise ArgumentError(f"the tensors of a mixture must be floating point, not {self.centres.dtype}")
        if self.width < 1 or self.height < 1:
            raise ArgumentError(f"the canvas is {self.width}x{self.height}; both sides must be at least 1")

    def _tensors(self) -> dict[str, Tensor]:
        return {name: t for name in _FIELDS if (t := getattr(self, name)) is not None}

    def _map(self, change: Callable[[Tensor], Tensor]) -> Self:
        changed: dict[str, Any] = {name: change(t) for name, t in self._tensors().items()}
        return replace(self, **changed)

    def __len__(self) -> int:
        return len(self.centres)

    def __repr__(self) -> str:
        kind = f"{len(self)} kernels, {self.channels} channels, order {self.order}"
        return f"Mixture({kind}, canvas {self.width}x{self.height}, {self.dtype}, {self.device})"

    @property
    def channels(self) -> int:
        """Number of channels C: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha (colours premultiplied)."""
        return self.colours.shape[1]

    @property
    def order(self) -> int:
        """Degree of the experts: 0 constant colour, 1 linear in position."""
        return 0 if self.slopes is None else 1

    @property
    def device(self) -> torch.device:
        """Where the tensors live."""
        return self.centres.device

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of all tensors."""
        return self.centres.dtype

    def __getitem__(self, which: slice | Sequence[int] | Tensor) -> Self:
        """The kernels at a slice, a list of positions or a Boolean mask, on the same canvas; always a mixture.

        Raises:
            ArgumentError: a single position was given (write `mixture[i : i + 1]`), or one is out of range.
        """
        try:
            picked = which if isinstance(which, slice) else torch.as_tensor(which)
            if isinstance(picked, Tensor) and not picked.numel():
                picked = picked.long()
            if isinstance(picked, Tensor) and picked.ndim != 1:
                raise ValueError("one kernel i is mixture[i : i + 1]")
            return self._map(lambda t: t[picked.to(t.device) if isinstance(picked, Tensor) else picked])
        except (IndexError, TypeError, ValueError, RuntimeError) as cause:
            raise ArgumentError(f"cannot select {which!r} from a mixture of {len(self)} kernels: {cause}") from cause

    def to(self, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """The same mixture on another device or in another floating-point type; tensors that fit are shared."""
        return self._map(lambda t: t.to(device=device, dtype=dtype))

    def detach(self) -> Self:
        """The same mixture cut off from the gradient graph."""
        return self._map(Tensor.detach)

    def requires_grad_(self, wanted: bool = True) -> Self:
        """Ask for gradients of every parameter, in place; returns the mixture itself."""
        for tensor in self._tensors().values():
            tensor.requires_grad_(wanted)
        return self

    @classmethod
    def join(cls, parts: Sequence[Mixture]) -> Mixture:
        """One mixture of all kernels of several on the same canvas, in the order given.

        Raises:
            ArgumentError: no parts, or parts of different canvas, channels or order.
        """
        if not parts:
            raise ArgumentError("join needs at least one mixture")
        first = parts[0]
        for part in parts[1:]:
            if (part.width, part.height, part.channels, part.order) != (
                first.width,
                first.height,
                first.channels,
                first.order,
            ):
                raise ArgumentError(f"cannot join {part!r} to {first!r}: canvas, channels and order must agree")
        joined: dict[str, Any] = {name: torch.cat([getattr(p, name) for p in parts]) for name in first._tensors()}
        return replace(first, **joined)

    def sort_by_importance(self) -> Self:
        """The kernels in descending order of importance: the share of the canvas that their gates own."""
        from moesaic.mixture.render import gate_mass

        return self[torch.argsort(gate_mass(self), descending=True, stable=True)]

    def render(
        self,
        *,
        scale: float | None = None,
        size: tuple[int, int] | None = None,
        region: tuple[float, float, float, float] | None = None,
        backend: str = "auto",
    ) -> Tensor:  # (C, H, W)
        """Draw the mixture; see `moesaic.render`."""
        from moesaic.mixture.render import render

        return render(self, scale=scale, size=size, region=region, backend=backend)
