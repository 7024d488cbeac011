"""The verb `denoise`: pictures with less noise."""

# Annotations are real here, not postponed: typer evaluates them.
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    positive,
)
from moesaic.cli.report import Figures, Report
from moesaic.cli.runs import run
from moesaic.errors import PictureError

if TYPE_CHECKING:
    from moesaic.cli.places import Job

_OWN_WORK = ".denoised"  # how the names of what this verb writes end, before the suffix


def read_sigma(text: str) -> float:
    """A number from 0 to 255."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 255:
        raise typer.BadParameter(f"{text!r} is no number from 0 to 255")
    return value


@ending
def denoise(
    inputs: Inputs,
    output: Output = None,
    sigma: Annotated[
        float | None,
        typer.Option(
            parser=read_sigma,
            metavar="SIGMA",
            help="Standard deviation of the noise, on the scale of 0 to 255.",
            show_default="estimated from the picture",
        ),
    ] = None,
    models: Annotated[
        int, typer.Option(min=1, help="Mixtures that are averaged; fewer are quicker and leave more noise.")
    ] = 8,
    experts: Annotated[
        int | None, typer.Option(min=1, help="Experts of each mixture.", show_default="from the picture and its noise")
    ] = None,
    seconds: Annotated[float | None, positive("Time to spend on each picture.", "SECONDS")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed and machine, same picture.")] = 0,
    metadata: Metadata = Carry.KEEP,
    pixel_limit: PixelLimit = PIXELS,
    recursive: Recursive = False,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Take noise out of pictures: several mixtures that are too small to hold it, averaged."""
    jobs = places.settle(
        inputs, output, name=lambda source: f"{source.stem}{_OWN_WORK}.png", accepts=_is_source, recursive=recursive
    )
    report = Report("denoise", len(jobs), as_json=as_json, quiet=quiet, text=_told)
    from moesaic import image, picture_files

    for job in jobs[:1]:  # the others of several are named here
        picture_files.format_of(job.output or job.source, None)

    def work(job: "Job") -> Figures:
        noisy = moesaic.read_picture(job.source, pixel_limit=pixel_limit)
        if job.output is not None:
            image.refuse_unfit(noisy, job.output)  # now, not after minutes of work
        found = moesaic.denoise(
            noisy,
            sigma=sigma,
            models=models,
            experts=experts,
            seconds=seconds,
            seed=seed,
            progress=report.progress,
        )
        if job.output is not None:
            moesaic.write_picture(found.picture, job.output, force=force, metadata=metadata.value)
        return {
            "width": noisy.width,
            "height": noisy.height,
            "sigma": round(found.sigma, 3),
            "estimated": found.estimated,
            "experts": found.experts,
            "models": found.models,
        }

    return run(jobs, work, report, force=force)


def _told(figures: Figures) -> str:
    how = "estimated" if figures["estimated"] else "as given"
    made = f"{figures['models']} x {figures['experts']:,} experts" if figures["models"] else "nothing to take out"
    if figures["estimated"] and not figures["models"]:
        made += " (if you see noise, as a camera's JPEG may hold, name its level: --sigma 5)"
    return f"sigma {figures['sigma']:.1f} {how}, {made}, {figures['seconds']:.2f} s"


def _is_source(path: Path) -> bool:
    """A picture that is not itself the work of this verb, so that a run over a folder can be repeated."""
    from moesaic.picture_files import format_of

    if path.stem.endswith(_OWN_WORK):
        return False
    try:
        format_of(path, None)
    except PictureError:
        return False
    return True
