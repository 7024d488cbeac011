"""Networks with group norms over large pictures: in tiles that share their statistics, so that no tile shows.

A group norm looks at the whole map. Tiles that are normalised each by itself come out with colours of their own, and
blending only hides the border. Here all tiles go through the network as one batch, and meet at every group norm: its
mean and variance are those of the whole map, each place counted once, in the tile where it is farthest from the rim.
Between two norms every layer takes the tiles one after the other, so that what a layer needs on its way is there for
one tile only; and the maps that wait may lie in the memory of the machine instead of the accelerator's.

Two ways from there. `joined`: after every layer each tile is told what its neighbours made of the rim that they share,
and self-attention looks at the cores of all tiles. Then tiles are only an order of doing things: the result is that of
the whole, up to rounding, and the overlap is as small as what one layer sees. Otherwise a tile knows of the others by
their statistics alone: attention sees its tile, which for large pictures is all that there is time for, and tiles are
blended. In pictures with more tiles than memory holds together, the statistics are those of some of them.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from moesaic.errors import ArgumentError, LimitError, ModelError, ShapeError
from moesaic.memory import is_out_of_memory
from moesaic.upscale.tile_plan import Area, TilePlan
from moesaic.values import is_whole

if TYPE_CHECKING:
    from torch import Tensor

_log = logging.getLogger(__name__)

TOGETHER = 16 * 96 * 96
"""Cells in tiles that go through a network together. In larger pictures tiles spread evenly, as many as that allows,
give the statistics, and then every tile is done alone with these; so memory is bounded whatever the picture."""

_LEAST = 16  # cells: no tile is made smaller than this when memory runs out

_RIM = 2  # cells around a core, at least, where tiles are joined; a convolution of 3 x 3 needs one of its map's places


class Statistics(NamedTuple):
    """Of one group norm over the whole map."""

    mean: Tensor  # (groups,), at least float32
    variance: Tensor  # (groups,)


def run_shared(
    network: Callable[[Tensor], Tensor],  # (K, C, h * inward, w * inward) -> (K, C', h * outward, w * outward)
    parts: nn.Module,
    x: Tensor,  # (1, C, H * inward, W * inward)
    *,
    tile: int | None = None,
    overlap: int = 32,
    multiple_of: int = 1,
    inward: int = 1,
    outward: int = 1,
    joined: bool = True,
    together: int = TOGETHER,
) -> Tensor:  # (1, C', H * outward, W * outward), on the device of x
    """What a network makes of a picture, in tiles whose group norms share their statistics; without gradients.

    Sizes are in cells, which are the pixels of the smaller of the two pictures: those of the latent for the encoder
    and the decoder of an autoencoder alike. See `TilePlan` for how tiles are blended.

    When memory runs out, first tiles are used at all, then maps wait in the memory of the machine, and then the tile
    is halved again and again.

    Args:
        network: takes one or more tiles; on the device of `parts`, in evaluation mode.
        parts: the modules that `network` calls, in one.
        x: one picture, on any device.
        tile: side of a tile, cells; None: the whole in one piece, and tiles only when memory runs out.
        overlap: cells that neighbouring tiles share where they are not joined, half a tile at most; joined ones
            share few.
        multiple_of: tiles have sides, and begin at places, that are multiples of this many cells: how many of them the
            coarsest map inside joins into one.
        inward: input pixels per cell.
        outward: output pixels per cell.
        joined: as far as `together` allows, see above. The time that self-attention takes then grows with the square
            of the picture.
        together: see `TOGETHER`.

    Raises:
        ArgumentError: a size is out of range.
        ShapeError: x is not one picture whose sides are multiples of `inward * multiple_of`.
        LimitError: there is not enough memory even for small tiles.
        ModelError: the network is of a kind that does not go by tiles.
    """
    _check(x, tile, overlap, multiple_of, inward, outward, together)
    cells = (x.shape[-2] // inward, x.shape[-1] // inward)
    device = next((weight.device for weight in parts.parameters()), x.device)
    host = torch.device("cpu")
    side, home = tile if tile is None else _up(tile, multiple_of), device
    least = max(_LEAST, 4 * multiple_of)
    while True:
        try:
            with torch.no_grad():
                if side is None or side >= max(cells):
                    return network(x.to(device)).to(x.device)
                plan = TilePlan(cells, side, 2 * _up(_RIM, multiple_of), multiple_of, inward, outward)
                count = max(1, together // (plan.size[0] * plan.size[1]))
                if joined and len(plan.places) <= count:
                    return _in_tiles(network, parts, x, plan, device, home, joined=True)
                plan = TilePlan(cells, side, _up(min(overlap, side // 2), multiple_of), multiple_of, inward, outward)
                return _in_tiles(network, parts, x, plan, device, home, at_once=count)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        # Outside the except clause, whose traceback would keep the tensors of the failed attempt alive.
        now = max(cells) if side is None else min(side, max(cells))
        if now < max(cells) and home != host:
            side, home = now, host
        else:
            side, home = max(_up(now // 2, multiple_of), least), device
            if side >= now:
                raise LimitError(
                    f"there is not enough memory even for tiles of {now * max(inward, outward)} px ({reason}); pass a"
                    " smaller picture, or another device"
                )
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        place = "" if home == device else ", what waits in the memory of the machine"
        _log.warning("not enough memory: trying again with tiles of %d px%s", side * max(inward, outward), place)


def _check(
    x: Tensor, tile: int | None, overlap: int, multiple_of: int, inward: int, outward: int, together: int
) -> None:
    """Refuse what means nothing.

    Raises:
        ArgumentError: see `run_shared`.
        ShapeError: see there.
    """
    numbers = {"tile": (tile, 1), "overlap": (overlap, 0), "multiple_of": (multiple_of, 1), "inward": (inward, 1)}
    for name, (value, low) in (numbers | {"outward": (outward, 1), "together": (together, 1)}).items():
        if not is_whole(value, low) and not (name == "tile" and value is None):
            raise ArgumentError(f"{name} is a whole number, at least {low}, not {value!r}")
    if x.ndim != 4 or len(x) != 1 or 0 in x.shape or any(side % (inward * multiple_of) for side in x.shape[-2:]):
        raise ShapeError(
            f"x is (1, C, H, W) with sides that are multiples of {inward * multiple_of}, not {tuple(x.shape)}"
        )


def _in_tiles(
    network: Callable[[Tensor], Tensor],
    parts: nn.Module,
    x: Tensor,
    plan: TilePlan,
    device: torch.device,
    home: torch.device,
    *,
    joined: bool = False,
    at_once: int = 1,
) -> Tensor:
    all_at_once = joined or len(plan.places) <= at_once
    chosen = plan.places if all_at_once else plan.spread(at_once)
    canvas: Tensor | None = None
    tiles, cores = [plan.tile(place) for place in chosen], [plan.core(place) for place in chosen]
    meeting = _Meeting(tiles, cores, device, joined=joined)
    with meeting.held_in(parts):
        made = network(torch.cat([plan.cut(x, place) for place in chosen]).to(home))
        for k, place in enumerate(plan.places):
            if not all_at_once:
                made, k = meeting.alone(network, plan.cut(x, place).to(device)), 0
            if canvas is None:
                shape = (1, made.shape[1], *plan.output)
                canvas = torch.zeros(shape, device=x.device, dtype=_precise(made.dtype))
            plan.add(canvas, made[k : k + 1], place)
    if canvas is None:
        raise ShapeError(f"nothing to do for {tuple(x.shape)}")
    return canvas.to(made.dtype)


class _Meeting:
    """Tiles on their way through a network: together at its group norms, one after the other between them."""

    def __init__(self, tiles: list[Area], cores: list[Area], device: torch.device, *, joined: bool) -> None:
        self.tiles, self.cores = tiles, cores
        self.size = (tiles[0].bottom - tiles[0].top, tiles[0].right - tiles[0].left)  # cells
        self.joined = joined
        self.rims = [
            (k, other, rim)
            for k, tile in enumerate(tiles)
            for other, core in enumerate(cores)
            if k != other and (rim := tile.within(core))
        ]
        self.device = device  # where layers compute; what they make goes where their input waits
        self.known: list[Statistics] = []  # of the norms, in the order in which they are reached
        self.reached: int | None = None  # how many norms, with known statistics; None while these are gathered
        self.within: Statistics | None = None  # of the attention that is under way

    @contextmanager
    def held_in(self, parts: nn.Module) -> Iterator[None]:
        """Within this the modules treat a batch as the tiles of one picture."""
        before: list[tuple[nn.Module, Any]] = []
        try:
            for module in _where_to_meet(parts, self.joined):
                before.append((module, module.__dict__.get("forward")))
                forward = module.forward
                if isinstance(module, nn.GroupNorm):
                    module.__dict__["forward"] = partial(self._norm, module)
                elif self.joined and _is_self_attention(module):
                    module.__dict__["forward"] = partial(self._attend, module, forward)
                else:
                    module.__dict__["forward"] = partial(self._layer, forward)
            yield
        finally:
            for module, forward in before:
                del module.__dict__["forward"]
                if forward is not None:
                    module.__dict__["forward"] = forward

    def alone(self, network: Callable[[Tensor], Tensor], piece: Tensor) -> Tensor:
        """One tile with the statistics that are known."""
        self.reached = 0
        return network(piece)

    def _layer(self, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What a layer makes of all tiles; each has then what its neighbours know better of its rim."""
        if self.reached is not None:
            return forward(*args, **kwargs)
        made = self._in_turn(forward, *args, **kwargs)
        if self.joined and made.ndim == 4:
            for k, other, rim in self.rims:
                self._spot(made, k, rim).copy_(self._spot(made, other, rim))
        return made

    def _in_turn(self, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Tensor:
        """One tile after the other."""
        made: Tensor | None = None
        home = next(
            (value.device for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)), self.device
        )
        for k in range(len(self.cores)):
            piece = forward(*self._cut(args, k), **{name: self._cut(value, k) for name, value in kwargs.items()})
            if not isinstance(piece, torch.Tensor) or not piece.ndim or len(piece) != 1:
                raise ModelError("a layer of the network makes no map for each tile; it cannot go by tiles")
            if made is None:
                made = piece.new_empty((len(self.cores), *piece.shape[1:]), device=home)
            made[k] = piece[0]
        if made is None:
            raise ModelError("there are no tiles")
        return made

    def _cut(self, value: Any, k: int) -> Any:
        if isinstance(value, tuple | list):
            return type(value)(self._cut(one, k) for one in value)
        if not isinstance(value, torch.Tensor):
            return value
        mine = value[k : k + 1] if value.ndim and len(value) == len(self.cores) else value
        return mine.to(self.device)

    def _norm(self, norm: nn.GroupNorm, x: Tensor) -> Tensor:  # (K, C, ...)
        if self.within is not None:
            return _normalised(norm, self.within, x)
        if self.reached is None:
            self.known.append(self._statistics(norm, x))
            return self._in_turn(partial(_normalised, norm, self.known[-1]), x)
        self.reached += 1
        return _normalised(norm, self.known[self.reached - 1], x)

    def _statistics(self, norm: nn.GroupNorm, x: Tensor) -> Statistics:
        """Pooled over the cores of all tiles (Chan et al., 1979), which loses no digits."""
        counts, means, variances = [], [], []
        for k in range(len(self.cores)):
            core = self._core_of(x, k).to(self.device)
            core = core.to(_precise(core.dtype)).reshape(norm.num_groups, -1)
            variance, mean = torch.var_mean(core, dim=1, correction=0)
            counts.append(core.shape[1])
            means.append(mean.double())
            variances.append(variance.double())
        share = torch.tensor(counts, dtype=torch.float64, device=self.device)[:, None] / sum(counts)
        mean = (share * torch.stack(means)).sum(0)
        variance = (share * (torch.stack(variances) + (torch.stack(means) - mean) ** 2)).sum(0)
        return Statistics(mean=mean.to(_precise(x.dtype)), variance=variance.to(_precise(x.dtype)))

    def _core_of(self, x: Tensor, k: int) -> Tensor:  # (1, C, h, w)
        """The core of one tile of maps (K, C, H, W), or of maps as rows of places (K, C, P)."""
        if x.ndim == 3:
            x = x.reshape(*x.shape[:2], *self._sides(x.shape[-1]))
        return self._spot(x, k, self.cores[k])

    def _spot(self, x: Tensor, k: int, area: Area) -> Tensor:  # (1, C, h, w)
        """An area of the picture in the map of one tile, which may be finer or coarser than the cells."""
        (rows, columns), (height, width) = self.size, x.shape[-2:]
        down, right = self.tiles[k].top, self.tiles[k].left
        return x[
            k : k + 1,
            :,
            (area.top - down) * height // rows : (area.bottom - down) * height // rows,
            (area.left - right) * width // columns : (area.right - right) * width // columns,
        ]

    def _sides(self, places: int) -> tuple[int, int]:
        finer = math.sqrt(places / (self.size[0] * self.size[1]))
        height, width = round(self.size[0] * finer), round(self.size[1] * finer)
        if height * width != places:
            raise ModelError(f"a layer has {places} places for a tile of {self.size} cells; it cannot go by tiles")
        return height, width

    def _attend(self, attention: Any, forward: Callable[..., Tensor], x: Tensor, **kwargs: Any) -> Tensor:
        """Self-attention of each tile to the cores of all, in maps (K, C, h, w) or places (K, P, C)."""
        source = x if x.ndim == 4 else x.transpose(1, 2)
        statistics: Statistics | None = None
        if attention.group_norm is not None:
            statistics = self._statistics(attention.group_norm, source)
            self.known.append(statistics)
            source = self._in_turn(partial(_normalised, attention.group_norm, statistics), source)
        cores = [self._core_of(source, k).flatten(2).transpose(1, 2).to(self.device) for k in range(len(self.cores))]
        told = {**kwargs, "encoder_hidden_states": torch.cat(cores, dim=1)}
        self.within = statistics
        try:
            return self._in_turn(lambda piece: forward(piece, **told), x)
        finally:
            self.within = None


