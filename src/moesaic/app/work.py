"""What a worker does with one job: the library's own calls, and the files that the page asks for.

In a job's folder, of whose names a client chooses none:

    input           what was sent
    result          what comes out: PNG, or a mixture; without EXIF and XMP
    result-all      the same with EXIF and XMP, where the picture came with some
    kernels         the mixture as the zoom reads it
    before, after   what the page shows, WebP
    overlay         a map of who did what, to lie over the picture, WebP; legend is what it says, JSON
    explain         a picture of what was decided, WebP
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moesaic.app.shown import fitting, resized, write_view
from moesaic.app.verbs import Asked, shrunk
from moesaic.errors import LimitError
from moesaic.picture import Picture

if TYPE_CHECKING:
    from moesaic.app.limits import Limits
    from moesaic.explain.overlay import Overlay
    from moesaic.mixture.model import Mixture

_log = logging.getLogger(__name__)

Tell = Callable[[Mapping[str, Any]], None]
"""Takes news of the work: `done` from 0 to 1, `left` in seconds, `step` in words."""

ZOOMABLE = 2**19  # kernels of a mixture that a browser draws

_DETAIL = {"less": 120, "normal": 40, "more": 16}  # pixels for one kernel
_QUALITY: dict[str, dict[str, Any]] = {"quick": {"fast": True}, "good": {"fast": True, "refine": 80}, "best": {}}
_SIGMAS = {"auto": None, "10": 10.0, "25": 25.0, "50": 50.0}
_EVERY = 0.2  # s, between news
_MAP_QUALITY = 85  # of WebP, where the colours of a map are amounts

Size = tuple[int, int]
"""Width and height, px."""


@dataclass(slots=True, kw_only=True)
class _Made:
    """What a verb makes of a picture."""

    picture: Picture  # as it is shown
    suffix: str  # of the result's name
    data: bytes | None = None  # of the result, where it is a mixture
    mixture: Mixture | None = None
    psnr: float | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    explain: Callable[[], Picture] | None = None
    overlay: Callable[[Size], Overlay] | None = None  # for the size at which the picture is shown


class News:
    """The progress of a job, told now and then."""

    def __init__(self, tell: Tell) -> None:
        self._tell, self._began, self._told = tell, time.monotonic(), 0.0

    def say(self, step: str, done: float | None = None, left: float | None = None) -> None:
        """Tell it at once."""
        self._told = time.monotonic()
        self._tell({"step": step, "done": done, "left": left})

    def fit(self, now: Any) -> None:
        """The callback of a fit."""
        if time.monotonic() - self._told >= _EVERY and math.isfinite(now.seconds_left):
            whole = now.seconds + now.seconds_left
            self.say(
                "fitting" if now.phase == "fit" else now.phase, now.seconds / whole if whole else 0, now.seconds_left
            )

    def tiles(self, done: int, total: int) -> None:
        """The callback of a network that runs tile by tile."""
        if time.monotonic() - self._told >= _EVERY or done == total:
            spent = time.monotonic() - self._began
            self.say("looking at the picture part by part", done / total, spent / done * (total - done))


def work(
    folder: Path, asked: Asked, name: str, limits: Limits, tell: Tell
) -> tuple[dict[str, Any], Callable[[], None]]:
    """Do a job.

    Args:
        folder: of the job, which holds its input.
        asked: what to do.
        name: of the picture, without its suffix.
        limits: of the server.
        tell: told how far it is.

    Returns:
        What the page is told of the result, and a call that draws what was decided, once the result is there.

    Raises:
        MoesaicError: what the library raises, in a sentence.
    """
    news = News(tell)
    news.say("reading the picture")
    made = (
        _opened(folder, asked, limits, news)
        if asked.verb.name == "decode"
        else _of_picture(folder, asked, limits, news)
    )
    news.say("saving the result", 1.0, None)
    size = fitting(made.picture.width, made.picture.height, limits.view_side)
    write_view(made.picture, folder / "after", size)
    if made.mixture is not None:
        from moesaic.app.kernels import kernel_bytes

        if len(made.mixture) > ZOOMABLE:
            raise LimitError(f"This mixture has {len(made.mixture):,} kernels; the page shows at most {ZOOMABLE:,}.")
        (folder / "kernels").write_bytes(kernel_bytes(made.mixture))
    without = set() if made.explain is not None else {"explain"}
    without |= set() if made.overlay is not None else {"overlay", "legend"}
    result = {
        "name": name + made.suffix,
        "bytes": (folder / "result").stat().st_size,
        "width": made.picture.width,
        "height": made.picture.height,
        "bpp": _bits(made),
        "psnr": made.psnr if made.psnr is not None and math.isfinite(made.psnr) else None,
        "figures": made.figures,
        "mixture": made.mixture is not None and made.data is not None,
        "views": [view for view in asked.verb.views if view not in without],
    }

    def draw() -> None:
        if made.overlay is not None:
            try:
                _lay_out(made.overlay(size), folder)
            except Exception:  # noqa: BLE001 - the sheet is drawn without it, and the server's owner reads why
                _log.exception("a map could not be drawn")
        if made.explain is not None:
            sheet = made.explain()
            write_view(sheet, folder / "explain.part", (sheet.width, sheet.height))
            (folder / "explain.part").replace(folder / "explain")

    return result, draw


def _lay_out(overlay: Overlay, folder: Path) -> None:
    """Write a map and what it says; the map comes last, so that where it is, all is."""
    (folder / "legend.part").write_text(json.dumps(overlay.legend()), encoding="utf-8")
    (folder / "legend.part").replace(folder / "legend")
    overlay.draw().save(folder / "overlay.part", "WEBP", lossless=overlay.names, quality=_MAP_QUALITY, method=2)
    (folder / "overlay.part").replace(folder / "overlay")


def _bits(made: _Made) -> float | None:
    """Bits of each pixel of a mixture's file."""
    if made.data is None:
        return None
    return round(8 * len(made.data) / (made.picture.width * made.picture.height), 4)


