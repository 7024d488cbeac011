"""The verb `restore`: pictures without their damage."""

# Annotations are real here, not postponed: typer evaluates them.
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    read_share,
)
from moesaic.cli.places import Job
from moesaic.cli.report import Figures, Report
from moesaic.cli.runs import run
from moesaic.cli.tile_news import TileNews
from moesaic.errors import PictureError

if TYPE_CHECKING:
    from moesaic.restore.use import Decided

_OWN_WORK = ".restored"  # how the names of what this verb writes end, before the suffix


@ending
def restore(
    inputs: Inputs,
    output: Output = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE", help="A name from `moesaic models`, or a weights file.", show_default="the shipped one"
        ),
    ] = None,
    strength: Annotated[
        float,
        typer.Option(parser=read_share, metavar="STRENGTH", help="How much of the change to make: 0 none, 1 all."),
    ] = 1.0,
    price: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="DB",
            help="For research: the decibels that the compute of a whole decoder must be worth. 0 takes the experts "
            "that help most, whatever they cost; more is quicker.",
            show_default="the model's own, as its training set it",
        ),
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(min=1, metavar="PX", help="Side of the tiles.", show_default="768 above 1.5 megapixels"),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also draw what was found, who was chosen, and what that cost.")
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
    """Take noise, rain, haze, snow, blur, darkness and traces of compression out of pictures."""
    suffix = read_format(format)
    jobs = places.settle(
        inputs,
        output,
        name=lambda source: f"{source.stem}{_OWN_WORK}.{suffix}",
        accepts=_is_source,
        recursive=recursive,
    )
    if explain:
        explained.refuse_clashes(jobs, _explained)
    report = Report("restore", len(jobs), as_json=as_json, quiet=quiet, text=_told)
    from moesaic import image, picture_files
    from moesaic.files import refuse_existing
    from moesaic.restore.models import DEFAULT_MODEL
    from moesaic.restore.use import load_network
    from moesaic.restore.use import restore as mend

    for job in jobs[:1]:  # the others of several are named here
        picture_files.format_of(job.output or job.source, None)
    network = load_network(DEFAULT_MODEL if model is None else model, device=device)

    def work(job: Job) -> Figures:
        if by_rows.goes_by_rows(job, pixel_limit=pixel_limit):
            return large(job)
        picture = moesaic.read_picture(job.source, pixel_limit=pixel_limit)
        drawing = _explained(job.output) if explain and job.output is not None else None
        replaced = explained.replaces(job, force=force)
        if job.output is not None:
            image.refuse_unfit(picture, job.output, quality=quality)  # now, not after minutes of work
        if drawing is not None:
            refuse_existing(drawing, force=replaced)
        news = TileNews(report, "restore")
        found = mend(
            picture, network, strength=strength, price=price, tile=tile, pixel_limit=pixel_limit, progress=news.tile
        )
        if drawing is not None:  # first: an output that is there says that all of it is done
            moesaic.write_picture(found.routing_picture(), drawing, force=replaced, metadata=metadata.value)
        if job.output is not None:
            moesaic.write_picture(found.picture, job.output, quality=quality, force=force, metadata=metadata.value)
        return _figures(found, found.change, picture.width, picture.height, drawing)

    def large(job: Job) -> Figures:
        from moesaic.restore.streaming import restore_rows

        drawing = _explained(job.output or job.source) if explain else None
        with by_rows.way_of(
            job,
            becomes=lambda frame: frame,
            drawing=drawing,
            pixel_limit=pixel_limit,
            quality=quality,
            force=force,
            metadata=metadata.value,
        ) as way:
            news = TileNews(report, "restore")
            found = restore_rows(
                way.source,
                way.write,
                network,
                strength=strength,
                price=price,
                tile=tile,
                progress=news.tile,
                watch=way.sketch.watch,
            )
            way.sketch.write(found)
        return _figures(found, found.change, way.after.width, way.after.height, drawing)

    if explain and not (force or quiet):
        explained.tell_left(jobs, _explained, "restored", "restores")
    return run(jobs, work, report, force=force)


def _figures(found: "Decided", change: float, width: int, height: int, drawing: Path | None) -> Figures:
    return {
        "width": width,
        "height": height,
        "model": None if found.card is None else found.card.name,
        "licence": None if found.card is None else found.card.licence,
        "detected": _rounded(found.detected),
        "severity": _rounded(found.severity),
        "changed": round(change, 4),
        "experts": found.experts,
        "cost": round(found.cost, 4),
        "explained": None if drawing is None else str(drawing),
    }


def _told(figures: Figures) -> str:
    """What was found, how much was changed, and what that cost."""
    from moesaic.restore.explanation import found_in_words

    named = found_in_words(figures["detected"])
    told = f"changed by {figures['changed']:.1f} levels, {figures['cost']:.0%} of the dearest decoder"
    return f"{named}; {told}, {figures['seconds']:.2f} s" if named else f"{told}, {figures['seconds']:.2f} s"


def _rounded(shares: dict[str, float]) -> dict[str, float]:
    return {name: round(share, 4) for name, share in shares.items()}


def _explained(output: Path) -> Path:
    """Where the explanation of an output goes: `dusk.explained.png` beside `dusk.restored.png`, or `dusk.png`."""
    return output.with_name(output.stem.removesuffix(_OWN_WORK) + explained.EXPLAINED)


def _is_source(path: Path) -> bool:
    """A picture that is not itself the work of this verb, so that a run over a folder can be repeated."""
    from moesaic.picture_files import format_of

    if path.stem.endswith(_OWN_WORK) or path.name.endswith(explained.EXPLAINED):
        return False
    try:
        format_of(path, None)
    except PictureError:
        return False
    return True
