"""What comes back: a picture, the figures that matter, and the same as a page for the browser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moesaic.picture import Picture

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from moesaic.mixture.model import Mixture


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hover:
    """What a page tells about the place under the pointer."""

    under: NDArray[np.uint8]  # (H, W, 3), the picture
    own: NDArray[np.int32]  # (H, W), the owner of each of its pixels
    mixture: Mixture
    bits: NDArray[np.float64]  # (N,), that each kernel takes in the file
    layer: NDArray[np.int64]  # (N,), in which it is, from 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Explained:
    """A picture of what was decided."""

    kind: str  # one of `moesaic.explain.use.KINDS`
    title: str
    picture: Picture  # the sheet, 8 bits and colour
    figures: Mapping[str, Any]  # as JSON can hold them
    hover: Hover | None = None  # for pages, of mixtures alone

    def page(self) -> str:
        """The same as one file of HTML that needs nothing else; see `moesaic.explain.page`."""
        from moesaic.explain.page import page

        return page(self)
