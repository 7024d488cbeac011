"""A picture of a routing: which experts acted where in a photograph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from moesaic.errors import ArgumentError
from moesaic.picture import Picture
from moesaic.routing.grid import boxes
from moesaic.segment.overlay import above, swatches

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moesaic.routing.record import Routing
    from moesaic.segment.overlay import Colour

COLOURS: tuple[Colour, ...] = (
    *((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66)),
    *((0, 114, 178), (213, 94, 0), (204, 121, 167), (153, 153, 153)),
)
"""Eight colours that colour-blind readers tell apart (Okabe and Ito 2008), with grey for their black, which would hide
the picture. A ninth expert has the first one again."""

_LUMA = (0.299, 0.587, 0.114)
_LIFTED = 0.25  # the grey that black becomes
_SMALLEST = 9  # px, of the letters; patches too small for them have none


def routing_picture(
    picture: Picture,
    routing: Routing,
    *,
    layer: str = "",
    legend: bool = True,
    opacity: float = 0.5,
) -> Picture:
    """The picture in grey, each patch in the colour of its heaviest expert, with the numbers and weights of the chosen.

    Experts are counted from 0, as in an audit. The borders are those of the grid laid over the picture; in the network
    the grid lies over a smaller map, so they may be off by a pixel of that map. Of many experts in a patch those that
    fit are written, the heaviest first. The result has 8 bits a channel and no transparency: the picture lies on white.

    Args:
        picture: what was segmented.
        routing: what one layer decided for it; of a batch, the first.
        layer: its name, for the legend.
        legend: whether there is one below the picture.
        opacity: of the colours, from 0 (the picture alone) to 1 (the colours alone).

    Raises:
        ArgumentError: the opacity is outside [0, 1].
        ShapeError: the picture has fewer rows or columns than the grid.
    """
    if not 0 <= opacity <= 1:
        raise ArgumentError(f"opacity must be from 0 to 1, not {opacity}")
    places = acting_in(routing)
    patches = boxes(picture.height, picture.width, routing.grid)
    seen = picture.over(1.0) if picture.has_alpha else picture
    grey = seen.pixels @ np.array(_LUMA, np.float32) if seen.channels == 3 else seen.pixels[..., 0]
    light = _LIFTED + (1 - np.float32(_LIFTED)) * grey  # dark pictures would hide the colours
    shown = np.repeat(light[..., None], 3, axis=2) * np.float32(1 - opacity)
    for acting, (top, bottom, left, right) in zip(places, patches, strict=True):
        shown[top:bottom, left:right] += np.array(_colour(acting[0][0]), np.float32) * np.float32(opacity / 255)
    sheet = Image.fromarray(np.rint(255 * shown.clip(0, 1)).astype(np.uint8))
    _write(sheet, places, patches)
    drawn: NDArray[np.float32] = np.asarray(sheet, np.float32) / np.float32(255)
    if legend:
        drawn = above(drawn, _legend(places, routing, layer, picture.width))
    return replace(picture, pixels=drawn, depth=8, icc=picture.icc if picture.channels >= 3 else None)


def routing_map(routing: Routing, size: tuple[int, int]) -> Image.Image:
    """The same without a picture: each patch in the colour of its heaviest expert, with numbers and weights; RGBA.

    Args:
        routing: what one layer decided; of a batch, the first.
        size: width and height of the map, px.

    Raises:
        ShapeError: the map has fewer rows or columns than the grid.
    """
    places = acting_in(routing)
    patches = boxes(size[1], size[0], routing.grid)
    sheet = Image.new("RGBA", size)
    draw = ImageDraw.Draw(sheet)
    for acting, (top, bottom, left, right) in zip(places, patches, strict=True):
        draw.rectangle((left, top, right - 1, bottom - 1), fill=_colour(acting[0][0]))
    _write(sheet, places, patches)
    return sheet


def pick_layer(routing: Mapping[str, Routing], layer: str | None) -> tuple[str, Routing]:
    """A layer by name, or the only one.

    Raises:
        ArgumentError: there is none, none of that name, or several and no name.
    """
    if not routing:
        raise ArgumentError(
            "there is no routing to show: the model has no routed layer, or the picture was run in several tiles, each "
            "routed for itself (take scale 'trained' and no tile)"
        )
    if layer is None and len(routing) == 1:
        return next(iter(routing.items()))
    if layer is None or layer not in routing:
        said = "name the layer" if layer is None else f"layer {layer!r} is not routed"
        raise ArgumentError(f"{said}: choose one of {', '.join(routing)}")
    return layer, routing[layer]


Acting = list[tuple[int, float]]
"""Number and weight of the experts of a patch, the heaviest first."""


def acting_in(routing: Routing) -> list[Acting]:
    """Who acts in each patch, row by row; of a batch, the first."""
    places = zip(routing.chosen[0].tolist(), routing.weights[0].tolist(), strict=True)
    return [sorted(zip(chosen, weights, strict=True), key=lambda pair: -pair[1]) for chosen, weights in places]


def _colour(expert: int) -> Colour:
    return COLOURS[expert % len(COLOURS)]


def _write(sheet: Image.Image, places: Sequence[Acting], patches: Sequence[tuple[int, int, int, int]]) -> None:
    """Lines between the patches, and in the middle of each who acts there."""
    draw = ImageDraw.Draw(sheet)
    thick = max(1, min(sheet.size) // 180)
    for top, _, left, _ in patches:
        if top:
            draw.rectangle((0, top - thick // 2, sheet.width, top - thick // 2 + thick - 1), fill="white")
        if left:
            draw.rectangle((left - thick // 2, 0, left - thick // 2 + thick - 1, sheet.height), fill="white")
    narrowest = min(right - left for _, _, left, right in patches)
    lowest = min(bottom - top for top, bottom, _, _ in patches)
    size = max(_SMALLEST, min(lowest // 5, narrowest // 10))
    font = ImageFont.load_default(size)
    row, stroke = size + size // 3, max(1, size // 10)
    room = lowest // row  # lines
    whole = font.getlength("expert 10: 100%") < narrowest
    for acting, (top, bottom, left, right) in zip(places, patches, strict=True):
        lines = [f"{'expert ' if whole else ''}{expert}: {weight:.0%}" for expert, weight in acting]
        if len(lines) > room:
            lines = [*lines[: max(0, room - 1)], f"and {len(lines) - room + 1} more"]
        if room < 1 or max(map(font.getlength, lines)) + 2 * stroke > narrowest:
            continue
        first = (top + bottom - row * (len(lines) - 1)) / 2
        for number, line in enumerate(lines):
            place = ((left + right) / 2, first + number * row)
            draw.text(place, line, "white", font, anchor="mm", stroke_width=stroke, stroke_fill="black")


def _legend(places: Sequence[Acting], routing: Routing, layer: str, width: int) -> NDArray[np.float32]:  # (h, w, 3)
    """What the picture shows, and a swatch for each expert that acts somewhere."""
    heaviest = np.bincount([acting[0][0] for acting in places], minlength=routing.experts)
    acts = np.bincount([expert for acting in places for expert, _ in acting], minlength=routing.experts)
    rows, columns = routing.grid
    named = f"Layer {layer}" if layer else "One layer"
    told = [
        f"{named}: in each of {rows}x{columns} patches {routing.k} of {routing.experts} experts act.",
        "Written: their weights.",
        "Colour: the heaviest.",
    ]
    acting = [expert for expert in range(routing.experts) if acts[expert]]
    texts = [f"expert {expert}: heaviest in {heaviest[expert]}, acts in {acts[expert]}" for expert in acting]
    idle = [str(expert) for expert in range(routing.experts) if not acts[expert]]
    texts += [f"not chosen here: {', '.join(idle)}"] if idle else []
    colours = [*(_colour(expert) for expert in acting), *([None] if idle else [])]
    heads = swatches(told, [None] * len(told), width)
    return above(heads, swatches(texts, colours, width))
