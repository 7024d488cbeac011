"""The picture of any network with routed layers: who acts where in each layer, and how much each expert does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from moesaic.errors import ArgumentError
from moesaic.explain.colours import ink_on
from moesaic.explain.explained import Explained
from moesaic.explain.panels import Panel, fitting, placed, room, sheet
from moesaic.explain.pixels import shown
from moesaic.picture import Picture
from moesaic.routing.collect import collect, recording, routed_layers
from moesaic.routing.layer import RoutedLinear
from moesaic.segment.routing_picture import COLOURS, routing_picture
from moesaic.sheet import INK, MUTED, SHEET, SMALL, TRACK, length, percent, write

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from moesaic.routing.record import Routing

_HIGHEST = 300  # px, of a panel's picture
_MOST_LAYERS = 24  # shown; figures tell of all
_ROW = 22  # px, of an expert's bar
_MOST_BARS = 12  # experts with a bar, those that do the most


def explain_network(
    network: nn.Module, picture: Picture, inputs: Tensor | Sequence[Tensor] | None = None, *, name: str = ""
) -> Explained:
    """A sheet, 1200 px wide, about the routed layers of a network: for each, its patches and what its experts do.

    Args:
        network: any torch network in which `moesaic.routing.sparsify` has made layers routed. It runs once, in
            evaluation mode and without gradients, and is left in the mode that it was in.
        picture: what it sees; the patches are laid over it.
        inputs: what the network is called with; the picture as (1, 3, H, W), float32 in [0, 1], over white, unless
            given. Of a batch the first is shown.
        name: of the picture, for the title.

    Raises:
        ArgumentError: the network has no routed layer, or one of them had no part in what it computed.
        Exception: what the network raises for such inputs.
    """
    if not routed_layers(network):
        raise ArgumentError(
            "this network has no routed layer to show: moesaic.routing.sparsify(network, 'name.of.layer') makes some"
        )
    routing = _run(network, picture, inputs)
    rows, columns = _grid_of_panels(len(routing))
    box = room(columns * 2, _HIGHEST)
    size = fitting(picture.width, picture.height, box)
    seen = placed(shown(picture), size)
    small = Picture(pixels=np.asarray(seen, np.float32) / np.float32(255))
    layers = routed_layers(network)
    panels = [
        panel
        for layer, decided in list(routing.items())[: rows * columns]
        for panel in _panels(small, layer, decided, box[0], tokens=isinstance(layers[layer], RoutedLinear))
    ]
    told = [f"{picture.width} x {picture.height} px, {type(network).__name__} with {len(routing)} routed layers."]
    if len(routing) > rows * columns:
        told.append(f"The first {rows * columns} layers are shown; the figures tell of all.")
    laid = [panels[start : start + 2 * columns] for start in range(0, len(panels), 2 * columns)]
    drawn = sheet(name or "Routing", told, laid, columns=2 * columns)
    return Explained(
        kind="routing",
        title=name,
        picture=Picture(
            pixels=np.asarray(drawn, np.float32) / np.float32(255), icc=picture.icc if picture.channels >= 3 else None
        ),
        figures={"layers": {layer: _figures(decided) for layer, decided in routing.items()}},
    )


def _run(network: nn.Module, picture: Picture, inputs: Tensor | Sequence[Tensor] | None) -> dict[str, Routing]:
    """What each layer decides for the inputs."""
    if inputs is None:
        parameter = next(network.parameters(), None)
        pixels = torch.from_numpy(np.ascontiguousarray(shown(picture).transpose(2, 0, 1)))[None].float() / 255
        inputs = pixels if parameter is None else pixels.to(parameter.device)
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.inference_mode(), recording(network):
            network(inputs) if isinstance(inputs, Tensor) else network(*inputs)
            return collect(network)
    finally:
        for module, was in modes:
            module.training = was


def _grid_of_panels(layers: int) -> tuple[int, int]:
    """Rows and columns of layers on the sheet."""
    columns = 1 if layers <= 2 else 2
    return -(-min(layers, _MOST_LAYERS) // columns), columns


def _panels(small: Picture, layer: str, routing: Routing, wide: int, *, tokens: bool) -> list[Panel]:
    """The patches of a layer, and its experts."""
    rows, columns = routing.grid
    shares = _shares(routing)
    acting = int((shares > 0).sum())
    per_place = f"{routing.k} of {routing.experts} experts act"
    if tokens:
        what = f"In each of {rows * columns} runs of tokens {per_place}." if rows * columns > 1 else f"{per_place}."
        image = _runs(routing, small)
    else:
        what = f"In each of {rows}x{columns} patches {per_place}. Colour: the heaviest."
        image = _patches(small, routing)
    return [
        Panel(title=f"Layer {layer}" if layer else "The network", told=what, image=image),
        Panel(
            told=f"What each does, by weight; {acting} of {routing.experts} act here.",
            image=_bars(shares, wide),
        ),
    ]


def _patches(small: Picture, routing: Routing) -> Image.Image:
    """The patches over the picture; drawn larger where there are more of them than pixels."""
    rows, columns = routing.grid
    enough = max(1, -(-rows // small.height), -(-columns // small.width))
    if enough > 1:
        image = Image.fromarray(shown(small)).resize((small.width * enough, small.height * enough))
        large = Picture(pixels=np.asarray(image, np.float32) / np.float32(255))
        drawn = Image.fromarray(shown(routing_picture(large, routing, legend=False)))
        return drawn.resize((small.width, small.height))
    return Image.fromarray(shown(routing_picture(small, routing, legend=False)))


def _runs(routing: Routing, small: Picture) -> Image.Image:
    """A stripe for each run of tokens in the colour of its heaviest expert: tokens have no place in the picture."""
    heaviest = routing.chosen[0, :, 0].cpu().numpy()
    image = Image.new("RGB", (small.width, 2 * _ROW), SHEET)
    pen = ImageDraw.Draw(image)
    for run, expert in enumerate(heaviest.tolist()):
        left, right = (place * small.width // len(heaviest) for place in (run, run + 1))
        pen.rectangle((left, 0, max(left, right - 2), 2 * _ROW), fill=COLOURS[expert % len(COLOURS)])
    return image


def _shares(routing: Routing) -> NDArray[np.float64]:  # (E,), they sum to 1 where anything acts
    weight: NDArray[np.float64] = routing.dense()[0].double().sum(dim=0).cpu().numpy()
    total = weight.sum()
    return weight / total if total > 0 else weight


def _bars(shares: NDArray[np.float64], wide: int) -> Image.Image:
    """A bar for each expert, in the order of their numbers; where there are many, for those that do the most."""
    listed = sorted(np.argsort(-shares, kind="stable")[:_MOST_BARS].tolist())
    left_out = len(shares) - len(listed)
    image = Image.new("RGB", (wide, _ROW * (len(listed) + (left_out > 0))), SHEET)
    pen = ImageDraw.Draw(image)
    start = length("expert 000", SMALL) + 8
    for row, expert in enumerate(listed):
        top, colour = row * _ROW, COLOURS[expert % len(COLOURS)]
        write(pen, (0, top + 10), f"expert {expert}", SMALL, MUTED, "lm")
        pen.rectangle((start, top + 1, wide - 1, top + _ROW - 4), fill=TRACK)
        end = start + round(float(shares[expert]) * (wide - 1 - start))
        if end > start:
            pen.rectangle((start, top + 1, end, top + _ROW - 4), fill=colour)
        text = percent(float(shares[expert]))
        inside = end - start > length(text, SMALL) + 8
        ink = ink_on(colour) if inside else INK
        write(pen, (start + 4 if inside else end + 4, top + 10), text, SMALL, ink, "lm")
    if left_out:
        write(pen, (0, len(listed) * _ROW + 2), f"and {left_out} that do less", SMALL, MUTED)
    return image


def _figures(routing: Routing) -> dict[str, object]:
    shares = _shares(routing)
    return {
        "grid": list(routing.grid),
        "experts": routing.experts,
        "k": routing.k,
        "shares": [round(float(share), 4) for share in shares],
    }
