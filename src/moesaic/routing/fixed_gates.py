"""Gates that do not look at the picture, or never learn: the controls that a learned gate has to beat."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import layer_norm, linear

from moesaic.errors import ArgumentError, ShapeError
from moesaic.routing.choice import Gate, whole
from moesaic.routing.grid import place_mean, read_grid
from moesaic.routing.record import Routing

if TYPE_CHECKING:
    from torch import Tensor


class UniformGate(Gate):
    """All experts act everywhere, each with weight 1 / E: an average, the control for "more weights help".

    Args:
        experts: how many there are.
        k: ignored beyond its check; K is E.
        options: noise and capacity, which change nothing here.
    """

    reads_channels = False

    def __init__(self, experts: int, k: int = 1, **options: Any) -> None:
        super().__init__(experts, k, **options)
        self.k = self.experts
        self.noise, self.capacity = 0.0, None

    def scores(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, P, E), zeros."""
        return x.new_zeros(x.shape[0], grid[0] * grid[1], self.experts, dtype=torch.float32)


class RandomGate(Gate):
    """k experts drawn for each place, with weights 1 / k, anew at each forward pass, also in use.

    It draws from a generator of its own, seeded by `seed` and the number of passes so far; both are part of the
    state dictionary, so that a resumed run draws what the whole run would have. A compiled model breaks its graph here,
    and an export is refused.

    Args:
        experts: how many there are.
        k: how many act at each place.
        seed: of the draws.
        options: noise and capacity, which change nothing here.
    """

    reads_channels = False

    def __init__(self, experts: int, k: int, *, seed: int = 0, **options: Any) -> None:
        super().__init__(experts, k, **options)
        self.noise, self.capacity = 0.0, None
        self.seed = seeded(seed)
        self.passes = 0

    def decide(self, x: Tensor, grid: tuple[int, int]) -> Routing:
        """Draw; the record says what is true before the draw: all experts are equally probable.

        Raises:
            ArgumentError: the model is being exported, which would freeze one draw into the file.
        """
        if torch.compiler.is_exporting():
            raise ArgumentError("the gate 'random' draws anew at each pass, and an exported file cannot: take another")
        shape = (x.shape[0], grid[0] * grid[1], self.experts)
        # marked here: at import it would have torch load its compiler for everybody
        draw = torch.compiler.disable(self._draw) if torch.compiler.is_compiling() else self._draw
        chosen = draw(shape).to(x.device)
        logits = torch.zeros(shape, device=x.device)
        return Routing(
            weights=torch.full_like(chosen, 1, dtype=logits.dtype) / self.k,
            chosen=chosen,
            probabilities=logits.softmax(-1),
            logits=logits,
            grid=grid,
        )

    def _draw(self, shape: tuple[int, int, int]) -> Tensor:  # (B, P, K) int64
        # not torch's generator: on a CPU it reads only the lower half of a seed
        draws = np.random.default_rng([self.seed, self.passes]).random(shape)
        self.passes += 1
        return torch.from_numpy(draws.argsort(-1)[..., : self.k].copy())

    def get_extra_state(self) -> Tensor:
        """Seed and number of passes, for the state dictionary."""
        return torch.tensor([self.seed, self.passes])

    def set_extra_state(self, state: Tensor) -> None:
        """Go on from a state dictionary.

        Raises:
            ArgumentError: it holds something else than a seed and a number of passes.
        """
        if state.shape != (2,) or state.is_floating_point() or int(state.min()) < 0:
            raise ArgumentError(f"the state of a random gate is a seed and a number of passes, not {state.tolist()}")
        self.seed, self.passes = (int(number) for number in state)


class PositionGate(Gate):
    """Scores that belong to the place of the grid, learned, the same for all pictures: position without content.

    With as many experts as places and k = 1 nothing is learned: each place has the expert of its own number, one kernel
    for each grid position.

    Args:
        experts: how many there are.
        k: how many act at each place.
        grid: rows and columns of places.
        kernels: whether each place has its own expert; None: where there are as many experts as places and k = 1.
        options: noise and capacity, see `Gate`.

    Raises:
        ArgumentError: no grid, or `kernels` with another number of experts than places or another k than 1.
    """

    reads_channels = False

    def __init__(
        self, experts: int, k: int, *, grid: int | tuple[int, int] = 3, kernels: bool | None = None, **options: Any
    ) -> None:
        super().__init__(experts, k, **options)
        rows, columns = read_grid(grid)
        own = (experts, k) == (rows * columns, 1)
        if kernels and not own:
            raise ArgumentError(
                f"one expert for each of {rows * columns} places needs experts={rows * columns} and k=1, "
                f"not experts={experts} and k={k}"
            )
        if own and kernels is not False:
            # 200: a softmax that is exactly one-hot in float32
            self.register_buffer("table", 200 * torch.eye(experts), persistent=False)
            self.noise, self.capacity = 0.0, None
        else:
            self.table = nn.Parameter(torch.randn(rows * columns, experts) / 10)

    def scores(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, P, E), the same for each picture."""
        places = grid[0] * grid[1]
        if places != self.table.shape[0]:
            raise ShapeError(f"the gate knows {self.table.shape[0]} positions, the grid {grid} has {places}")
        return self.table.expand(x.shape[0], -1, -1)


class FrozenGate(Gate):
    """A random projection of the place's mean that is never trained: content without learning.

    The mean is freed of its own level and scale over the channels first, or the few experts that the common level
    happens to favour would take every place.

    Args:
        channels: of the maps it reads.
        experts: how many there are.
        k: how many act at each place.
        seed: of the projection.
        options: noise and capacity, see `Gate`.
    """

    def __init__(self, channels: int, experts: int, k: int, *, seed: int = 0, **options: Any) -> None:
        super().__init__(experts, k, **options)
        self.channels = whole("channels", channels)
        generator = torch.Generator().manual_seed(seeded(seed))
        self.weight: Tensor
        self.register_buffer("weight", torch.randn(experts, channels, generator=generator) / channels**0.5)

    def scores(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, P, E) from (B, C, H, W), without a gradient."""
        mean = place_mean(x.detach(), grid)
        return linear(layer_norm(mean, mean.shape[-1:]), self.weight.to(mean.dtype))


def seeded(seed: int) -> int:
    """A seed that any generator takes whole.

    Raises:
        ArgumentError: it is not a whole number from 0 to 2**31 - 1.
    """
    try:
        number = operator.index(seed)
    except TypeError:
        number = -1
    if not 0 <= number < 2**31:
        raise ArgumentError(f"seed is a whole number from 0 to {2**31 - 1}, not {seed!r}")
    return number
