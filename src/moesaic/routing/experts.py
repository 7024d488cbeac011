"""Banks of experts: what can act at a place.

A bank states one thing above all: what each of its experts makes of a whole map. Whatever dispatch computes equals
that, cut to the places where the expert was chosen; so an expert sees its true neighbours at the borders of a patch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from moesaic.errors import ArgumentError, ShapeError

if TYPE_CHECKING:
    from torch import Tensor


class ConvExperts(nn.Module):
    """E convolutions of one shape, stacked; a linear layer is the case of 1x1 kernels.

    `weight` holds the kernels of all experts one after the other along its first axis, so that it is a convolution's
    weight to every tool that walks over a model (`model.to(memory_format=torch.channels_last)` is one); `kernels` is
    the same by expert.

    Args:
        experts: E, how many.
        inputs: channels of the map.
        outputs: channels that each expert makes.
        kernel: rows and columns of each kernel.
        stride: step of the kernel in pixels, along rows and columns.
        padding: pixels added before and after the rows and the columns: top, bottom, left, right.
        padding_mode: "zeros", "reflect", "replicate" or "circular", as in `torch.nn.Conv2d`.
        dilation: distance of the kernel's taps in pixels, along rows and columns.
        groups: as in `torch.nn.Conv2d`.
        bias: whether each expert adds a constant to each channel.
    """

    weight: nn.Parameter  # (E * outputs, inputs / groups, rows, columns)
    bias: nn.Parameter | None  # (E, outputs)

    def __init__(
        self,
        experts: int,
        inputs: int,
        outputs: int,
        kernel: tuple[int, int],
        *,
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int, int, int] = (0, 0, 0, 0),
        padding_mode: str = "zeros",
        dilation: tuple[int, int] = (1, 1),
        groups: int = 1,
        bias: bool = True,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.experts, self.inputs, self.outputs, self.kernel = experts, inputs, outputs, kernel
        self.stride, self.padding, self.padding_mode = stride, padding, padding_mode
        self.dilation, self.groups = dilation, groups
        self.weight = nn.Parameter(
            torch.empty((experts * outputs, inputs // groups, *kernel), device=device, dtype=dtype)
        )
        self.bias = nn.Parameter(torch.empty((experts, outputs), device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw each expert for itself, as `torch.nn.Conv2d` draws its kernel."""
        for expert in range(self.experts):
            nn.init.kaiming_uniform_(self.kernels[expert], a=math.sqrt(5))
            if self.bias is not None:
                limit = 1 / math.sqrt(self.weight[0].numel())
                nn.init.uniform_(self.bias[expert], -limit, limit)

    @property
    def kernels(self) -> Tensor:  # (E, outputs, inputs / groups, rows, columns)
        """The weight by expert, as a view."""
        kernels: Tensor = self.weight.unflatten(0, (self.experts, self.outputs))
        return kernels

    @property
    def span(self) -> tuple[int, int]:
        """Rows and columns of the map under a kernel."""
        return (
            self.dilation[0] * (self.kernel[0] - 1) + 1,
            self.dilation[1] * (self.kernel[1] - 1) + 1,
        )

    def check(self, x: Tensor) -> None:
        """Refuse a map that these experts cannot read.

        Raises:
            ShapeError: the map has another number of axes or channels, or is smaller than a kernel.
        """
        if x.ndim != 4 or x.shape[1] != self.inputs:
            raise ShapeError(f"these experts read maps of shape (B, {self.inputs}, H, W), not {tuple(x.shape)}")

    def pad(self, x: Tensor) -> Tensor:
        """The map with its padding around it."""
        if not any(self.padding):
            return x
        top, bottom, left, right = self.padding
        mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
        return functional.pad(x, (left, right, top, bottom), mode=mode)

    def size(self, padded: Tensor) -> tuple[int, int]:
        """Rows and columns of what comes out of a padded map."""
        span = self.span
        return (padded.shape[2] - span[0]) // self.stride[0] + 1, (padded.shape[3] - span[1]) // self.stride[1] + 1

    def convolve(self, padded: Tensor, weight: Tensor, bias: Tensor | None, *, times: int = 1) -> Tensor:
        """One convolution without padding; `times` kernels side by side act on as many groups of channels."""
        return functional.conv2d(padded, weight, bias, self.stride, 0, self.dilation, self.groups * times)

    def alone(self, expert: int, x: Tensor) -> Tensor:  # (B, outputs, H', W')
        """What one expert makes of the whole map."""
        bias = None if self.bias is None else self.bias[expert]
        return self.convolve(self.pad(x), self.kernels[expert], bias)

    def mixed(
        self,
        weights: Tensor,  # (..., E)
    ) -> tuple[Tensor, Tensor | None]:  # (..., outputs, inputs / groups, rows, columns), (..., outputs)
        """Kernels and constants that do the work of weighted experts at once, by the linearity of a convolution."""
        if torch.is_autocast_enabled(self.weight.device.type):
            with torch.autocast(self.weight.device.type, enabled=False):
                return self._mixed(weights)
        return self._mixed(weights)

    def _mixed(self, weights: Tensor) -> tuple[Tensor, Tensor | None]:
        share = weights.to(self.weight.dtype)
        constants = None if self.bias is None else share @ self.bias
        kernels = self.kernels
        if self.weight.is_contiguous(memory_format=torch.channels_last):  # mixed as they lie, without a copy
            flat = kernels.permute(0, 1, 3, 4, 2)
            return (share @ flat.flatten(1)).unflatten(-1, flat.shape[1:]).movedim(-1, -3), constants
        return (share @ kernels.flatten(1)).unflatten(-1, kernels.shape[1:]), constants

    def blend(
        self,
        chosen: Sequence[int],
        weights: Sequence[float],
        kernel: Tensor,  # (outputs, inputs / groups, rows, columns), is overwritten
    ) -> Tensor | None:  # (outputs,)
        """`mixed` for one place, of the chosen experts alone, reading nothing but theirs; without gradients.

        The kernel is written where the caller says: fresh memory of that size costs more than the sums.
        """
        kernels = self.kernels
        torch.mul(kernels[chosen[0]], weights[0], out=kernel)
        constant = None if self.bias is None else self.bias[chosen[0]] * weights[0]
        for expert, weight in zip(chosen[1:], weights[1:], strict=True):
            kernel.add_(kernels[expert], alpha=weight)
            if constant is not None and self.bias is not None:
                constant.add_(self.bias[expert], alpha=weight)
        return constant

    def extra_repr(self) -> str:
        """The shape of the bank, in torch's manner."""
        return (
            f"{self.inputs}, {self.outputs}, experts={self.experts}, kernel={self.kernel}, stride={self.stride},"
            f" padding={self.padding}, dilation={self.dilation}, groups={self.groups}, bias={self.bias is not None}"
        )


