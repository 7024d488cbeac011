"""Send places to their experts and combine what comes back: three ways with one signature and one result.

    y[b, :, patch p] = sum over k of weights[b, p, k] * expert[chosen[b, p, k]](x[b])[:, patch p]

- `reference`: that sentence as a loop over the experts, each run on the whole map. The oracle of the tests; static.
- `gather`: cut the places out, sort them by expert, run each expert once on all of its places. Any expert; one
  synchronisation with the host, for the number of places of each expert.
- `merged`: for convolutions, sum_k w_k conv(x, W_k) = conv(x, sum_k w_k W_k): mix the kernels of each place, then
  convolve once, whatever k is. Shapes do not depend on the routing: no synchronisation, no break of a graph.

The identity behind `merged` is that of CondConv (Yang et al. 2019, arXiv 1904.04971), here for each patch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import torch

from moesaic.errors import ArgumentError, ShapeError
from moesaic.routing.experts import ConvExperts, Experts, ModuleExperts
from moesaic.routing.grid import bounds, boxes, channels_last, cut, join, spread

if TYPE_CHECKING:
    from torch import Tensor

    from moesaic.routing.record import Routing

How = Literal["auto", "reference", "gather", "merged"]

_MIXING = 4
"""Pixels of a patch, for each expert, from which mixing kernels costs less than it saves; see docs/routing.md."""

_LARGE = 2**17
"""Numbers in a kernel from which a CPU mixes each just before its use; below, all are mixed in one product."""

_LOOPED = 128
"""Input channels of a kernel from which a CPU convolves picture by picture faster than in groups."""


def dispatch(
    x: Tensor,  # (B, C, H, W)
    experts: Experts,
    routing: Routing,
    *,
    how: How = "auto",
) -> Tensor:  # (B, C', H', W')
    """What the chosen experts make of each place, weighted and put together.

    Args:
        x: the map.
        experts: the bank.
        routing: who acts where; its grid cuts the rows and columns of the output.
        how: "reference", "gather", "merged", or "auto" to choose from the shapes.

    Raises:
        ShapeError: the map is not of the shape that the experts read, smaller than the grid, or not the one routed.
        ArgumentError: `how` is none of those, or "merged" was asked for experts that are no convolutions.
    """
    experts.check(x)
    if routing.experts != experts.experts or routing.weights.shape[0] != x.shape[0]:
        raise ShapeError(
            f"the routing is for {routing.weights.shape[0]} pictures and {routing.experts} experts,"
            f" the map holds {x.shape[0]} and the bank {experts.experts}"
        )
    if how not in get_args(How):
        raise ArgumentError(f"how is 'auto', 'reference', 'gather' or 'merged', not {how!r}")
    if how == "auto":
        how = _choose(x, experts, routing)
    if how == "reference":
        return reference(x, experts, routing)
    if how == "gather":
        return gather(x, experts, routing)
    if not isinstance(experts, ConvExperts):
        raise ArgumentError("how='merged' needs convolutions or linear layers as experts; take 'gather' or 'auto'")
    return merged(x, experts, routing)


def _choose(x: Tensor, experts: Experts, routing: Routing) -> How:
    if isinstance(experts, ModuleExperts):
        return "reference" if torch.compiler.is_compiling() else "gather"
    if torch.compiler.is_compiling() or x.device.type != "cpu":
        return "merged"
    pixels = x.shape[2] * x.shape[3] // (routing.places * experts.stride[0] * experts.stride[1])
    return "merged" if pixels >= _MIXING * experts.experts else "gather"


def reference(
    x: Tensor,  # (B, C, H, W)
    experts: Experts,
    routing: Routing,
) -> Tensor:  # (B, C', H', W')
    """Each expert on the whole map, times its weight at each place."""
    weights = routing.dense()  # (B, P, E)
    shares = []
    for expert in range(experts.experts):
        y = experts.alone(expert, x)
        shares.append(y * spread(weights[:, :, expert], y.shape[2], y.shape[3], routing.grid).to(y.dtype))
    return torch.stack(shares).sum(0)


def merged(
    x: Tensor,  # (B, C, H, W)
    experts: ConvExperts,
    routing: Routing,
) -> Tensor:  # (B, C', H', W')
    """One convolution for each place, with the mixture of its experts' kernels."""
    padded = experts.pad(x)
    height, width = experts.size(padded)
    large = experts.weight[0].numel() * experts.outputs >= _LARGE
    if large and x.device.type == "cpu" and not (torch.is_grad_enabled() or torch.compiler.is_compiling()):
        return _merged_one_by_one(padded, experts, routing)
    kernels, constants = experts.mixed(routing.dense())  # (B, P, O, I, h, w), (B, P, O)
    grouped = x.device.type != "cpu" or (kernels.shape[3] < _LOOPED and not channels_last(x))
    parts = []
    for place, (top, bottom, left, right) in enumerate(boxes(height, width, routing.grid)):
        window = _window(padded, experts, (top, left), (bottom - top, right - left))
        constant = None if constants is None else constants[:, place]
        parts.append(_convolve_each(window, experts, kernels[:, place], constant, grouped=grouped))
    return join(parts, routing.grid)


