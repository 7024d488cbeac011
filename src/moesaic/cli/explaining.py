"""The verb `explain`: pictures of routing, for each of the five systems."""

# Annotations are real here, not postponed: typer evaluates them.
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import moesaic
from moesaic.cli import explained, places
from moesaic.cli.endings import ending
from moesaic.cli.options import PIXELS, Force, Inputs, Json, Output, PixelLimit, Quiet, Recursive
from moesaic.cli.places import Job
from moesaic.cli.report import Figures, Report
from moesaic.cli.runs import run
from moesaic.errors import ArgumentError, PictureError

if TYPE_CHECKING:
    from moesaic.explain.explained import Explained

_PAGE = ".explained.html"


class Kind(Enum):
    """What can be explained of a picture; a test holds these and `moesaic.explain.use.KINDS` equal."""

    MIXTURE = "mixture"
    PREDICTION = "prediction"
    RESTORATION = "restoration"
    UPSCALING = "upscaling"
    SEGMENTATION = "segmentation"
    ROUTING = "routing"


@ending
def explain(
    inputs: Inputs,
    output: Output = None,
    kind: Annotated[
        Kind | None,
        typer.Option("--as", help="What to explain of pictures; a .moe file is always a mixture.", show_default=False),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            metavar="PICTURE", help="What a .moe file was made of: its errors are shown, too.", show_default=False
        ),
    ] = None,
    html: Annotated[
        bool, typer.Option("--html", help="Write one page for the browser that needs nothing else, instead of a PNG.")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="The network, for pictures; see `moesaic models`.",
            show_default="the shipped one; none for routing",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    pixel_limit: PixelLimit = PIXELS,
    recursive: Recursive = False,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Draw which expert acts where: kernels of .moe files, and what networks decide for pictures."""
    wanted = None if kind is None else kind.value
    jobs = places.settle(
        inputs,
        output,
        name=lambda path: path.stem + (_PAGE if html else explained.EXPLAINED),
        accepts=lambda path: _is_source(path, wanted),
        recursive=recursive,
    )
    from moesaic.explain.use import check_kind, explain_file, explainer, is_moe

    pictures = [job.source for job in jobs if not is_moe(job.source)]
    for job in jobs:
        check_kind(job.source, wanted, moe=is_moe(job.source))
        _check_output(job, html)
    if source is not None and (pictures or len(jobs) > 1):
        raise ArgumentError("--source goes with one .moe file: it is the picture that the file was made of")
    if model is not None and not pictures:
        raise ArgumentError("--model goes with pictures: a .moe file needs no network")
    if source is not None:
        places.refuse_clashes(jobs, also=[source])
    report = Report("explain", len(jobs), as_json=as_json, quiet=quiet, text=_told)
    act = explainer(wanted, model=model, device=device) if pictures else None

    def work(job: Job) -> Figures:
        if act is None or is_moe(job.source):
            original = None if source is None else moesaic.read_picture(source, pixel_limit=pixel_limit)
            found = explain_file(job.source, against=original, pixel_limit=pixel_limit)
        else:
            found = act(moesaic.read_picture(job.source, pixel_limit=pixel_limit), job.source.name)
        if job.output is not None:
            _write(found, job.output, html=html, force=force)
        return {"kind": found.kind, **_plain(found.figures)}

    return run(jobs, work, report, force=force)


def _write(found: "Explained", output: Path, *, html: bool, force: bool) -> None:
    from moesaic.files import atomic_write

    if html:
        atomic_write(output, found.page().encode(), force=force)
    else:
        moesaic.write_picture(found.picture, output, force=force)


def _check_output(job: Job, html: bool) -> None:
    """Refuse a name that is not of the kind that is written, before any work.

    Raises:
        ArgumentError: a page whose name ends otherwise.
        PictureError: a picture of an unknown kind.
    """
    from moesaic.picture_files import format_of

    if job.output is None:
        return
    if html and job.output.suffix.lower() not in (".html", ".htm"):
        raise ArgumentError(f"{job.output}: --html writes pages in .html")
    if not html:
        format_of(job.output, None)


def _plain(figures: Any) -> dict[str, Any]:
    """Figures as JSON can hold them: no infinity within, which is the PSNR of equal pictures."""
    plain = dict(figures)
    if isinstance(plain.get("psnr"), dict):
        plain["psnr"] = {stage: value if value < float("inf") else None for stage, value in plain["psnr"].items()}
    return plain


def _told(figures: Figures) -> str:
    """What was explained, and the figures that fit a line."""
    from moesaic.cli.report import summary

    told = {**figures, "experts": figures.get("kernels")}
    if isinstance(told.get("psnr"), dict):
        told["psnr"] = list(told["psnr"].values())[-1]
    return f"{figures['kind']}, {summary(told)}"


def _is_source(path: Path, kind: str | None) -> bool:
    """A file of a folder that can be explained, and is not itself the work of this verb."""
    from moesaic.picture_files import format_of

    if path.name.endswith((explained.EXPLAINED, _PAGE)):
        return False
    if path.suffix.lower() == ".moe":
        return kind in (None, "mixture")
    try:
        format_of(path, None)
    except PictureError:
        return False
    return kind is not None