def _where_to_meet(module: nn.Module, joined: bool) -> Iterator[nn.Module]:
    """Group norms and, where they are joined, self-attentions; and the largest modules that hold none of these."""
    seen: set[int] = set()

    def meets(one: nn.Module) -> bool:
        return isinstance(one, nn.GroupNorm) or (joined and _is_self_attention(one))

    def walk(one: nn.Module) -> Iterator[nn.Module]:
        if id(one) in seen:
            return
        seen.add(id(one))
        listed = isinstance(one, nn.ModuleList | nn.ModuleDict)  # these are never called themselves
        if meets(one) or not (listed or any(meets(inner) for inner in one.modules())):
            yield one
            if isinstance(norm := getattr(one, "group_norm", None), nn.GroupNorm):
                yield norm
            return
        for child in one.children():
            yield from walk(child)

    yield from walk(module)


def _is_self_attention(module: nn.Module) -> bool:
    """Whether it is diffusers' `Attention` without a second source; other kinds are not joined."""
    told = all(hasattr(module, name) for name in ("to_q", "to_k", "to_v", "processor", "group_norm"))
    return told and not getattr(module, "is_cross_attention", True)


def _normalised(norm: nn.GroupNorm, statistics: Statistics, x: Tensor) -> Tensor:  # (K, C, ...)
    """A group norm with statistics from elsewhere."""
    kind = _precise(x.dtype)
    each = x.shape[1] // norm.num_groups
    mean = statistics.mean.to(kind).repeat_interleave(each)
    scale = (statistics.variance.to(kind) + norm.eps).rsqrt().repeat_interleave(each)
    shift = -mean * scale
    if norm.affine:
        scale, shift = scale * norm.weight.to(kind), shift * norm.weight.to(kind) + norm.bias.to(kind)
    form = (1, -1, *[1] * (x.ndim - 2))
    return torch.addcmul(shift.view(form), x.to(kind), scale.view(form)).to(x.dtype)


def _precise(kind: torch.dtype) -> torch.dtype:
    return torch.promote_types(kind, torch.float32)


def _up(value: int, multiple_of: int) -> int:
    return -(-value // multiple_of) * multiple_of
