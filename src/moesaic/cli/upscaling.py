"""The verb `upscale`: real-world pictures at two and four times their size."""

# Annotations are real here, not postponed: typer evaluates them.
import math
import re
from pathlib import Path
from typing import Annotated, Any

import typer

import moesaic
from moesaic.cli import by_rows, explained, places
from moesaic.cli.endings import ending
from moesaic.cli.options import (
    PIXELS,
    Carry,
    Force,
    Format,
    Inputs,
    Json,
    Metadata,
    Output,
    PixelLimit,
    Quality,
    Quiet,
    Recursive,
    read_format,
)
from moesaic.cli.places import Job
from moesaic.cli.report import Figures, Report
from moesaic.cli.runs import run
from moesaic.cli.tile_news import TileNews
from moesaic.errors import ArgumentError, PictureError

_OWN_WORK = re.compile(r"\.upscaled\.x\d+$")  # how the names of what this verb writes end, before the suffix


@ending
def upscale(
    inputs: Inputs,
    output: Output = None,
    scale: Annotated[int, typer.Option(min=1, help="Output pixels for each pixel along a side: 2 or 4.")] = 4,
    severity: Annotated[
        str,
        typer.Option(metavar="auto|0..1", help="How degraded pictures are taken to be; auto looks at each."),
    ] = "auto",
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE|FOLDER",
            help="A name from `moesaic models`, a weights file, or a folder in the layout of diffusers.",
            show_default="the shipped one",
        ),
    ] = None,
    ranks: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A mixture of ranks for a model of diffusion.", show_default=False),
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(
            help="The step of a model of diffusion: residual or eps_t, as it was trained.", show_default="residual"
        ),
    ] = None,
    colour: Annotated[
        str | None,
        typer.Option(help="Its coarse colours: wavelet, adain or none.", show_default="wavelet"),
    ] = None,
    estimator: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE", help="What tells how degraded a picture is.", show_default="the one that ships"
        ),
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="PX",
            help="Side of the tiles, px of the input, of diffusion px of the output.",
            show_default="448 above 512x512",
        ),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also draw how degraded the picture is, and which ranks act.")
    ] = False,
    format: Format = "png",
    quality: Quality = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    metadata: Metadata = Carry.KEEP,
    pixel_limit: PixelLimit = PIXELS,
    recursive: Recursive = False,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Enlarge real-world pictures, without their blur, noise and traces of compression."""
    taken, suffix = _read_severity(severity), read_format(format)
    jobs = places.settle(
        inputs,
        output,
        name=lambda source: f"{source.stem}.upscaled.x{scale}.{suffix}",
        accepts=_is_source,
        recursive=recursive,
    )
    if explain:
        explained.refuse_clashes(jobs, _explained)
    report = Report("upscale", len(jobs), as_json=as_json, quiet=quiet, text=_told)
    from moesaic import image, picture_files
    from moesaic.files import refuse_existing
    from moesaic.upscale.estimators import make_estimator
    from moesaic.upscale.models import DEFAULT_MODEL
    from moesaic.upscale.network import CompactUpscaler
    from moesaic.upscale.use import load_network, refuse_unfit, with_ranks
    from moesaic.upscale.use import upscale as enlarge

    for job in jobs[:1]:  # the others of several are named here
        picture_files.format_of(job.output or job.source, None)
    network = load_network(DEFAULT_MODEL if model is None else model, device=device, mode=mode)
    looks = network.mix is not None or ranks is not None
    judge = make_estimator(estimator) if looks or estimator is not None else None
    if ranks is not None and judge is not None:
        with_ranks(network, ranks, judge)
    refuse_unfit(network, scale, severity=taken, estimator=judge, colour=colour)  # once, not for each picture

    def work(job: Job) -> Figures:
        goes = by_bands and by_rows.goes_by_rows(job, pixel_limit=pixel_limit, times=scale**2)
        if goes and isinstance(network, CompactUpscaler):
            return large(job, network, judge)
        picture = moesaic.read_picture(job.source, pixel_limit=pixel_limit)
        drawing = _explained(job.output) if explain and job.output is not None else None
        replaced = explained.replaces(job, force=force)
        if job.output is not None:
            image.refuse_unfit(picture, job.output, quality=quality)  # now, not after minutes of work
        if drawing is not None:
            refuse_existing(drawing, force=replaced)
        news = TileNews(report, "upscale")
        made = enlarge(
            picture,
            scale,
            network,
            severity=taken,
            estimator=judge,
            colour=colour,
            tile=tile,
            pixel_limit=pixel_limit,
            progress=news.tile,
        )
        if drawing is not None:  # first: an output that is there says that all of it is done
            moesaic.write_picture(made.routing_picture(), drawing, force=replaced, metadata=metadata.value)
        if job.output is not None:
            moesaic.write_picture(made.picture, job.output, quality=quality, force=force, metadata=metadata.value)
        return _figures(made, made.picture.width, made.picture.height, scale, drawing)

    def large(job: Job, network: CompactUpscaler, judge: Any) -> Figures:
        from moesaic.upscale.streaming import enlarged_frame, upscale_rows

        drawing = _explained(job.output or job.source) if explain else None
        with by_rows.way_of(
            job,
            becomes=lambda frame: enlarged_frame(frame, scale, pixel_limit=pixel_limit),
            drawing=drawing,
            pixel_limit=pixel_limit,
            quality=quality,
            force=force,
            metadata=metadata.value,
        ) as way:
            news = TileNews(report, "upscale")
            made = upscale_rows(
                way.source,
                way.write,
                scale,
                network,
                severity=taken,
                estimator=judge,
                tile=tile,
                progress=news.tile,
                watch=way.sketch.watch,
            )
            way.sketch.write(made)
        return _figures(made, way.after.width, way.after.height, scale, drawing)

    by_bands = taken is not None or not looks or hasattr(judge, "of_pieces")
    if explain and not (force or quiet):
        explained.tell_left(jobs, _explained, "upscaled", "upscales")
    return run(jobs, work, report, force=force)


def _figures(made: Any, width: int, height: int, scale: int, drawing: Path | None) -> Figures:
    return {
        "width": width,
        "height": height,
        "scale": scale,
        "model": None if made.card is None else made.card.name,
        "licence": None if made.card is None else made.card.licence,
        "scores": {name: round(score, 4) for name, score in made.scores.items()},
        "severity": None if made.severity is None else round(made.severity, 4),
        "ranks": {layer: used.active for layer, used in made.ranks.items()},
        "explained": None if drawing is None else str(drawing),
    }


def _read_severity(text: str) -> float | None:
    """None for "auto".

    Raises:
        ArgumentError: it is neither that nor a number from 0 to 1.
    """
    if text.strip().lower() == "auto":
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise ArgumentError(f"--severity {text!r} is auto, or a number from 0 (not degraded) to 1")
    return value


def _told(figures: Figures) -> str:
    """The new size, how degraded the picture is, and how many ranks act."""
    told = [f"{figures['width']} x {figures['height']} px"]
    if figures["severity"] is not None:
        named = ", ".join(f"{name} {score:.2f}" for name, score in figures["scores"].items())
        told.append(f"severity {figures['severity']:.2f} ({named})")
        told.append(f"{sum(figures['ranks'].values())} ranks")
    return ", ".join([*told, f"{figures['seconds']:.2f} s"])


def _explained(output: Path) -> Path:
    """Where the explanation of an output goes: `dusk.upscaled.x4.explained.png` beside `dusk.upscaled.x4.png`."""
    return output.with_name(output.stem + explained.EXPLAINED)


def _is_source(path: Path) -> bool:
    """A picture that is not itself the work of this verb, so that a run over a folder can be repeated."""
    from moesaic.picture_files import format_of

    if _OWN_WORK.search(path.stem) or path.name.endswith(explained.EXPLAINED):
        return False
    try:
        format_of(path, None)
    except PictureError:
        return False
    return True
