"""The picture of a mixture: its kernels, who owns which place, where bits and errors go, and its layers."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from moesaic.explain.colours import AMOUNT, borders, grey, ramp, told_apart
from moesaic.explain.ellipses import Region, crop, drawn
from moesaic.explain.explained import Explained, Hover
from moesaic.explain.owners import owned, owners, spread
from moesaic.explain.panels import Panel, Scale, fitting, placed, room, sheet
from moesaic.explain.pixels import alike, drawing, error_colours, error_scale, levels_off, shown, top_of
from moesaic.metrics import psnr
from moesaic.picture import Picture
from moesaic.sheet import INK, ORANGE, percent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moesaic.codec.file import MoeFile
    from moesaic.codec.spent import Spent
    from moesaic.mixture.model import Mixture

TOLD_APART = 300
"""Kernels in a crop: as many as can be told apart on a panel."""

MAP_PIXELS = 1 << 20
"""Of maps of a whole canvas; larger ones are sampled."""

_HIGHEST = 440  # px, of a panel's picture
_ENDS = tuple(m * 10.0**e for e in range(-4, 5) for m in (1, 3))  # bits per pixel, at the ends of a scale
_WITHIN = (0.02, 0.98)  # shares of the pixels between which the scale reaches


def explain_mixture(held: MoeFile, costs: Spent, *, name: str = "", source: Picture | None = None) -> Explained:
    """A sheet, 1200 px wide, about the mixture of a `.moe` file.

    Args:
        held: what the file holds, all of its layers.
        costs: what each of its kernels costs.
        name: of the file, for the title.
        source: the picture that it was made of; without it no errors are shown.

    Raises:
        ShapeError: the source has another size than the canvas.
    """
    mixture = held.mixture
    own = owners(mixture, size=_map_size(mixture))
    region = crop(mixture, TOLD_APART)
    whole = (mixture.width, mixture.height)
    canvas = None if source is None else drawing(mixture, depth=held.header.depth)
    against = None if canvas is None or source is None else alike(canvas, source)
    quality = None if against is None else psnr(*against)
    box = room(2, _HIGHEST)
    size = fitting(*whole, box)
    framed = region != (0.0, 0.0, *map(float, whole))
    whole_drawn = _drawn_panel(mixture, canvas, size, region if framed else None)
    one_by_one, bits = _crop_panels(mixture, region, framed, box), _bits_panel(mixture, costs, own, size)
    if source is None or against is None:
        rows = [[whole_drawn, bits], one_by_one]
    else:
        before = Panel(title="The picture", told="As it came.", image=placed(shown(source), size))
        rows = [[before, whole_drawn], one_by_one, [bits, _error_panel(*against, size)]]
    if len(costs.kernels) > 1:
        rows.append(_layer_panels(held, costs, source))
    counts = owned(own, len(mixture))
    figures: dict[str, Any] = {
        "width": mixture.width,
        "height": mixture.height,
        "kernels": len(mixture),
        "order": mixture.order,
        "owners": int((counts > 0).sum()),
        "bytes": costs.whole,
        "bpp": 8 * costs.whole / (mixture.width * mixture.height),
        "bits_per_kernel": float(costs.bits.mean()),
        "psnr": quality,
        "layers": len(costs.kernels),
    }
    image = sheet(name, _told(figures), rows)
    pixels = np.asarray(image, np.float32) / np.float32(255)
    layer = np.repeat(np.arange(1, len(costs.kernels) + 1), costs.kernels)
    under = shown(drawing(mixture, size=(own.shape[1], own.shape[0])) if canvas is None else canvas)
    if under.shape[:2] != own.shape:
        under = np.asarray(placed(under, (own.shape[1], own.shape[0])))
    return Explained(
        kind="mixture",
        title=name,
        picture=Picture(pixels=pixels, icc=held.info.icc if mixture.channels >= 3 else None),
        figures=figures,
        hover=Hover(under=under, own=own, mixture=mixture, bits=costs.bits, layer=layer),
    )


def _told(figures: dict[str, Any]) -> list[str]:
    """The figures that matter."""
    kernels, idle = figures["kernels"], figures["kernels"] - figures["owners"]
    colour = "linear" if figures["order"] else "constant"
    first = [
        f"{figures['width']} x {figures['height']} px",
        f"{kernels:,} {'kernel' if kernels == 1 else 'kernels'} of {colour} colour",
        f"{figures['bytes']:,} bytes",
        f"{figures['bpp']:.3f} bits per pixel",
    ]
    if figures["psnr"] is not None:
        first.append(f"{figures['psnr']:.2f} dB PSNR" if math.isfinite(figures["psnr"]) else "equal to the source")
    second = [f"A kernel takes {figures['bits_per_kernel']:.1f} bits in the mean"]
    if idle:
        second.append(f"{idle:,} own no place, as others are heavier everywhere")
    return [", ".join(first) + ".", "; ".join(second) + "."]


def _map_size(mixture: Mixture) -> tuple[int, int]:
    """Width and height of maps of the whole canvas, px."""
    scale = min(1.0, math.sqrt(MAP_PIXELS / (mixture.width * mixture.height)))
    return max(1, int(mixture.width * scale)), max(1, int(mixture.height * scale))


def _drawn_panel(mixture: Mixture, canvas: Picture | None, size: tuple[int, int], framed: Region | None) -> Panel:
    """The mixture drawn, with a frame around what the panels of kernels show."""
    if canvas is None:  # twice as fine as it is shown, so that kernels below a pixel do not glitter
        fine = tuple(min(2 * a, max(a, b)) for a, b in zip(size, (mixture.width, mixture.height), strict=True))
        canvas = drawing(mixture, size=(fine[0], fine[1]))
    image = placed(shown(canvas), size)
    told = "All kernels together."
    if framed is not None:
        told = "All kernels together. The frame is the part that is shown below."
        scale = size[0] / mixture.width, size[1] / mixture.height
        left, top, right, bottom = (side * scale[place % 2] for place, side in enumerate(framed))
        pen = ImageDraw.Draw(image)
        pen.rectangle((left - 2, top - 2, right + 2, bottom + 2), outline="white", width=6)
        pen.rectangle((left, top, right, bottom), outline=ORANGE, width=3)
    return Panel(title="As drawn from the mixture", told=told, image=image)


def _crop_panels(mixture: Mixture, region: Region, framed: bool, box: tuple[int, int]) -> list[Panel]:
    """Ellipses, and who owns which place, of the same part of the canvas."""
    left, top, right, bottom = region
    size = fitting(right - left, bottom - top, box)
    under = shown(drawing(mixture, size=size, region=region))
    ellipses, count = drawn(mixture, under, region)
    where = ", in the frame" if framed else ""
    many = f"{count:,} of {len(mixture):,} kernels"
    if count == len(mixture):
        many = f"All {count:,} kernels" if count > 1 else "The only kernel"
    own = owners(mixture, size=size, region=region)
    light = 0.55 + 0.45 * grey(under)[..., None]  # so that what the picture shows is found again
    apart = np.rint(told_apart(own) * light).astype(np.uint8)
    apart[borders(own)] = INK
    return [
        Panel(
            title=f"Kernels{where}",
            told=f"{many}: each an ellipse at one standard deviation, in its expert's colour, darkened where pale.",
            image=ellipses,
        ),
        Panel(
            title=f"Who owns which place{where}",
            told="Each place belongs to the kernel with the heaviest gate there. Colours only keep neighbours apart.",
            image=Image.fromarray(apart),
            key=((INK, "border between two owners"),),
        ),
    ]


def _bits_panel(mixture: Mixture, costs: Spent, own: NDArray[np.int32], size: tuple[int, int]) -> Panel:
    """Bits of each pixel of the canvas."""
    bits = spread(costs.bits, own, mixture) * (own.size / (mixture.width * mixture.height))
    low, high = np.quantile(bits, _WITHIN)
    first = max((end for end in _ENDS if end <= low), default=_ENDS[0])
    last = min((end for end in _ENDS if end >= high and end > first), default=_ENDS[-1])
    span = math.log(last / first)
    ends = [end for end in _ENDS if first <= end <= last]
    ticks = tuple((math.log(end / first) / span, f"{end:g}") for end in ends[:: max(1, len(ends) // 6)])
    colours = ramp(np.log(np.maximum(bits, 1e-9) / first) / span, AMOUNT)
    rest = 1 - sum(costs.layer_bytes) / costs.whole
    return Panel(
        title="Bits by place",
        told="What each kernel takes of the file, spread over the pixels that it owns"
        + (f"; {percent(rest)} of the file is header, tables and metadata." if rest > 0.005 else "."),
        image=placed(colours, size),
        scale=Scale(anchors=AMOUNT, ticks=ticks, unit="bits per pixel"),
    )


def _error_panel(drawn_: NDArray[np.float32], source: NDArray[np.float32], size: tuple[int, int]) -> Panel:
    levels = levels_off(drawn_, source)
    top = top_of(levels)
    return Panel(
        title="Error by place",
        told=f"How far the drawn picture is from the one that came; {levels.mean():.1f} levels in the mean.",
        image=placed(error_colours(levels, top), size),
        scale=error_scale(top),
    )


def _layer_panels(held: MoeFile, costs: Spent, source: Picture | None) -> list[Panel]:
    """The picture of the first layers alone, from one to all of them."""
    mixture = held.mixture
    kernels, sizes = tuple(accumulate(costs.kernels)), tuple(accumulate(costs.layer_bytes))
    size = fitting(mixture.width, mixture.height, room(len(kernels), _HIGHEST // 2))
    panels = []
    for place, (count, n_bytes) in enumerate(zip(kernels, sizes, strict=True)):
        part = mixture[:count]
        fine = tuple(min(3 * a, max(a, b)) for a, b in zip(size, (mixture.width, mixture.height), strict=True))
        told = f"{count:,} kernels, {n_bytes:,} bytes"
        if source is not None:
            told += f", {psnr(*alike(drawing(part, depth=held.header.depth), source)):.1f} dB"
        panels.append(
            Panel(
                title=f"Layers 1 to {place + 1}" if place else "Layer 1 alone",
                told=told,
                image=placed(shown(drawing(part, size=(fine[0], fine[1]))), size),
            )
        )
    return panels
