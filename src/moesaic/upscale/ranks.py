"""Linear layers and convolutions with ranks: y = W x + SUM_i g_i B_i A_i x, g decided for each picture and layer.

Letters: R ranks, shared ones first; A (R, inputs) reads, B (outputs, R) writes; g (B, R) the gates.
"""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moesaic.errors import ArgumentError, ShapeError
from moesaic.routing.choice import widened
from moesaic.upscale.rank_gates import Router
from moesaic.upscale.rank_plan import Ranks

if TYPE_CHECKING:
    from collections.abc import Mapping


class RankedLayer(nn.Module):
    """What layers with ranks share. They are the layers that they replace, with the same weight and bias, and more.

    Attributes:
        weight: of the layer that was there, frozen.
        bias: the same.
        down: A, (R, *inputs of the weight), drawn with a standard deviation of 1 / R.
        up: B, (outputs, R), 0 at first, so that new ranks change nothing.
        router: decides about the routed ranks; None where there are none.
        merged: a weight with the ranks of one decision in it, which replaces weight and ranks; None.
        ranks: how many of what kind.
    """

    weight: Tensor
    router: Router | None
    merged: Tensor | None

    def _adopt(self, old: nn.Linear | nn.Conv2d, ranks: Ranks, scores: int) -> None:
        """Take the numbers of the layer that was there, and draw ranks."""
        for name in ("weight", "bias"):
            setattr(self, name, getattr(old, name))
        self.ranks = ranks
        here = old.weight.device
        kind = torch.float64 if old.weight.dtype == torch.float64 else torch.float32  # halves are too coarse to learn
        shape = (ranks.total, *old.weight.shape[1:])
        self.down = nn.Parameter(nn.init.normal_(torch.empty(shape, dtype=kind), std=1 / ranks.total).to(here))
        self.up = nn.Parameter(torch.zeros(len(old.weight), ranks.total, dtype=kind).to(here))
        self.router = None
        if ranks.routed:
            self.router = Router(ranks.experts, ranks.active, scores=scores, hidden=ranks.hidden, noise=ranks.noise)
            self.router.to(here)
        self.register_buffer("merged", None, persistent=False)
        self.told = Told()
        self.train(old.training)

    @property
    def shared(self) -> int:
        """Ranks that are always on."""
        return self.ranks.shared

    @property
    def routed(self) -> int:
        """Experts that do something, which are numbered first."""
        return self.ranks.real

    @property
    def zero(self) -> int:
        """Experts that do nothing."""
        return self.ranks.zero

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *further: Any) -> None:
        if self.merged is not None:  # it would go on with the weight of before
            raise ArgumentError("the ranks are merged; call unmerge() before you load other weights")
        super()._load_from_state_dict(state_dict, prefix, *further)

    def plain(self, x: Tensor, weight: Tensor, *, biased: bool = True) -> Tensor:
        """The layer as it was, with this weight, and its own bias or none."""
        raise NotImplementedError

    def add(
        self,
        y: Tensor,  # (B, ..., outputs), or of a convolution (B, outputs, H, W)
        h: Tensor,  # the same with R in the place of the outputs
        up: Tensor,  # (outputs, R), or (B, outputs, R)
    ) -> Tensor:
        """The sum y + up h."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output, with the ranks that are on.

        Raises:
            ArgumentError: nothing says which ranks these are.
            ShapeError: the gates are for another number of pictures, or `x` has no axis of pictures.
        """
        if self.merged is not None:
            return self.plain(x, self.merged)
        gates = self.gates_of(x)
        y = self.plain(x, self.weight)
        h = self.plain(x, self.down.to(x.dtype), biased=False)
        # Gates weigh the columns of B, not h, which has as many rows as the map has pixels.
        return self.add(y, h, self._written(gates).to(h.dtype))

    def gates_of(self, x: Tensor) -> Tensor | None:  # (B or 1, R)
        """The gates for a batch; None where nothing is routed.

        Raises:
            ArgumentError: there are none.
            ShapeError: they are for another number of pictures, or `x` has no axis of pictures.
        """
        if x.ndim < self.weight.ndim:
            raise ShapeError(f"a layer with ranks reads batches, with {self.weight.ndim} axes at least, not {x.ndim}")
        if self.router is None:
            return None
        gates = self.told.now()
        if gates is None:
            raise ArgumentError(
                "this model's ranks depend on how degraded a picture is: run it within `with mix.given(scores):`, "
                "or merge them first with mix.merge(scores)"
            )
        if gates.shape[0] not in (1, x.shape[0]):
            raise ShapeError(
                f"scores were given for {gates.shape[0]} pictures, and a layer got {x.shape[0]}: give one row for each "
                "picture, or one for all"
            )
        return gates

    def delta(
        self,
        gates: Tensor | None,  # (1, R)
    ) -> Tensor:  # as the weight, float32 or float64
        """What the ranks add to the weight: SUM_i g_i B_i A_i."""
        return (widened(self._written(gates)) @ widened(self.down).flatten(1)).view(self.weight.shape)

    def merge(
        self,
        gates: Tensor | None,  # (1, R)
    ) -> None:
        """Compute with one weight from now on; the layer's own weight stays beside it, untouched."""
        with torch.inference_mode(False), torch.no_grad():
            self.merged = (widened(self.weight) + self.delta(gates)).to(self.weight.dtype)

    def unmerge(self) -> None:
        """Compute with the layer's own weight and the ranks again."""
        self.merged = None

    def _written(self, gates: Tensor | None) -> Tensor:  # (outputs, R) or (B, outputs, R)
        """B with its columns times the gates."""
        if gates is None:
            return self.up
        # As wide as B, and never half: what rounds the gates, too, would not be what was decided.
        gates = gates.to(self.up.device, torch.promote_types(self.up.dtype, torch.float32))
        return self.up * (gates[0] if gates.shape[0] == 1 else gates[:, None])

    def extra_repr(self) -> str:
        """Those of the layer that was there, and the ranks."""
        kinds = f"ranks={self.ranks.total}, shared={self.shared}, routed={self.routed}, zero={self.zero}"
        return f"{super().extra_repr()}, {kinds}"


