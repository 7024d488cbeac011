"""Gates that are told something about the picture beside the map: its fine detail, or how degraded it is."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.functional import conv2d, gelu, linear, pad

from moesaic.errors import ArgumentError, ShapeError
from moesaic.routing.choice import Gate, whole, widened
from moesaic.routing.grid import place_mean
from moesaic.routing.pooled_gates import drawn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor


class ConditionedGate(Gate):
    """A gate that reads a tensor beside the map: one row for each picture, or one row for all of them.

    A network sets it in its forward pass (`gate.condition = tensor`), or a caller for a while
    (`gate.conditioned(tensor)`). Copies and pickles of the gate do not hold it.

    Attributes:
        condition: (B, S) or (1, S), or None.
    """

    condition: Tensor | None = None
    condition_size: int | None = None  # S; None: the gate takes no condition

    @contextmanager
    def conditioned(
        self,
        condition: Tensor,  # (B, S) or (1, S)
    ) -> Iterator[None]:
        """Within this block the gate reads `condition`."""
        before = self.condition
        self.condition = condition
        try:
            yield
        finally:
            self.condition = before

    def given(self, x: Tensor) -> Tensor:  # (B, 1, S)
        """The condition for the pictures of a map, in float32 or better.

        Raises:
            ArgumentError: none is set.
            ShapeError: it is not one row of the right length for each picture, or for all.
        """
        condition = self.condition
        if condition is None:
            raise ArgumentError(
                f"this gate reads {self.condition_size} numbers beside the map: set gate.condition to a tensor "
                f"(B, {self.condition_size}), or run the model within gate.conditioned(tensor)"
            )
        if condition.ndim != 2 or condition.shape[1] != self.condition_size:
            raise ShapeError(
                f"condition is (B, {self.condition_size}) or (1, {self.condition_size}), not {tuple(condition.shape)}"
            )
        if condition.shape[0] not in (1, x.shape[0]):
            raise ShapeError(
                f"condition has {condition.shape[0]} rows for {x.shape[0]} pictures: give one row for each, "
                "or one for all"
            )
        return widened(condition)[:, None]

    def __getstate__(self) -> dict[str, Any]:
        # It holds the graph of its batch; copies and pickles are of the gate alone.
        return {key: value for key, value in self.__dict__.items() if key != "condition"}


@contextmanager
def conditioned(
    model: nn.Module,
    condition: Tensor,  # (B, S) or (1, S)
) -> Iterator[None]:
    """Within this block every conditioned gate of a model reads `condition`; gates that take none are left alone."""
    with ExitStack() as stack:
        for gate in model.modules():
            if isinstance(gate, ConditionedGate) and gate.condition_size is not None:
                stack.enter_context(gate.conditioned(condition))
        yield


class FrequencyGate(ConditionedGate):
    """The mean of the place and its fine detail, each through a linear map without bias; their sum scores the experts.

    Detail is the mean of |x - its 3x3 mean| over the place, for each channel; or, with `condition_size`, an embedding
    that the network sets, such as the one of `FrequencyEmbedding`: MoCE-IR's router (arXiv 2411.18466, reference code
    `eduardzamfir/MoCE-IR`), which routes whole pictures, a grid of 1. Unlike there, noise stays out of use, and the
    weights of the chosen sum to 1.

    Args:
        channels: of the maps it reads.
        experts: how many there are.
        k: how many act at each place.
        condition_size: of the embedding; None: detail is taken from the map itself.
        noise: standard deviation of normal noise while training, in the units of the scores (MoCE-IR: 1/4, one over its
            number of experts).
        options: capacity, see `Gate`.

    Raises:
        ArgumentError: a count below 1, or what `Gate` refuses; in use, an embedding that was not set.
    """

    relative_noise = False

    def __init__(
        self,
        channels: int,
        experts: int,
        k: int,
        *,
        condition_size: int | None = None,
        noise: float = 0.25,
        **options: Any,
    ) -> None:
        super().__init__(experts, k, noise=noise, **options)
        self.channels = whole("channels", channels)
        self.condition_size = None if condition_size is None else whole("condition_size", condition_size)
        self.level = drawn(experts, channels)
        self.detail = drawn(experts, self.condition_size or channels)

    def scores(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, P, E) from (B, C, H, W)."""
        x = widened(x)
        detail = place_mean(fine(x), grid) if self.condition_size is None else self.given(x)
        level = linear(place_mean(x, grid), self.level.to(x.dtype))
        return level + linear(detail.to(x.dtype), self.detail.to(x.dtype))


