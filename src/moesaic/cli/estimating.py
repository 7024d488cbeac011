"""The verb `estimate`: how degraded pictures are."""

# Annotations are real here, not postponed: typer evaluates them.
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import moesaic
from moesaic.cli import places
from moesaic.cli.endings import ending
from moesaic.cli.options import PIXELS, Inputs, Json, PixelLimit, Quiet, Recursive
from moesaic.cli.report import Figures, Report
from moesaic.cli.runs import run
from moesaic.errors import PictureError

if TYPE_CHECKING:
    from moesaic.cli.places import Job

_BAR = 24  # characters of a score of 1


@ending
def estimate(
    inputs: Inputs,
    estimator: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="analytic, clip:FOLDER, constant, or a weights file of an estimator.",
            show_default="the shipped network",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "cpu",
    pixel_limit: PixelLimit = PIXELS,
    recursive: Recursive = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Tell how degraded pictures are, from 0 to 1: noise, blur, JPEG, lost resolution, and all of it in one number."""
    jobs = places.settle(inputs, None, name=None, accepts=_is_picture, recursive=recursive)
    report = Report("estimate", len(jobs), as_json=as_json, quiet=quiet, always=True, text=_told)
    from moesaic.upscale.estimate import estimate as judge
    from moesaic.upscale.estimators import make_estimator

    used = make_estimator(estimator, device=device)

    def work(job: "Job") -> Figures:
        picture = moesaic.read_picture(job.source, pixel_limit=pixel_limit)
        said = judge(picture, used)
        return {
            "width": picture.width,
            "height": picture.height,
            "estimator": said.estimator,
            "severity": round(said.severity, 4),
            "scores": {name: round(score, 4) for name, score in said.scores.items()},
        }

    return run(jobs, work, report)


def _told(figures: Figures) -> str:
    """A line for the severity and one for each score, each with a bar."""
    rows = {"severity": figures["severity"], **figures["scores"]}
    width = max(map(len, rows))
    lines = [f"\n  {name:<{width}}  {score:.2f}  {'#' * round(_BAR * score)}" for name, score in rows.items()]
    return "".join(line.rstrip() for line in lines)


def _is_picture(path: Path) -> bool:
    from moesaic.picture_files import format_of

    try:
        format_of(path, None)
    except PictureError:
        return False
    return True