def _of_picture(folder: Path, asked: Asked, limits: Limits, news: News) -> _Made:
    from moesaic.image import read_picture

    with (folder / "input").open("rb") as file:
        source = read_picture(file, pixel_limit=limits.pixels)
    asked.verb.refuse_size(source.width, source.height, asked.options)
    source = resized(source, shrunk(source.width, source.height, asked.options))
    kept, plain = source, replace(source, exif=None, xmp=None)
    news.say("preparing")
    made = _MAKERS[asked.verb.name](plain, asked.options, news)
    carried = (kept.exif, kept.xmp) != (None, None)
    if made.data is not None:
        (folder / "result").write_bytes(made.data)
        if carried:
            (folder / "result-all").write_bytes(_with_metadata(made.data, kept))
    else:
        _write(made.picture, folder / "result")
        if carried:
            _write(replace(made.picture, exif=kept.exif, xmp=kept.xmp), folder / "result-all")
    write_view(plain, folder / "before", fitting(made.picture.width, made.picture.height, limits.view_side))
    return made


def _opened(folder: Path, asked: Asked, limits: Limits, news: News) -> _Made:
    """A mixture that was sent."""
    from moesaic.app import overlays
    from moesaic.codec.decoder import draw
    from moesaic.codec.file import decode_bytes
    from moesaic.codec.limits import Limits as FileLimits
    from moesaic.codec.spent import spent

    data = (folder / "input").read_bytes()
    own = FileLimits(
        canvas_pixels=asked.verb.most_in,
        output_pixels=asked.verb.most_out,
        kernels=ZOOMABLE,
        file_bytes=limits.body_bytes,
    )
    held = decode_bytes(data, limits=own)
    scale = float(asked.options["scale"])
    asked.verb.refuse_size(held.header.width, held.header.height, asked.options)
    news.say("drawing")
    picture = draw(held, scale=scale, limits=own)
    _write(replace(picture, exif=None, xmp=None), folder / "result")
    if (picture.exif, picture.xmp) != (None, None):
        _write(picture, folder / "result-all")
    return _Made(
        picture=picture,
        suffix=f".x{scale:g}.png",
        mixture=held.mixture,
        figures={"experts": len(held.mixture), "layers": held.layers},
        explain=lambda: _explained(held, spent(data, limits=own), None),
        overlay=lambda size: overlays.pieces(held.mixture, size),
    )


def _explained(held: Any, costs: Any, source: Picture | None) -> Picture:
    from moesaic.explain.mixture import explain_mixture

    return explain_mixture(held, costs, name="What it is made of", source=source).picture


def _restored(source: Picture, options: Mapping[str, Any], news: News) -> _Made:
    from moesaic.app import overlays
    from moesaic.restore.explanation import found_in_words
    from moesaic.restore.use import restore

    found = restore(source, strength=options["strength"], progress=news.tiles)
    detected = {kind: round(share, 3) for kind, share in found.detected.items()}
    return _Made(
        picture=found.picture,
        suffix=".restored.png",
        figures={"found": found_in_words(detected), "detected": detected, "cost": round(found.cost, 3)},
        explain=found.routing_picture,
        overlay=lambda size: overlays.repair(found, size),
    )