def _merged_one_by_one(padded: Tensor, experts: ConvExperts, routing: Routing) -> Tensor:
    """For large kernels on a CPU: each is mixed from its k experts just before its use, while it is in the cache."""
    height, width = experts.size(padded)
    chosen, weights = routing.chosen.tolist(), routing.weights.tolist()
    kernel = torch.empty_like(experts.kernels[0])
    parts = []
    for place, (top, bottom, left, right) in enumerate(boxes(height, width, routing.grid)):
        window = _window(padded, experts, (top, left), (bottom - top, right - left))
        pictures = []
        for picture in range(padded.shape[0]):
            constant = experts.blend(chosen[picture][place], weights[picture][place], kernel)
            pictures.append(experts.convolve(window[picture : picture + 1].contiguous(), kernel, constant))
        parts.append(pictures[0] if len(pictures) == 1 else torch.cat(pictures))
    return join(parts, routing.grid)


def _convolve_each(
    x: Tensor,  # (B, C, h, w), padded
    experts: ConvExperts,
    kernels: Tensor,  # (B, O, I, kh, kw)
    constants: Tensor | None,  # (B, O)
    *,
    grouped: bool,
) -> Tensor:  # (B, O, h', w')
    """Each picture with a kernel of its own: in one convolution with groups, or one after the other."""
    batch = x.shape[0]
    if batch == 1 or not grouped:
        parts = [
            experts.convolve(x[b : b + 1], kernels[b], None if constants is None else constants[b])
            for b in range(batch)
        ]
        return parts[0] if batch == 1 else torch.cat(parts)
    y = experts.convolve(
        x.reshape(1, batch * experts.inputs, *x.shape[2:]),
        kernels.flatten(0, 1),
        None if constants is None else constants.flatten(),
        times=batch,
    )
    return y.reshape(batch, experts.outputs, *y.shape[2:])


def gather(
    x: Tensor,  # (B, C, H, W)
    experts: Experts,
    routing: Routing,
) -> Tensor:  # (B, C', H', W')
    """Each expert once, on all the places where it was chosen."""
    windows, boxes_of_output = (
        _cut_for_convolution(x, experts, routing)
        if isinstance(experts, ConvExperts)
        else (_cut_for_modules(x, experts, routing))
    )
    k, places = routing.k, routing.places
    chosen = routing.chosen.reshape(-1)  # (B * P * K,)
    order = chosen.argsort(stable=True)
    back = order.argsort()
    sorted_windows = windows.flatten(0, 1)[order // k]
    counts = torch.bincount(chosen, minlength=experts.experts).tolist()  # the one synchronisation
    results = []
    for expert, part in enumerate(sorted_windows.split(counts)):
        if counts[expert]:
            results.append(_act(experts, expert, part))
    y = torch.cat(results)[back].unflatten(0, (x.shape[0], places, k))  # (B, P, K, C', h, w)
    y = (y * routing.weights[..., None, None, None].to(y.dtype)).sum(2)
    parts = [
        cut(y[:, place], (top, left), (bottom - top, right - left))
        for place, (top, bottom, left, right) in enumerate(boxes_of_output)
    ]
    return join(parts, routing.grid)


def _act(experts: Experts, expert: int, windows: Tensor) -> Tensor:
    if isinstance(experts, ModuleExperts):
        return experts.alone(expert, windows)
    return experts.convolve(windows, experts.kernels[expert], None if experts.bias is None else experts.bias[expert])


_Boxes = list[tuple[int, int, int, int]]


def _cut_for_convolution(x: Tensor, experts: ConvExperts, routing: Routing) -> tuple[Tensor, _Boxes]:
    """Windows of one size for all places, (B, P, C, h, w), and where in its result each place's patch is."""
    padded = experts.pad(x)
    height, width = experts.size(padded)
    ends = boxes(height, width, routing.grid)
    most = (_longest(height, routing.grid[0]), _longest(width, routing.grid[1]))
    windows = torch.stack([_window(padded, experts, (top, left), most) for top, _, left, _ in ends], dim=1)
    return windows, [(0, bottom - top, 0, right - left) for top, bottom, left, right in ends]


def _cut_for_modules(x: Tensor, experts: ModuleExperts, routing: Routing) -> tuple[Tensor, _Boxes]:
    """The same for experts that pad themselves: a window at the map's border ends there, so that their padding does."""
    height, width = x.shape[2:]
    longest = (_longest(height, routing.grid[0]), _longest(width, routing.grid[1]))
    rows, columns = min(height, longest[0] + 2 * experts.halo), min(width, longest[1] + 2 * experts.halo)
    windows, inside = [], []
    for top, bottom, left, right in boxes(height, width, routing.grid):
        first_row = min(max(top - experts.halo, 0), height - rows)
        first_column = min(max(left - experts.halo, 0), width - columns)
        windows.append(cut(x, (first_row, first_column), (rows, columns)))
        inside.append((top - first_row, bottom - first_row, left - first_column, right - first_column))
    return torch.stack(windows, dim=1), inside


def _longest(length: int, parts: int) -> int:
    ends = bounds(length, parts)
    return ends[-1] - ends[-2]  # bounds() promises that none is longer than the last


def _window(padded: Tensor, experts: ConvExperts, corner: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """The part of a padded map under the kernels of a patch of the output."""
    (top, left), (rows, columns) = corner, size
    (down, along), span = experts.stride, experts.span
    return cut(
        padded,
        (top * down, left * along),
        ((rows - 1) * down + span[0], (columns - 1) * along + span[1]),
    )
