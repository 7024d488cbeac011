"""The map that each verb lays over its picture, and what people are told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moesaic.app.shown import resized
from moesaic.explain.overlay import Overlay, of_change, of_owners, of_patches
from moesaic.explain.pixels import shown
from moesaic.sheet import percent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from moesaic.mixture.model import Mixture
    from moesaic.picture import Picture
    from moesaic.restore.use import Restored
    from moesaic.segment.use import Segmentation
    from moesaic.upscale.use import Upscaled

_ENLARGED = (
    "The brighter a place, the more it differs from a plain (bicubic) enlargement:{}. Where the picture shows through,"
    " it is the same."
)


def pieces(mixture: Mixture, size: tuple[int, int]) -> Overlay:
    """Whose place each is.

    Args:
        mixture: the picture.
        size: width and height at which it is shown, px; of every map here.
    """
    return of_owners(mixture, size)


def patches(found: Segmentation, size: tuple[int, int]) -> Overlay:
    """Which experts act in each patch, in the last layer that has any: it is the nearest to the result."""
    return of_patches(list(found.routing.values())[-1], size)


def repair(found: Restored, size: tuple[int, int]) -> Overlay:
    """Where the picture was changed; the experts were chosen for all of it."""
    notes = [
        f"{choice.title}: expert {choice.chosen} of those numbered 0 to {len(choice.probabilities) - 1}"
        + (f", {percent(choice.costs[choice.chosen])} of the work" if choice.costs else "")
        for choice in found.choices
    ]
    return of_change(
        _seen(found.source, size),
        _seen(found.picture, size),
        told="The brighter a place, the more was changed there. Where the picture shows through, nothing was.",
        notes=(
            "Who works was chosen once for the whole picture, on each level of detail:",
            *notes,
            f"All together, with what always works: {percent(found.cost)} of what the dearest experts would take.",
        ),
    )


def enlargement(made: Upscaled, size: tuple[int, int]) -> Overlay:
    """Where the picture has what a usual enlargement has not; the ranks were chosen for all of it."""
    notes = []
    if made.severity is not None:
        notes.append(f"Damage found: {round(100 * made.severity)} of 100.")
    if made.ranks:
        active = sum(used.active for used in made.ranks.values())
        known = sum(used.shared + used.routed for used in made.ranks.values())
        notes.append(
            f"Ranks, which are the smallest experts: {active} of {known} worked, the same for the whole picture."
            if active
            else "Ranks, which are the smallest experts, are for damage: none was needed, and the base worked alone."
        )
    return of_change(
        _seen(made.source, size),
        _seen(made.picture, size),
        told=_ENLARGED.format(" detail was added there, or damage taken out"),
        notes=tuple(notes),
    )


def sharpening(source: Picture, made: Picture, size: tuple[int, int]) -> Overlay:
    """Where edges are sharper than a usual enlargement makes them."""
    return of_change(
        _seen(source, size),
        _seen(made, size),
        told=_ENLARGED.format(" edges are sharper there"),
    )


def _seen(picture: Picture, size: tuple[int, int]) -> NDArray[np.uint8]:  # (H, W, 3)
    return shown(resized(picture.without_metadata(), size))