class ModuleExperts(nn.Module):
    """Experts of any kind, each a module that keeps the rows and columns of its map.

    Each expert pads its map itself, as it would outside a bank. A patch is cut out with `halo` pixels of its true
    neighbours around it; where the halo covers what an expert sees, and nothing in it depends on statistics over the
    whole map, the result is that of the whole map.

    Args:
        modules: one for each expert; they may differ in kind and in cost.
        halo: pixels around a patch that an expert sees; by default the sum over the convolutions inside of
            dilation * (kernel - 1) / 2, rounded up, of the expert that sees furthest.

    Raises:
        ArgumentError: there is no module, or the halo is negative.
    """

    def __init__(self, modules: Iterable[nn.Module], *, halo: int | None = None) -> None:
        super().__init__()
        self.bank = nn.ModuleList(modules)
        if not self.bank:
            raise ArgumentError("modules is empty: give at least one expert")
        self.halo = max(map(reach, self.bank)) if halo is None else halo
        if self.halo < 0:
            raise ArgumentError(f"halo is a number of pixels from 0 up, not {halo}")

    @property
    def experts(self) -> int:
        """E, how many there are."""
        return len(self.bank)

    def check(self, x: Tensor) -> None:
        """Refuse what is no map.

        Raises:
            ShapeError: the map has another number of axes.
        """
        if x.ndim != 4:
            raise ShapeError(f"these experts read maps of shape (B, C, H, W), not {tuple(x.shape)}")

    def alone(self, expert: int, x: Tensor) -> Tensor:  # (B, C', H, W)
        """What one expert makes of the whole map.

        Raises:
            ShapeError: the expert changed the number of rows or columns.
        """
        y: Tensor = self.bank[expert](x)
        if y.shape[2:] != x.shape[2:]:
            raise ShapeError(
                f"expert {expert} turned {tuple(x.shape[2:])} rows and columns into {tuple(y.shape[2:])}:"
                " experts keep the size of their map, so let them pad"
            )
        return y


def reach(module: nn.Module) -> int:
    """How far from a pixel the convolutions in a module see, in pixels, if all of them act in sequence."""

    def of(sizes: Sequence[Any], dilations: Sequence[Any]) -> int:
        return max(-(-int(d) * (int(n) - 1) // 2) for n, d in zip(sizes, dilations, strict=True))

    return sum(of(layer.kernel_size, layer.dilation) for layer in module.modules() if isinstance(layer, nn.Conv2d))


Experts = ConvExperts | ModuleExperts
