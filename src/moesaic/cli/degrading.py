"""The verb `degrade`: pictures in rain, haze and noise, to try what takes it away again."""

# Annotations are real here, not postponed: typer evaluates them.
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    read_share,
)
from moesaic.cli.report import Figures, Report
from moesaic.cli.runs import run
from moesaic.degrade import KINDS
from moesaic.degrade.naming import did_you_mean
from moesaic.errors import ArgumentError, PictureError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from moesaic.cli.places import Job
    from moesaic.image import Picture

_SHEET = "degradations"  # how the name of a contact sheet ends, before the suffix


@ending
def degrade(
    inputs: Inputs,
    output: Output = None,
    kind: Annotated[
        str | None, typer.Option(metavar="KIND", help=f"One of {', '.join(KINDS)}.", show_default=False)
    ] = None,
    severity: Annotated[
        float | None,
        typer.Option(
            parser=read_share,
            metavar="SEVERITY",
            help="0 the mildest of the kind, 1 the strongest.",
            show_default="drawn",
        ),
    ] = None,
    family: Annotated[
        str | None,
        typer.Option(
            metavar="FAMILY",
            help="How it is made, such as plane for haze, x4 for wild, haze+jpeg for a composite.",
            show_default="drawn",
        ),
    ] = None,
    params: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Repeat what --json told of another run: an object with kind and params.",
            show_default=False,
        ),
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="Write a sheet of all kinds instead, each with its severity.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, max=2**53 - 1, help="Same seed, same degradation, everywhere.")] = 0,
    metadata: Metadata = Carry.KEEP,
    pixel_limit: PixelLimit = PIXELS,
    recursive: Recursive = False,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Degrade clean pictures: noise, rain, haze, snow, blur, low light, JPEG, and several at once."""
    held = None if params is None else _read_params(params)
    if show and (kind, family, held) != (None, None, None):
        raise ArgumentError("--show draws every kind; leave --kind, --family and --params out")
    if held is not None and (kind not in (None, held["kind"]) or severity is not None or family is not None):
        raise ArgumentError(f"{params} says everything; leave --kind, --severity and --family out")
    kind = held["kind"] if held is not None else kind
    if not show and kind not in KINDS:
        wrong = "; or --show for all of them" if kind is None else f", not {kind!r}{did_you_mean(kind)}"
        raise ArgumentError(f"--kind is one of {', '.join(KINDS)}{wrong}")
    end = _SHEET if show else kind
    jobs = places.settle(
        inputs, output, name=lambda source: f"{source.stem}.{end}.png", accepts=_is_source, recursive=recursive
    )
    report = Report("degrade", len(jobs), as_json=as_json, quiet=quiet, text=_told)
    from moesaic import image, picture_files
    from moesaic.degrade import use

    for job in jobs[:1]:  # the others of several are named here
        picture_files.format_of(job.output or job.source, None)

    def work(job: "Job") -> Figures:
        clean = moesaic.read_picture(job.source, pixel_limit=pixel_limit)
        if show:
            made = _sheet(clean, seed, severity)
            figures: dict[str, Any] = {"kind": None, "params": None}
        else:
            degraded = use.degrade(
                _colours(clean),
                str(kind),  # it is one of KINDS by now
                seed=seed,
                severity=severity,
                family=family,
                params=None if held is None else held["params"],
            )
            made = _like(clean, degraded.pixels)
            figures = {"kind": degraded.kind, "params": degraded.params}
        if job.output is not None:
            image.refuse_unfit(made, job.output)
            moesaic.write_picture(made, job.output, force=force, metadata=metadata.value)
        return {"width": made.width, "height": made.height, **figures}

    return run(jobs, work, report, force=force)


def _colours(picture: "Picture") -> "NDArray[np.float32]":
    """RGB (H, W, 3) of the picture, alpha left out."""
    grey = picture.channels < 3
    return picture.pixels[..., [0, 0, 0]] if grey else picture.pixels[..., :3]


def _like(clean: "Picture", degraded: "NDArray[np.float32]") -> "Picture":
    """The degraded colours as a picture with the alpha, depth, profile and metadata of the clean one.

    A grey picture stays grey: of noise in three channels one is taken, as a mean would have less of it.
    """
    import numpy as np

    colours = degraded[..., 1:2] if clean.channels < 3 else degraded
    parts = [np.clip(colours, 0, 1)]
    if clean.has_alpha:
        from moesaic.degrade.filters import resize

        alpha = clean.pixels[..., -1:].astype(np.float64)
        if alpha.shape[:2] != colours.shape[:2]:
            height, width = colours.shape[:2]
            alpha = np.clip(resize(alpha, height, width, "bilinear"), 0, 1)
        parts.append(alpha.astype(np.float32))
    return replace(clean, pixels=np.concatenate(parts, 2))


def _sheet(clean: "Picture", seed: int, severity: float | None) -> "Picture":
    import numpy as np

    from moesaic.degrade.sheet import contact_sheet

    sheet = contact_sheet(_colours(clean), seed=seed, severity=severity)
    icc = clean.icc if clean.channels >= 3 else None  # of grey pictures it is a profile of grey
    return replace(clean, pixels=sheet.astype(np.float32) / np.float32(255), depth=8, icc=icc, exif=None, xmp=None)


def _read_params(path: Path) -> dict[str, Any]:
    try:
        held = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ArgumentError(f"{path}: the parameters cannot be read: {error}") from error
    if not isinstance(held, dict) or held.get("kind") not in KINDS or not isinstance(held.get("params"), dict):
        raise ArgumentError(f"{path}: an object with kind and params is expected, as --json tells it for one picture")
    return held


def _told(figures: Figures) -> str:
    size = f"{figures['width']} x {figures['height']} px, {figures['seconds']:.2f} s"
    if figures["params"] is None:
        return f"all kinds, {size}"
    return f"{figures['kind']} ({_numbers(figures['params'])}), {size}"


def _numbers(params: dict[str, Any]) -> str:
    """The parameters that are plain numbers, or the parts of a composite."""
    if "parts" in params:
        return "; ".join(f"{part['kind']}: {_numbers(part['params'])}" for part in params["parts"])
    plain = {name: value for name, value in params.items() if type(value) in (int, float) and name != "seed"}
    return ", ".join(f"{name} {value:.4g}" for name, value in plain.items())


def _is_source(path: Path) -> bool:
    """A picture that is not itself the work of this verb, so that a run over a folder can be repeated."""
    from moesaic.picture_files import format_of

    if Path(path.stem).suffix.removeprefix(".") in (*KINDS, _SHEET):
        return False
    try:
        format_of(path, None)
    except PictureError:
        return False
    return True