def _upscaled(source: Picture, options: Mapping[str, Any], news: News) -> _Made:
    from moesaic.app import overlays
    from moesaic.upscale.use import upscale

    scale = int(options["scale"])
    severity = None if options["severity"] == "auto" else float(options["severity"])
    made = upscale(source, scale, severity=severity, progress=news.tiles)
    return _Made(
        picture=made.picture,
        suffix=f".upscaled.x{scale}.png",
        figures={"severity": None if made.severity is None else round(made.severity, 3)},
        explain=made.routing_picture,
        overlay=lambda size: overlays.enlargement(made, size),
    )


def _encoded(source: Picture, options: Mapping[str, Any], news: News) -> _Made:
    from moesaic.app import overlays
    from moesaic.codec.decoder import draw
    from moesaic.codec.encoder import encode
    from moesaic.codec.file import decode_bytes
    from moesaic.codec.limits import Limits as FileLimits
    from moesaic.codec.spent import spent

    pixels = source.width * source.height
    experts = min(max(1, round(pixels / _DETAIL[options["detail"]])), ZOOMABLE)
    encoded = encode(source, experts=experts, progress=news.fit, **_QUALITY[options["quality"]])
    limits = FileLimits(canvas_pixels=pixels, output_pixels=pixels)
    held = decode_bytes(encoded.data, limits=limits)
    return _Made(
        picture=draw(held, limits=limits),
        suffix=".moe",
        data=encoded.data,
        mixture=held.mixture,
        psnr=round(encoded.psnr, 3),
        figures={"experts": len(held.mixture), "ssim": round(encoded.ssim, 4)},
        explain=lambda: _explained(held, spent(encoded.data, limits=limits), source),
        overlay=lambda size: overlays.pieces(held.mixture, size),
    )


def _denoised(source: Picture, options: Mapping[str, Any], news: News) -> _Made:
    from moesaic.mixture.denoise import MODELS, denoise

    models = MODELS if options["quality"] == "best" else 2
    found = denoise(source, sigma=_SIGMAS[options["noise"]], models=models, progress=news.fit)
    return _Made(
        picture=found.picture,
        suffix=".denoised.png",
        figures={"sigma": round(found.sigma, 2), "experts": found.experts},
    )


def _enlarged(source: Picture, options: Mapping[str, Any], news: News) -> _Made:
    from moesaic.app import overlays
    from moesaic.mixture.enlarge import enlarge

    scale = float(options["scale"])
    picture = enlarge(source, scale=scale, sampling=options["sampling"], progress=news.fit)
    return _Made(
        picture=picture,
        suffix=f".x{scale:g}.png",
        overlay=lambda size: overlays.sharpening(source, picture, size),
    )


def _segmented(source: Picture, options: Mapping[str, Any], news: News) -> _Made:  # noqa: ARG001 - as the others
    from moesaic.app import overlays
    from moesaic.explain.segmentation import explain_segmentation
    from moesaic.segment.use import segment

    found = segment(source, progress=news.tiles)
    shares = {name: round(share, 3) for name, share in found.shares.items() if share >= 0.005}
    return _Made(
        picture=found.overlay(legend=False),
        suffix=".segmented.png",
        figures={"shares": shares},
        explain=(lambda: explain_segmentation(found, name="What is where").picture) if found.routing else None,
        overlay=(lambda size: overlays.patches(found, size)) if found.routing else None,
    )


_MAKERS: dict[str, Callable[[Picture, Mapping[str, Any], News], _Made]] = {
    "restore": _restored,
    "upscale": _upscaled,
    "encode": _encoded,
    "denoise": _denoised,
    "enlarge": _enlarged,
    "segment": _segmented,
}


def _write(picture: Picture, path: Path) -> None:
    from moesaic.image import write_picture

    write_picture(picture, path, format="PNG", force=True)


def _with_metadata(data: bytes, picture: Picture) -> bytes:
    """The same mixture in a file that carries the picture's EXIF and XMP."""
    from moesaic.codec.container import Info
    from moesaic.codec.file import decode_bytes, encode_mixture

    held = decode_bytes(data)
    info = Info(icc=held.info.icc, exif=picture.exif, xmp=picture.xmp, text=held.info.text)
    return encode_mixture(held.mixture, steps=held.steps, info=info, depth=held.header.depth)
