"""The verb `restore`: pictures without their damage."""

# Annotations are real here, not postponed: typer evaluates them.
from pathlib import Path
from typing import Annotated

import typer

import moesaic
from moesaic.cli import places
from moesaic.cli.endings import ending
from moesaic.cli.options import (
    PIXELS,
    Carry,
    Force,
    Inputs,
    Json,
    Metadata,
    Output,
    PixelLimit,
    Quiet,
    Recursive,
)
from moesaic.cli.places import Job
from moesaic.cli.report import Figures, Report
from moesaic.cli.runs import run
from moesaic.cli.tile_news import TileNews
from moesaic.errors import PictureError

_OWN_WORK = ".restored"  # how the names of what this verb writes end, before the suffix
_EXPLAINED = ".explained.png"
_TOLD = 0.1  # the probability from which a degradation is told of


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
    strength: Annotated[float, typer.Option(min=0, max=1, help="How much of the change to make; 0 is none.")] = 1.0,
    price: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="DB",
            help="What the compute of a whole decoder must gain; 0 takes whoever helps most, more is quicker.",
            show_default="the model's own",
        ),
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(min=1, metavar="PX", help="Side of the tiles.", show_default="768 above 1.5 megapixels"),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also draw what was found, who was chosen, and what that cost.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    metadata: Metadata = Carry.KEEP,
    pixel_limit: PixelLimit = PIXELS,
    recursive: Recursive = False,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Take noise, rain, haze, snow, blur, darkness and traces of compression out of pictures."""
    jobs = places.settle(
        inputs, output, name=lambda source: f"{source.stem}{_OWN_WORK}.png", accepts=_is_source, recursive=recursive
    )
    if explain:
        drawings = [Job(source=job.source, output=_explained(job.output)) for job in jobs if job.output is not None]
        places.refuse_clashes([*jobs, *drawings])
    report = Report("restore", len(jobs), as_json=as_json, quiet=quiet, text=_told)
    if not jobs:
        return run(jobs, lambda _: {}, report)
    from moesaic import image, picture_files
    from moesaic.files import refuse_existing
    from moesaic.restore.models import DEFAULT_MODEL
    from moesaic.restore.use import load_network
    from moesaic.restore.use import restore as mend

    for job in jobs[:1]:  # the others of several are named here
        picture_files.format_of(job.output or job.source, None)
    network = load_network(DEFAULT_MODEL if model is None else model, device=device)

    def work(job: Job) -> Figures:
        picture = moesaic.read_picture(job.source, pixel_limit=pixel_limit)
        drawing = _explained(job.output) if explain and job.output is not None else None
        if job.output is not None:
            image.refuse_unfit(picture, job.output)  # now, not after minutes of work
        if drawing is not None:
            refuse_existing(drawing, force=force)
        news = TileNews(report, "restore")
        found = mend(
            picture, network, strength=strength, price=price, tile=tile, pixel_limit=pixel_limit, progress=news.tile
        )
        if drawing is not None:  # first: an output that is there says that all of it is done
            moesaic.write_picture(found.routing_picture(), drawing, force=force, metadata=metadata.value)
        if job.output is not None:
            moesaic.write_picture(found.picture, job.output, force=force, metadata=metadata.value)
        return {
            "width": picture.width,
            "height": picture.height,
            "model": None if found.card is None else found.card.name,
            "licence": None if found.card is None else found.card.licence,
            "detected": _rounded(found.detected),
            "severity": _rounded(found.severity),
            "experts": found.experts,
            "cost": round(found.cost, 4),
            "explained": None if drawing is None else str(drawing),
        }

    return run(jobs, work, report, force=force)


def _told(figures: Figures) -> str:
    """What was found, the most likely first, who was chosen, and what that cost."""
    from moesaic.restore.explanation import spoken

    detected = sorted(figures["detected"].items(), key=lambda item: -item[1])
    found = [f"{spoken(label)} {share:.0%}" for label, share in detected if share >= _TOLD]
    named = ", ".join(found) or ("no damage found" if detected else "")
    experts = "/".join(str(expert) for expert in figures["experts"].values())
    spent = f"experts {experts}, {figures['cost']:.0%} of the dearest decoder, {figures['seconds']:.2f} s"
    return f"{named}; {spent}" if named else spent


def _rounded(shares: dict[str, float]) -> dict[str, float]:
    return {name: round(share, 4) for name, share in shares.items()}


def _explained(output: Path) -> Path:
    """Where the explanation of an output goes: `dusk.explained.png` beside `dusk.restored.png`, or `dusk.png`."""
    return output.with_name(output.stem.removesuffix(_OWN_WORK) + _EXPLAINED)


def _is_source(path: Path) -> bool:
    """A picture that is not itself the work of this verb, so that a run over a folder can be repeated."""
    from moesaic.picture_files import format_of

    if path.stem.endswith(_OWN_WORK) or path.name.endswith(_EXPLAINED):
        return False
    try:
        format_of(path, None)
    except PictureError:
        return False
    return True
