"""What a routed network costs, in multiply-adds, with any choice of experts.

A copy with shapes but no numbers (torch's fake tensors) runs once with every expert of every layer, while torch's own
counter sees each convolution, linear map and matrix product, by module; a choice of experts then is a sum. Elementwise
work (norms, gates, softmax, resampling) is not counted.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from moesaic.errors import ArgumentError
from moesaic.routing.collect import routed_layers
from moesaic.routing.experts import ModuleExperts

if TYPE_CHECKING:
    from moesaic.routing.record import Routing

_NOMINAL = 256
"""Height and width, px, at which shares of cost are taken: windows fill it without a rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Multiply-adds of a network, or of a part of it, for one picture.

    Args:
        fixed: what every choice of experts costs.
        experts: by the routed layer's name, what each of its experts adds.
    """

    fixed: float
    experts: Mapping[str, tuple[float, ...]]

    @property
    def dearest(self) -> float:
        """With the dearest expert in every layer."""
        return self.fixed + sum(map(max, self.experts.values()))

    def chosen(self, experts: int | Mapping[str, int]) -> float:
        """With one expert for all layers, or one for each by the layer's name.

        Raises:
            ArgumentError: a layer has no such expert, or is not named.
        """
        total = self.fixed
        for name, costs in self.experts.items():
            expert = experts if isinstance(experts, int) else experts.get(name, -1)
            if not 0 <= expert < len(costs):
                raise ArgumentError(f"experts names none of the experts 0 to {len(costs) - 1} of layer {name!r}")
            total += costs[expert]
        return total

    def cost(
        self,
        routings: Mapping[str, Routing],
    ) -> Tensor:  # (B,)
        """The share of the dearest that the chosen experts leave to do, for each picture; no gradient.

        In (0, 1] where one expert acts in each layer, as in all routings that a gate of one expert makes.
        """
        shares = [self._shares(name, routing)[routing.chosen].sum(-1).mean(-1) for name, routing in routings.items()]
        return self.fixed / self.dearest + torch.stack(shares).sum(0)

    def expected_cost(
        self,
        routings: Mapping[str, Routing],
    ) -> Tensor:  # ()
        """The share of the dearest when experts are drawn by their probabilities, mean over pictures; with gradient."""
        shares = [
            (routing.probabilities * self._shares(name, routing)).sum(-1).mean() for name, routing in routings.items()
        ]
        return self.fixed / self.dearest + torch.stack(shares).sum()

    def _shares(self, name: str, routing: Routing) -> Tensor:  # (E,)
        return torch.tensor(self.experts[name], device=routing.probabilities.device) / self.dearest


def work(
    network: nn.Module,
    height: int = _NOMINAL,
    width: int = _NOMINAL,
    *,
    channels: int = 3,
    within: str = "",
    with_ffts: bool = True,
) -> Work:
    """Count the multiply-adds of a network for one picture.

    Args:
        network: takes pictures (1, channels, height, width); its routed layers choose among modules.
        height: of the picture, px.
        width: of the picture, px.
        channels: of the picture.
        within: name of a module; only what its forward pass does counts. "": all.
        with_ffts: whether FFTs count: one of N real numbers as 2.5 * N * log2(N) multiply-adds, the usual estimate of
            its operations.

    Raises:
        ArgumentError: a routed layer's experts are no modules, there is no module `within`, or height or width is
            below 1.
    """
    if height < 1 or width < 1:
        raise ArgumentError(f"height and width are at least 1 px, not {height} and {width}")
    if within and within not in dict(network.named_modules()):
        raise ArgumentError(f"within names a module of the network; {within!r} is none")
    layers = routed_layers(network)
    for name, layer in layers.items():
        if not isinstance(layer.experts, ModuleExperts):
            raise ArgumentError(f"layer {name!r} mixes kernels: work is counted for experts that are modules")
    mapping: dict[Any, Any] = {torch.ops.aten._fft_r2c: _no_fft, torch.ops.aten._fft_c2r: _no_fft}
    if with_ffts:
        mapping = {torch.ops.aten._fft_r2c: _forward_fft, torch.ops.aten._fft_c2r: _inverse_fft}
    counter = FlopCounterMode(display=False, custom_mapping=mapping)
    with FakeTensorMode(), torch.no_grad():
        twin = _without_numbers(network)
        picture = torch.empty(1, channels, height, width)
        with counter:
            twin(picture)
    counts, root = counter.get_flop_counts(), type(network).__name__

    def of(name: str) -> float:  # of a module and all inside it
        # A floating-point operation is half a multiply-add.
        return sum(counts.get(f"{root}.{name}" if name else root, {}).values()) / 2

    experts = {
        name: tuple(of(f"{name}.experts.bank.{i}") for i in range(layer.gate.experts))
        for name, layer in layers.items()
        if f"{name}.".startswith(f"{within}." if within else "")
    }
    return Work(fixed=of(within) - sum(map(sum, experts.values())), experts=experts)


def macs(
    network: nn.Module,
    height: int,
    width: int,
    *,
    experts: int | Mapping[str, int] | None = None,
    with_ffts: bool = True,
) -> float:
    """Multiply-adds of a network for one picture with a given choice of experts.

    Args:
        network: as in `work`.
        height: of the picture, px.
        width: of the picture, px.
        experts: one for all routed layers, or one for each by the layer's name; None: each layer's dearest.
        with_ffts: whether FFTs count, as in `work`.

    Raises:
        ArgumentError: there is no such expert, or what `work` refuses.
    """
    found = work(network, height, width, with_ffts=with_ffts)
    return found.dearest if experts is None else found.chosen(experts)


def _without_numbers(network: nn.Module) -> nn.Module:
    """A copy in evaluation mode with shapes alone, which runs every expert; for use in a fake tensor mode."""
    memo: dict[int, Any] = {}
    for parameter in network.parameters():
        memo[id(parameter)] = nn.Parameter(torch.empty(parameter.shape), requires_grad=False)
    for buffer in network.buffers():
        memo[id(buffer)] = torch.empty(buffer.shape)
    twin = copy.deepcopy(network, memo).eval()
    for layer in routed_layers(twin).values():
        layer.how = "reference"
    return twin


def _transforms(numbers: int, size: int) -> int:
    """Floating-point operations, twice the multiply-adds, of as many FFTs of `size` real numbers as `numbers` fill."""
    return round(2 * 2.5 * numbers * math.log2(size))


def _forward_fft(x: tuple[int, ...], dims: list[int], *_: Any, **__: Any) -> int:
    return _transforms(math.prod(x), math.prod(x[d] for d in dims))


def _inverse_fft(x: tuple[int, ...], dims: list[int], _: Any, last: int, **__: Any) -> int:
    size = math.prod(x[d] for d in dims[:-1]) * last
    return _transforms(math.prod(x) // x[dims[-1]] * last, size)


def _no_fft(*_: Any, **__: Any) -> int:
    return 0
