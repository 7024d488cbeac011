"""Maps that lie over a picture, pixel on pixel: whose place each is, who acts in each patch, how much was changed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from moesaic.explain.colours import AMOUNT, ERROR, borders, ramp
from moesaic.explain.owners import owned, owners
from moesaic.explain.panels import Scale
from moesaic.explain.pixels import error_scale, levels_off, top_of
from moesaic.segment.routing_picture import COLOURS, acting_in, routing_map
from moesaic.sheet import INK, Colour

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moesaic.mixture.model import Mixture
    from moesaic.routing.record import Routing

MAP_PIXELS = 1 << 21
"""Of a map of owners: a mixture has no pixels, so that a small picture's map is finer than the picture."""

_LONGEST = 2048  # px, the longer side of a map of owners
_FINE = 1024  # px, the longer side that drawn maps have at least, for clean edges and letters that can be read
_LINED = 40  # px of the map that places have in the mean, below which lines between them would hide them
_WITHIN = (0.02, 0.98)  # shares of the pixels between which a scale reaches
_STOPS = 9  # of a scale, as a browser draws it
_VEIL = 0.3  # share of a scale of changes below which the picture shows through
_KEYS = 9  # experts in a key, those that lead most


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Overlay:
    """A map for one picture, and what it says in words."""

    told: str  # how to read it, in a sentence or two
    draw: Callable[[], Image.Image]  # RGBA, of the picture's shape
    names: bool  # whether its colours name things, and must not be smoothed
    keys: tuple[tuple[Colour, str], ...] = ()
    scale: Scale | None = None
    veiled: bool = False  # whether the low end of the scale lets the picture through
    notes: tuple[str, ...] = ()  # what holds for the picture as a whole

    def legend(self) -> dict[str, Any]:
        """What it says, as JSON can hold it: colours are lists from 0 to 255, with alpha at the end for a scale."""
        told: dict[str, Any] = {
            "told": self.told,
            "keys": [{"colour": list(colour), "label": label} for colour, label in self.keys],
            "notes": list(self.notes),
            "scale": None,
        }
        if self.scale is not None:
            shares = np.linspace(0, 1, _STOPS)
            colours = ramp(shares, self.scale.anchors)
            alpha = _veil(shares) if self.veiled else np.full(_STOPS, 255, np.uint8)
            told["scale"] = {
                "colours": np.concatenate([colours, alpha[:, None]], axis=1).tolist(),
                "ticks": [{"at": round(place, 3), "label": label} for place, label in self.scale.ticks],
                "unit": self.scale.unit,
            }
        return told


def of_owners(mixture: Mixture, size: tuple[int, int]) -> Overlay:
    """Which kernel owns each place, in colours that say how large the places are: small where there is much detail.

    Eight colours that only keep neighbours apart say less, and hide what the picture shows.

    Args:
        mixture: it may have any number of kernels.
        size: width and height at which it is shown, px; the map has the same shape.
    """
    factor = min(math.sqrt(MAP_PIXELS / (size[0] * size[1])), _LONGEST / max(size))
    own = owners(mixture, size=(max(1, int(size[0] * factor)), max(1, int(size[1] * factor))))
    places = owned(own, len(mixture))[own] * (mixture.width * mixture.height / own.size)  # px of the canvas
    small, large = (float(end) for end in np.quantile(places, _WITHIN))
    small, large = _round(small, math.floor), _round(max(large, 2 * small), math.ceil)
    span = math.log(large / small)
    middle = _round(math.sqrt(small * large), round)
    count = int(np.count_nonzero(owned(own, len(mixture))))
    lined = own.size / count >= _LINED

    def draw() -> Image.Image:
        colours = ramp(np.log(large / places) / span, AMOUNT)
        if lined:
            colours[borders(own)] = INK
        return Image.fromarray(colours).convert("RGBA")

    whose = f"one of the {len(mixture):,} pieces owns" if len(mixture) > 1 else "the only piece owns"
    return Overlay(
        told=f"Each cell is the place that {whose}. Bright cells are small: detail needs many pieces. Dark ones"
        " are large: few are enough for what is smooth.",
        draw=draw,
        names=True,
        scale=Scale(
            anchors=AMOUNT,
            ticks=(
                (0.0, f"{large:,g} or more"),
                (math.log(large / middle) / span, f"{middle:,g}"),
                (1.0, f"{small:,g} or fewer"),
            ),
            unit="pixels of the picture in a cell",
        ),
    )


def of_patches(routing: Routing, size: tuple[int, int]) -> Overlay:
    """Which experts act in each patch of a routed layer, in explain's colours.

    Args:
        routing: what the layer decided; of a batch, the first.
        size: width and height at which it is shown, px; the map has the same shape.
    """
    factor = max(1.0, _FINE / max(size))
    width, height = (max(1, round(side * factor)) for side in size)
    leads = np.bincount([acting[0][0] for acting in acting_in(routing)], minlength=routing.experts)
    patches = int(leads.sum())
    most = [int(expert) for expert in np.argsort(-leads, kind="stable")[:_KEYS] if leads[expert]]
    idle = routing.experts - int(np.count_nonzero(np.bincount(routing.chosen[0].ravel().tolist())))
    many = (
        f"{routing.k} of {routing.experts} experts work" if routing.k > 1 else f"1 of {routing.experts} experts works"
    )
    return Overlay(
        told=f"In each patch {many}. The colour is that of the one with the most weight; the numbers say who works, and"
        " by how much.",
        draw=lambda: routing_map(routing, (width, height)),
        names=True,
        keys=tuple(
            (COLOURS[expert % len(COLOURS)], f"expert {expert}: leads in {leads[expert]} of {patches} patches")
            for expert in most
        ),
        notes=() if not idle else (f"Not needed for this picture: {idle} of {routing.experts} experts.",),
    )


def of_change(
    before: NDArray[np.uint8],  # (H, W, 3)
    after: NDArray[np.uint8],  # (H, W, 3)
    *,
    told: str,
    notes: tuple[str, ...] = (),
) -> Overlay:
    """How far one picture is from another at each place; where they are alike, the map is clear.

    Args:
        before: a picture as it is shown.
        after: what was made of it, at the same size.
        told: what its bright places are.
        notes: what holds for the picture as a whole.
    """
    levels = levels_off(after.astype(np.float32) / np.float32(255), before.astype(np.float32) / np.float32(255))
    top = top_of(levels)

    def draw() -> Image.Image:
        shares = np.sqrt(levels / top)  # by the root, as explain shows errors, so that small ones are told apart
        return Image.fromarray(np.dstack([ramp(shares, ERROR), _veil(shares)]))

    return Overlay(
        told=told if levels.any() else "Nothing was changed in this picture.",
        draw=draw,
        names=False,
        scale=Scale(anchors=ERROR, ticks=error_scale(top).ticks, unit="levels of 255 by which the colours differ"),
        veiled=True,
        notes=notes,
    )


def _veil(shares: NDArray[np.floating]) -> NDArray[np.uint8]:
    """How opaque places on a scale of changes are: the low end lets the picture through."""
    return np.asarray(np.rint(255 * np.clip(shares / _VEIL, 0, 1)), np.uint8)


def _round(number: float, how: Callable[[float], float]) -> float:
    """To one digit."""
    unit = 10.0 ** math.floor(math.log10(number))
    return max(how(number / unit), 1) * unit