class FrequencyEmbedding(nn.Module):
    """What a picture's features hold at high frequencies, as one vector: the embedding that MoCE-IR computes once.

    A 3x3 convolution of each channel by itself, begun as the Laplacian of eight neighbours and then learned, GELU, the
    mean over the map, and two linear layers with GELU between them, C to 2 C to C (arXiv 2411.18466, reference code).

    Args:
        channels: of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = whole("channels", channels)
        laplacian = torch.full((3, 3), -1.0)
        laplacian[1, 1] = 8.0
        self.filter = nn.Parameter(laplacian.expand(channels, 1, 3, 3).clone())
        self.up = nn.Linear(channels, 2 * channels)
        self.down = nn.Linear(2 * channels, channels)

    def forward(
        self,
        x: Tensor,  # (B, C, H, W)
    ) -> Tensor:  # (B, C)
        """The embedding of each picture.

        Raises:
            ShapeError: the map has another number of channels.
        """
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise ShapeError(f"features are (B, {self.channels}, H, W), not {tuple(x.shape)}")
        detail = gelu(conv2d(x, self.filter, padding=1, groups=self.channels)).mean((2, 3))
        embedding: Tensor = self.down(gelu(self.up(detail)))
        return embedding


class ScoreGate(ConditionedGate):
    """Scores of degradation alone decide, alike at all places: the router of a mixture of ranks (arXiv 2511.16024).

    The published router's shape is not known; this is one linear map without bias, drawn small, so that the experts
    begin nearly even, or with `hidden` two with a GELU between them. Weights of the chosen sum to 1; an adapter that
    wants them as they are in the softmax over all experts takes `routing.probabilities.gather(-1, routing.chosen)`.

    Args:
        experts: how many there are, zero experts included.
        k: how many act.
        scores: S, how many numbers describe the degradation.
        hidden: width of a layer between; None: none.
        options: noise and capacity, see `Gate`.

    Raises:
        ArgumentError: a count below 1, or what `Gate` refuses; in use, scores that were not set.
    """

    reads_channels = False

    def __init__(self, experts: int, k: int, *, scores: int = 7, hidden: int | None = None, **options: Any) -> None:
        super().__init__(experts, k, **options)
        self.condition_size = whole("scores", scores)
        width = self.condition_size if hidden is None else whole("hidden", hidden)
        self.first = None if hidden is None else drawn(width, scores)
        self.last = nn.Parameter(nn.init.normal_(torch.empty(experts, width), std=0.01))

    def scores(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, P, E), the same at each place."""
        given = self.given(x)
        if self.first is not None:
            given = gelu(linear(given, self.first.to(given.dtype)))
        scores = linear(given, self.last.to(given.dtype))  # (B or 1, 1, E)
        return scores.expand(x.shape[0], grid[0] * grid[1], -1)


def fine(
    x: Tensor,  # (B, C, H, W)
) -> Tensor:  # (B, C, H, W)
    """How far each pixel is from the mean of its 3x3 neighbours that lie on the map; a high-pass for any size."""
    neighbours = _nine(x.new_ones(1, 1, *x.shape[2:]))  # 9, at the edges 6, in corners 4
    return _nine(x).div_(neighbours).sub_(x).abs_()


def _nine(x: Tensor) -> Tensor:
    """The sum over each pixel and its neighbours; on a CPU faster than pooling or a convolution by channel."""
    padded = pad(x, (1, 1, 1, 1))
    rows = (padded[:, :, :-2] + padded[:, :, 1:-1]).add_(padded[:, :, 2:])
    return (rows[..., :-2] + rows[..., 1:-1]).add_(rows[..., 2:])
