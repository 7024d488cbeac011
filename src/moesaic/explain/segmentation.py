"""The picture of a segmentation: its classes, which expert acts in each patch, and which expert meets which class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from moesaic.explain.colours import ink_on
from moesaic.explain.explained import Explained
from moesaic.explain.panels import Panel, fitting, placed, room, sheet
from moesaic.explain.pixels import shown
from moesaic.picture import Picture
from moesaic.routing.grid import boxes
from moesaic.segment.routing_picture import COLOURS, pick_layer, routing_picture
from moesaic.sheet import MUTED, SHEET, SMALL, TRACK, length, percent, write

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moesaic.routing.record import Routing
    from moesaic.segment.use import Segmentation

_HIGHEST = 440  # px, of a panel's picture
_ROW = 30  # px, of a class
_MOST = 12  # classes shown, the largest
_KEYS = 9  # experts in a key, those that act most


def explain_segmentation(found: Segmentation, *, name: str = "", model: str = "") -> Explained:
    """A sheet, 1200 px wide, about the routing of a segmentation network.

    Args:
        found: what the network made of a picture.
        name: of the picture, for the title.
        model: its name.

    Raises:
        ArgumentError: there is no routing to show.
    """
    if not found.routing:
        pick_layer(found.routing, None)  # says why
    picture = found.picture
    box = room(2, _HIGHEST)
    size = fitting(picture.width, picture.height, box)
    seen = placed(shown(picture), size)
    classes = [place for place in np.argsort(-_counts(found), kind="stable") if _counts(found)[place]]
    rows = [
        [
            Panel(title="The picture", image=seen),
            Panel(title="Its classes", image=placed(shown(found.overlay(legend=False)), size)),
        ]
    ]
    small = Picture(pixels=np.asarray(seen, np.float32) / np.float32(255))
    for layer, routing in found.routing.items():
        table = by_class(found.labels, routing, len(found.names))
        rows.append(_layer(small, layer, routing, table, found, classes[:_MOST], box[0]))
    shares = {name: round(share, 4) for name, share in found.shares.items()}
    told = [
        f"{picture.width} x {picture.height} px, {len(classes)} of {len(found.names)} classes found"
        + (f", by {model}." if model else ".")
    ]
    pixels = np.asarray(sheet(name, told, rows), np.float32) / np.float32(255)
    return Explained(
        kind="segmentation",
        title=name,
        picture=Picture(pixels=pixels, icc=picture.icc if picture.channels >= 3 else None),
        figures={"shares": shares, "layers": list(found.routing)},
    )


def by_class(
    labels: NDArray[np.uint8],  # (H, W)
    routing: Routing,
    classes: int,
) -> NDArray[np.float64]:  # (E, classes), px
    """How many pixels of each class each expert acts on, by its weight; of a batch, the first."""
    table = np.zeros((routing.experts, classes))
    patches = boxes(labels.shape[0], labels.shape[1], routing.grid)
    places = zip(routing.chosen[0].tolist(), routing.weights[0].tolist(), strict=True)
    for (chosen, weights), (top, bottom, left, right) in zip(places, patches, strict=True):
        counts = np.bincount(labels[top:bottom, left:right].ravel(), minlength=classes)
        for expert, weight in zip(chosen, weights, strict=True):
            table[expert] += weight * counts
    return table


def _counts(found: Segmentation) -> NDArray[np.int64]:
    return np.bincount(found.labels.ravel(), minlength=len(found.names))


def _layer(
    small: Picture,
    layer: str,
    routing: Routing,
    table: NDArray[np.float64],
    found: Segmentation,
    classes: list[int],
    wide: int,
) -> list[Panel]:
    """Who acts in each patch, and in each class."""
    drawn = shown(routing_picture(small, routing, legend=False))
    most = [int(expert) for expert in np.argsort(-table.sum(axis=1), kind="stable") if table[expert].any()]
    rows, columns = routing.grid
    return [
        Panel(
            title=f"Layer {layer}: who acts where",
            told=f"In each of {rows}x{columns} patches {routing.k} of {routing.experts} experts act. Written: their"
            " weights. Colour: the heaviest.",
            image=Image.fromarray(drawn),
            key=tuple(
                (COLOURS[expert % len(COLOURS)], f"{'expert ' * (place == 0)}{expert}")
                for place, expert in enumerate(sorted(most[:_KEYS]))
            ),
        ),
        Panel(
            title="Experts by class",
            told="Of the pixels of each class, the part that falls to each expert, by weight. Were the bars alike, the"
            " choice would not depend on the class.",
            image=_bars(table, found, classes, wide),
        ),
    ]


def _bars(table: NDArray[np.float64], found: Segmentation, classes: list[int], wide: int) -> Image.Image:
    """For each class its colour, name and share, and a bar of the experts."""
    image = Image.new("RGB", (wide, _ROW * len(classes)), SHEET)
    pen = ImageDraw.Draw(image)
    shares = {place: f"{found.names[place]} {percent(found.shares[found.names[place]])}" for place in classes}
    start = 24 + min(max(length(text, SMALL) for text in shares.values()) + 12, wide // 2)
    for row, place in enumerate(classes):
        top = row * _ROW
        pen.rectangle((0, top + 5, 14, top + 19), fill=found.colours[place], outline=MUTED)
        write(pen, (22, top + 4), shares[place], SMALL, MUTED)
        pen.rectangle((start, top + 3, wide - 1, top + 21), fill=TRACK)
        parts = table[:, place] / max(table[:, place].sum(), 1e-9)
        ends = start + np.rint(np.cumsum(parts) * (wide - start)).astype(int)
        left = start
        for expert, right in enumerate(ends.tolist()):
            if right > left:
                pen.rectangle((left, top + 3, right - 1, top + 21), fill=COLOURS[expert % len(COLOURS)])
                if right - left > length(str(expert), SMALL) + 4:
                    ink = ink_on(COLOURS[expert % len(COLOURS)])
                    write(pen, ((left + right) // 2, top + 12), str(expert), SMALL, ink, "mm")
                left = right
    return image