class RankedLinear(RankedLayer, nn.Linear):
    """A linear layer with ranks, over the last axis; the first is that of the pictures.

    Args:
        old: the layer, whose weight and bias this takes over and freezes.
        ranks: how many of what kind.
        scores: S, numbers that describe the degradation.
    """

    def __init__(self, old: nn.Linear, ranks: Ranks, scores: int) -> None:
        bias: Tensor | None = old.bias  # torch's own types forget that it may be absent
        nn.Linear.__init__(self, old.in_features, old.out_features, bias=bias is not None, device="meta")
        self._adopt(old, ranks, scores)

    def plain(self, x: Tensor, weight: Tensor, *, biased: bool = True) -> Tensor:
        """The linear layer as it was."""
        return F.linear(x, weight, self.bias if biased else None)

    def add(self, y: Tensor, h: Tensor, up: Tensor) -> Tensor:
        """The sum y + up h."""
        if up.ndim == 2:
            return torch.addmm(y.flatten(0, -2), h.flatten(0, -2), up.mT).view(y.shape)
        rows = (len(y), math.prod(y.shape[1:-1]))
        return torch.baddbmm(y.reshape(*rows, y.shape[-1]), h.reshape(*rows, h.shape[-1]), up.mT).view(y.shape)


class RankedConv2d(RankedLayer, nn.Conv2d):
    """A convolution with ranks: those that read see what its kernel sees, in all its strides, dilations and paddings.

    Args:
        old: the layer, whose weight and bias this takes over and freezes.
        ranks: how many of what kind.
        scores: S, numbers that describe the degradation.
    """

    def __init__(self, old: nn.Conv2d, ranks: Ranks, scores: int) -> None:
        bias: Tensor | None = old.bias
        shape: dict[str, Any] = {
            name: getattr(old, name) for name in ("kernel_size", "stride", "padding", "dilation", "padding_mode")
        }
        nn.Conv2d.__init__(self, old.in_channels, old.out_channels, bias=bias is not None, device="meta", **shape)
        self._adopt(old, ranks, scores)

    def plain(self, x: Tensor, weight: Tensor, *, biased: bool = True) -> Tensor:
        """The convolution as it was."""
        y: Tensor = self._conv_forward(x, weight, self.bias if biased else None)
        return y

    def add(self, y: Tensor, h: Tensor, up: Tensor) -> Tensor:
        """The sum y + up h, in one pass over y, in whatever order its numbers lie."""
        up = up if up.ndim == 3 else up.expand(len(y), -1, -1)
        if y.is_contiguous(memory_format=torch.channels_last):
            B, C, H, W = y.shape
            rows = torch.baddbmm(y.permute(0, 2, 3, 1).flatten(1, 2), h.permute(0, 2, 3, 1).flatten(1, 2), up.mT)
            return rows.view(B, H, W, C).permute(0, 3, 1, 2)
        return torch.baddbmm(y.flatten(2), up, h.flatten(2)).view(y.shape)


class Told:
    """The gates of one layer in each thread that has given some, the innermost last.

    Copies and pickles are empty: they would hold the graph of a batch.
    """

    def __init__(self) -> None:
        self._threads: dict[int, list[Tensor]] = {}

    def push(self, gates: Tensor) -> None:
        """These hold from now on."""
        self._threads.setdefault(threading.get_ident(), []).append(gates)

    def pop(self) -> None:
        """Those before hold again."""
        mine = self._threads[threading.get_ident()]
        mine.pop()
        if not mine:
            del self._threads[threading.get_ident()]

    def now(self) -> Tensor | None:
        """The gates that hold here.

        Where only one thread has given any, they hold in all: autograd runs a checkpointed block again in a thread of
        its own, and a caller may hand tiles to workers.
        """
        threads = list(self._threads.values())
        mine = threads[0] if len(threads) == 1 else self._threads.get(threading.get_ident())
        return mine[-1] if mine else None

    def __reduce__(self) -> tuple[type[Told], tuple[()]]:
        return Told, ()


def rank_by_rank(
    layer: RankedLayer,
    x: Tensor,
    gates: Tensor,  # (B, R)
) -> Tensor:
    """What a layer with ranks computes, by its formula: for each picture the weight and one rank after the other.

    The reference of `RankedLayer.forward`, which takes the gates from its router.
    """
    outputs = []
    for picture, gate in zip(x, gates, strict=True):
        weight = layer.weight
        for i in range(layer.ranks.total):
            written = layer.up[:, i].view(-1, *[1] * (weight.ndim - 1))
            weight = weight + gate[i] * written * layer.down[i][None]
        outputs.append(layer.plain(picture[None], weight))
    return torch.cat(outputs)


def ranked_layers(model: nn.Module) -> Mapping[str, RankedLayer]:
    """The layers with ranks of a model by name, in the order of its modules."""
    return {name: module for name, module in model.named_modules() if isinstance(module, RankedLayer)}
