"""Routed layers: a gate, a grid and a bank of experts in the place of one layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, get_args

from torch import nn

from moesaic.errors import ArgumentError, ShapeError
from moesaic.routing.balance import Balance
from moesaic.routing.dispatch import How, dispatch
from moesaic.routing.experts import ConvExperts, Experts, ModuleExperts
from moesaic.routing.gate import Gate
from moesaic.routing.grid import read_grid

if TYPE_CHECKING:
    from torch import Tensor

    from moesaic.routing.record import Routing

Control = Callable[["Routing"], "Routing"]
"""Replaces a decision before it acts; audits use it."""


class RoutedLayer(nn.Module):
    """What all routed layers share: decide, record, act.

    Args:
        experts: the bank.
        gate: decides who acts where; for as many experts as the bank holds.
        grid: rows and columns of places.
        balance: the loss that `balance_loss` takes from what this layer recorded.
        how: the form of dispatch, "auto" unless one is forced.

    Attributes:
        routing: what the last forward pass decided: always in training mode, in evaluation only while `record` is set.
        control: replaces each decision, where set.

    Raises:
        ArgumentError: gate and bank disagree on the number of experts, or the grid is none.
    """

    experts: Experts
    gate: Gate

    def __init__(
        self,
        experts: Experts,
        gate: Gate,
        grid: int | tuple[int, int] = 3,
        *,
        balance: Balance | None = None,
        how: How = "auto",
    ) -> None:
        super().__init__()
        if gate.experts != experts.experts:
            raise ArgumentError(f"the gate chooses among {gate.experts} experts, the bank holds {experts.experts}")
        if how not in get_args(How):
            raise ArgumentError(f"how is 'auto', 'reference', 'gather' or 'merged', not {how!r}")
        self.experts = experts
        self.gate = gate
        self.grid = read_grid(grid)
        self.balance = Balance() if balance is None else balance
        self.how = how
        self.record = False
        self.routing: Routing | None = None
        self.control: Control | None = None

    def forward(self, x: Tensor) -> Tensor:
        """The output of the chosen experts, (B, C', H', W') from (B, C, H, W)."""
        return self.act(x, self.grid)

    def act(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Decide, record, and send each place to its experts."""
        routing = self.gate(x, grid)
        if self.control is not None:
            routing = self.control(routing)
        if self.training or self.record:
            self.routing = routing
        return dispatch(x, self.experts, routing, how=self.how)

    def __getstate__(self) -> dict[str, Any]:
        # A recorded decision holds the graph of its batch; copies and pickles are of the layer alone.
        return {**self.__dict__, "routing": None, "control": None}

    def extra_repr(self) -> str:
        """Grid, balance and dispatch, in torch's manner."""
        return f"grid={self.grid}, balance={self.balance}, how={self.how!r}"


class RoutedConv2d(RoutedLayer):
    """A convolution whose kernel is mixed anew for each patch from k of E experts.

    It states its shape as `torch.nn.Conv2d` does, for networks that ask: some pad a map by its convolution's stride.
    """

    experts: ConvExperts

    def __init__(self, experts: ConvExperts, gate: Gate, grid: int | tuple[int, int] = 3, **options: Any) -> None:
        super().__init__(experts, gate, grid, **options)
        self.in_channels, self.out_channels = experts.inputs, experts.outputs
        self.kernel_size, self.stride = experts.kernel, experts.stride
        self.dilation, self.groups = experts.dilation, experts.groups


class RoutedLinear(RoutedLayer):
    """A linear layer over the last axis, with k of E experts for each place.

    Inputs of shape (B, C) have one place each; (B, T, C) is a sequence, cut into rows x columns runs; (B, H, W, C) is a
    map.
    """

    experts: ConvExperts

    def __init__(self, experts: ConvExperts, gate: Gate, grid: int | tuple[int, int] = 3, **options: Any) -> None:
        super().__init__(experts, gate, grid, **options)
        self.in_features, self.out_features = experts.inputs, experts.outputs

    def forward(self, x: Tensor) -> Tensor:
        """(..., C') from (..., C).

        Raises:
            ShapeError: the input has fewer than two or more than four axes, or fewer tokens than places.
        """
        if x.ndim == 4:
            return self.act(x.permute(0, 3, 1, 2), self.grid).permute(0, 2, 3, 1)
        if x.ndim not in (2, 3):
            raise ShapeError(f"a routed linear layer reads (B, C), (B, T, C) or (B, H, W, C), not {tuple(x.shape)}")
        # A sequence is a map of one column, and its places are rows.
        flat = (x if x.ndim == 3 else x[:, None]).transpose(1, 2)[..., None]  # (B, C, T, 1)
        y = self.act(flat, (self.grid[0] * self.grid[1], 1))[..., 0].transpose(1, 2)
        return y if x.ndim == 3 else y[:, 0]


class RoutedExperts(RoutedLayer):
    """Experts of any kind, each a module that keeps the rows and columns of its map.

    Args:
        modules: one for each expert.
        gate: decides who acts where.
        grid: rows and columns of places; 1 routes whole pictures.
        halo: pixels of its neighbours that a patch is seen with; see `ModuleExperts`.
        options: balance and how, as in `RoutedLayer`.
    """

    def __init__(
        self,
        modules: Iterable[nn.Module],
        gate: Gate,
        grid: int | tuple[int, int] = 1,
        *,
        halo: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(ModuleExperts(modules, halo=halo), gate, grid, **options)
