"""The verb `enlarge`: pictures at more pixels."""

# Annotations are real here, not postponed: typer evaluates them.
import re
from enum import Enum
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
    Format,
    Inputs,
    Json,
    Metadata,
    Output,
    PixelLimit,
    Quality,
    Quiet,
    Recursive,
    positive,
    read_format,
    read_size,
)
from moesaic.cli.report import Figures, Report
from moesaic.cli.runs import run
from moesaic.errors import ArgumentError, PictureError

if TYPE_CHECKING:
    from moesaic.cli.places import Job

_OWN_WORK = re.compile(r"\.x\d+(\.\d+)?$")  # how the names of earlier enlargements end


class Sampling(Enum):
    """How the small picture's pixels came about."""

    POINT = "point"
    AREA = "area"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    LANCZOS = "lanczos"


@ending
def enlarge(
    inputs: Inputs,
    output: Output = None,
    scale: Annotated[
        float | None,
        positive("Output pixels for each pixel, above 1; 2 where --size is not given either.", "FACTOR"),
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Size of the output in pixels.", show_default=False)
    ] = None,
    sampling: Annotated[
        Sampling,
        typer.Option(
            help="How the small picture came about: a resize (bicubic), a camera's pixels (area), or values at points."
        ),
    ] = Sampling.BICUBIC,
    fits: Annotated[
        int | None,
        typer.Option(min=1, help="Mixtures that are averaged; fewer are quicker and less good.", show_default="6"),
    ] = None,
    format: Format = "png",
    quality: Quality = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed and machine, same picture.")] = 0,
    metadata: Metadata = Carry.KEEP,
    pixel_limit: PixelLimit = PIXELS,
    recursive: Recursive = False,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Enlarge pictures by any factor: fitted through the sampling that made them small, and drawn larger."""
    if scale is not None and size is not None:
        raise ArgumentError("--scale and --size exclude each other; state one of them")
    if scale is not None and scale <= 1:
        raise ArgumentError(f"--scale {scale:g} makes nothing larger; give a factor above 1")
    width_height, suffix = read_size(size), read_format(format)
    factor = 2.0 if scale is None and width_height is None else scale
    change = places.change_told(scale=factor, size=width_height, region=None, layers=None)
    jobs = places.settle(
        inputs,
        output,
        name=lambda source: f"{source.stem}{change}.{suffix}",
        accepts=lambda path: _is_source(path, change),
        recursive=recursive,
    )
    from moesaic import image, picture_files

    for job in jobs[:1]:  # all have the same suffix
        picture_files.format_of(job.output or job.source, None)
    report = Report("enlarge", len(jobs), as_json=as_json, quiet=quiet, text=_told)

    def work(job: "Job") -> Figures:
        if job.source.suffix.lower() == ".moe":
            raise ArgumentError(
                f"{job.source} is a mixture, which renders at any size: write moesaic decode {job.source} --scale 2"
            )
        from moesaic.mixture.enlarge import EnlargeConfig
        from moesaic.mixture.enlarge import enlarge as make_larger

        small = moesaic.read_picture(job.source, pixel_limit=pixel_limit)
        if job.output is not None:
            image.refuse_unfit(small, job.output)  # now, not after minutes of work
        large = make_larger(
            small,
            scale=factor,
            size=width_height,
            sampling=sampling.value,
            seed=seed,
            progress=report.progress,
            pixel_limit=pixel_limit,
            config=EnlargeConfig() if fits is None else EnlargeConfig(fits=fits),
        )
        if job.output is not None:
            moesaic.write_picture(large, job.output, quality=quality, force=force, metadata=metadata.value)
        return {
            "width": large.width,
            "height": large.height,
            "channels": large.channels,
            "depth": large.depth,
            "sampling": sampling.value,
            "bytes": None if job.output is None else job.output.stat().st_size,
        }

    return run(jobs, work, report, force=force)


def _told(figures: Figures) -> str:
    return f"{figures['width']}x{figures['height']}, {figures['bytes']:,} bytes, {figures['seconds']:.2f} s"


def _is_source(path: Path, change: str) -> bool:
    """A picture that is not itself the work of this verb, so that a run over a folder can be repeated."""
    from moesaic.picture_files import format_of

    if path.stem.endswith(change) or _OWN_WORK.search(path.stem):
        return False
    try:
        format_of(path, None)
    except PictureError:
        return False
    return True
