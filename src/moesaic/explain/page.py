"""One file of HTML that needs nothing else: the sheet, and of a mixture the kernels under the pointer."""

from __future__ import annotations

import base64
import html
import io
import json
import zlib
from importlib import resources
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from moesaic.explain.ellipses import colours_of
from moesaic.explain.owners import owned
from moesaic.picture import to_integers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moesaic.explain.explained import Explained, Hover

_QUALITY = 90  # of the pictures as JPEG; maps on the sheet keep all of their colours


def page(explained: Explained) -> str:
    """The page, dark or light as its reader's system is; no part of it is fetched from anywhere.

    Over a mixture's picture, the kernel that owns the place under the pointer is told: its number, colour, size, prior,
    share of the pixels, bits and layer. Its ellipse and its pixels are marked.
    """
    sheet = to_integers(explained.picture)
    hover = explained.hover
    parts = {
        "title": html.escape(f"{explained.title}: {explained.kind}"),
        "sheet": _jpeg(sheet),
        "width": str(sheet.shape[1]),
        "height": str(sheet.shape[0]),
        "hover": "" if hover is None else _template("hover.html").substitute(_held(hover)),
    }
    return _template("page.html").substitute(parts)


def _held(hover: Hover) -> dict[str, str]:
    """What the page knows of the mixture, as text."""
    mixture, own = hover.mixture, hover.own
    kernels = len(mixture)
    counts = owned(own, kernels)
    table = np.concatenate(
        [
            mixture.centres.detach().cpu().double().numpy(),
            mixture.factors.detach().cpu().double().numpy(),
            mixture.log_priors.detach().cpu().double().numpy()[:, None],
            (counts / own.size)[:, None],
            hover.bits[:, None],
            hover.layer[:, None],
            np.rint(255 * colours_of(mixture)),
        ],
        axis=1,
    )
    facts: dict[str, Any] = {
        "width": own.shape[1],
        "height": own.shape[0],
        "kernels": kernels,
        "across": mixture.width,
        "down": mixture.height,
        "wide": kernels > 1 << 16,
        "layers": int(hover.layer.max()),
    }
    return {
        "facts": json.dumps(facts, sort_keys=True),
        "under": _jpeg(hover.under),
        "width": str(own.shape[1]),
        "height": str(own.shape[0]),
        "across": str(mixture.width),
        "down": str(mixture.height),
        "own": _packed(own.astype("<u4" if facts["wide"] else "<u2")),
        "table": _packed(np.ascontiguousarray(table.T).astype("<f4")),
    }


def _template(name: str) -> Template:
    return Template(resources.files("moesaic.explain").joinpath(name).read_text(encoding="utf-8"))


def _packed(array: NDArray[Any]) -> str:
    """The array's bytes, compressed (zlib), as base64."""
    return base64.b64encode(zlib.compress(array.tobytes(), 9)).decode()


def _jpeg(pixels: NDArray[Any]) -> str:  # (H, W, 3), uint8
    """A picture as an address that holds it."""
    held = io.BytesIO()
    if max(pixels.shape[:2]) > 65_000:  # more than a JPEG's side may be
        Image.fromarray(pixels).save(held, "PNG", optimize=True)
        kind = "png"
    else:
        Image.fromarray(pixels).save(held, "JPEG", quality=_QUALITY, subsampling=0, optimize=True)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(held.getvalue()).decode()}"
