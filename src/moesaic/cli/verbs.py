"""The verbs: each states its options, and hands the work to the library's call of the same name."""

# Annotations are real here, not postponed: typer evaluates them. Only the parser is imported at the top, so that --help
# answers at once; whatever needs torch or NumPy is imported by the verb that uses it.
import io
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import moesaic
from moesaic.cli import (
    auditing,
    batching,
    degrading,
    denoising,
    enlarging,
    estimating,
    explaining,
    places,
    restoring,
    segmenting,
    serving,
    training,
    upscaling,
)
from moesaic.cli.endings import ALL_DONE, ending
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
    read_region,
    read_size,
)
from moesaic.cli.report import Figures, Report, holdings, log_to_stderr
from moesaic.cli.runs import run
from moesaic.errors import ArgumentError

if TYPE_CHECKING:
    from moesaic.cli.places import Job

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 all done, 1 some inputs failed, 2 nothing could be done.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"moesaic {moesaic.__version__}")
        raise typer.Exit


@app.callback()
def _moesaic(
    version: Annotated[  # noqa: ARG001 - its callback has acted on it
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and stop.")
    ] = False,
) -> None:
    """Pictures as sparse mixtures of experts: small .moe files that render at any size."""
    log_to_stderr()


@app.command()
@ending
def encode(
    inputs: Inputs,
    output: Output = None,
    experts: Annotated[
        int | None, typer.Option(min=1, help="How many experts to use.", show_default="one for 40 pixels")
    ] = None,
    bpp: Annotated[float | None, positive("Bits per pixel to spend.", "BITS")] = None,
    psnr: Annotated[float | None, positive("PSNR to reach, in dB.", "DB")] = None,
    seconds: Annotated[float | None, positive("Time to spend on each picture.", "SECONDS")] = None,
    order: Annotated[int, typer.Option(min=0, max=1, help="Experts: 0 constant colours, 1 linear ones.")] = 0,
    fast: Annotated[bool, typer.Option("--fast", help="Predict the mixture with a network: no fitting.")] = False,
    refine: Annotated[
        int,
        typer.Option(
            min=0, metavar="STEPS", help="With --fast: steps of a fit from there; 100 or more move kernels, too."
        ),
    ] = 0,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE|RUN", help="With --fast: another predictor.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed and machine, same file.")] = 0,
    metadata: Metadata = Carry.KEEP,
    pixel_limit: PixelLimit = PIXELS,
    recursive: Recursive = False,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Turn pictures into .moe files. State at most one of --experts, --bpp and --psnr."""
    if sum(wish is not None for wish in (experts, bpp, psnr)) > 1:
        raise ArgumentError("--experts, --bpp and --psnr exclude each other; state one of them")
    if not fast and (refine or model is not None):
        raise ArgumentError("--refine and --model go with --fast")
    if fast and (seconds is not None or order):
        raise ArgumentError("--fast excludes --seconds and --order 1; --refine says how many steps of fitting follow")
    jobs = places.settle(
        inputs, output, name=lambda source: f"{source.stem}.moe", accepts=_is_picture, recursive=recursive
    )
    for job in jobs:
        if job.output is None or job.output.suffix.lower() != ".moe":
            raise ArgumentError(f"{job.output}: encode writes files in .moe; the name of a new folder ends in a slash")
    report = Report("encode", len(jobs), as_json=as_json, quiet=quiet)

    def work(job: "Job") -> Figures:
        picture = moesaic.read_picture(job.source, pixel_limit=pixel_limit)
        encoded = moesaic.encode(
            picture,
            job.output,
            experts=experts,
            bpp=bpp,
            psnr=psnr,
            seconds=seconds,
            order=order,
            fast=fast,
            refine=refine,
            model=model,
            seed=seed,
            progress=report.progress,
            force=force,
            metadata=metadata.value,
        )
        return {
            "width": picture.width,
            "height": picture.height,
            "channels": picture.channels,
            "depth": picture.depth,
            "experts": len(encoded.mixture),
            "order": encoded.mixture.order,
            "psnr": encoded.psnr,
            "ssim": encoded.ssim,
            "bytes": len(encoded.data),
            "bpp": encoded.bpp,
        }

    return run(jobs, work, report, force=force)


@app.command()
@ending
def decode(
    inputs: Inputs,
    output: Output = None,
    scale: Annotated[float | None, positive("Output pixels per pixel of the canvas.", "FACTOR")] = None,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Size of the output in pixels.", show_default=False)
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(metavar="L,T,R,B", help="Part of the canvas, in its pixels.", show_default=False),
    ] = None,
    layers: Annotated[
        int | None, typer.Option(min=1, help="Read only the first layers: a coarser picture.", show_default=False)
    ] = None,
    format: Format = "png",
    depth: Annotated[
        int | None, typer.Option(min=8, max=16, help="Bits a channel, 8 or 16; as in the source.", show_default=False)
    ] = None,
    quality: Quality = None,
    metadata: Metadata = Carry.KEEP,
    pixel_limit: PixelLimit = PIXELS,
    recursive: Recursive = False,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Turn .moe files into pictures of any size."""
    if scale is not None and size is not None:
        raise ArgumentError("--scale and --size exclude each other; state one of them")
    if depth not in (None, 8, 16):
        raise ArgumentError(f"--depth is 8 or 16, not {depth}")
    width_height, box, suffix = read_size(size), read_region(region), read_format(format)
    change = places.change_told(scale=scale, size=width_height, region=box, layers=layers)
    jobs = places.settle(
        inputs,
        output,
        name=lambda source: f"{source.stem}{change}.{suffix}",
        accepts=_is_moe,
        recursive=recursive,
    )
    from moesaic import picture_files
    from moesaic.codec.decoder import draw_to
    from moesaic.codec.file import load_file
    from moesaic.codec.limits import Limits

    for job in jobs[:1]:  # all have the same suffix
        picture_files.format_of(job.output or job.source, None)
    limits = Limits(canvas_pixels=pixel_limit, output_pixels=pixel_limit)
    report = Report("decode", len(jobs), as_json=as_json, quiet=quiet)

    def work(job: "Job") -> Figures:
        held = load_file(job.source, limits=limits, layers=layers)
        options: dict[str, Any] = {"scale": scale, "size": width_height, "region": box, "limits": limits}
        output = job.output or job.source
        frame = draw_to(held, output, depth=depth, quality=quality, force=force, metadata=metadata.value, **options)
        return {
            "width": frame.width,
            "height": frame.height,
            "channels": frame.channels,
            "depth": frame.depth,
            "bytes": output.stat().st_size,
        }

    return run(jobs, work, report, force=force)


@app.command()
@ending
def info(inputs: Inputs, recursive: Recursive = False, as_json: Json = False, quiet: Quiet = False) -> int:
    """Tell what .moe files hold, without decoding them."""
    jobs = places.settle(inputs, None, name=None, accepts=_is_moe, recursive=recursive)
    report = Report("info", len(jobs), as_json=as_json, quiet=quiet, always=True, text=holdings)

    def work(job: "Job") -> Figures:
        from moesaic.codec import read_info

        return asdict(read_info(job.source))

    return run(jobs, work, report)


@app.command()
@ending
def compare(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="The picture to hold the others against.")],
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT", help="Pictures or .moe files.", show_default=False)],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUTPUT",
            help="Write source, input and error map side by side: a picture file, or a folder for several inputs.",
            show_default=False,
        ),
    ] = None,
    pixel_limit: PixelLimit = PIXELS,
    recursive: Recursive = False,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Measure pictures against a source: PSNR, SSIM, MS-SSIM, bytes and bits per pixel."""
    from moesaic.cli import comparing

    jobs = places.settle(
        inputs,
        output,
        name=None if output is None else lambda path: f"{path.stem}.comparison.png",
        accepts=lambda path: _is_moe(path) or _is_picture(path),
        recursive=recursive,
    )
    places.refuse_clashes(jobs, also=[source])
    report = Report("compare", len(jobs), as_json=as_json, quiet=quiet, always=True)
    original = comparing.read(source, pixel_limit=pixel_limit)

    def work(job: "Job") -> Figures:
        other = comparing.read(job.source, pixel_limit=pixel_limit)
        if job.output is not None:
            moesaic.write_picture(comparing.side_by_side(original, other), job.output, force=force)
        return {"source": str(source), **comparing.measure(original, other, job.source.stat().st_size)}

    return run(jobs, work, report, force=force)


app.command()(denoising.denoise)
app.command()(enlarging.enlarge)
app.command()(restoring.restore)
app.command()(upscaling.upscale)
app.command()(estimating.estimate)
app.command()(segmenting.segment)
app.command()(explaining.explain)
app.command()(degrading.degrade)
app.add_typer(training.app, name="train")
app.command()(auditing.audit)
app.add_typer(
    batching.app_of(
        (
            encode,
            decode,
            denoising.denoise,
            enlarging.enlarge,
            restoring.restore,
            upscaling.upscale,
            segmenting.segment,
            degrading.degrade,
        )
    ),
    name="batch",
)
app.command()(segmenting.models)
app.command()(serving.serve)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; `sys.argv` when there are no arguments."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file's name may hold what the terminal cannot show
    return _main(arguments)


@ending
def _main(arguments: Sequence[str] | None) -> int:
    code = app(None if arguments is None else list(arguments), prog_name="moesaic", standalone_mode=False)
    return code if isinstance(code, int) else ALL_DONE  # --help and --version return nothing


def _is_picture(path: Path) -> bool:
    from moesaic.errors import PictureError
    from moesaic.picture_files import format_of

    try:
        format_of(path, None)
    except PictureError:
        return False
    return True


def _is_moe(path: Path) -> bool:
    return path.suffix.lower() == ".moe"
