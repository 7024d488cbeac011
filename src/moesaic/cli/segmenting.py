"""The verbs `segment` and `models`: what is where in pictures, and which models there are."""

# Annotations are real here, not postponed: typer evaluates them.
import json
from collections.abc import Mapping
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import moesaic
from moesaic.cli import by_rows, places
from moesaic.cli.endings import ALL_DONE, NOTHING_DONE, ending, one_line, say
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
from moesaic.cli.tile_news import TileNews
from moesaic.errors import ArgumentError, PictureError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from moesaic.cli.places import Job


class Scale(Enum):
    """At which size a network sees a picture."""

    TRAINED = "trained"
    FULL = "full"


@ending
def segment(
    inputs: Inputs,
    output: Output = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE", help="A name from `moesaic models`, or a weights file.", show_default="the shipped one"
        ),
    ] = None,
    labels: Annotated[
        bool, typer.Option("--labels", help="Write the class of each pixel as an 8-bit PNG, instead of the overlay.")
    ] = False,
    routing: Annotated[
        bool, typer.Option("--routing", help="Draw which experts acted where, instead of the classes.")
    ] = False,
    layer: Annotated[
        str | None,
        typer.Option(metavar="LAYER", help="The routed layer to draw, where there are several.", show_default=False),
    ] = None,
    scale: Annotated[
        Scale, typer.Option(help="Scale to the size of the training pictures, or take all pixels, in tiles.")
    ] = Scale.TRAINED,
    tile: Annotated[
        int | None, typer.Option(min=1, metavar="PX", help="Side of the tiles.", show_default=False)
    ] = None,
    opacity: Annotated[
        float,
        typer.Option(parser=read_share, metavar="OPACITY", help="Of the colours over the picture."),
    ] = 0.5,
    legend: Annotated[
        bool, typer.Option("--legend/--no-legend", help="Below the picture, what the colours mean.")
    ] = True,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    metadata: Metadata = Carry.KEEP,
    pixel_limit: PixelLimit = PIXELS,
    recursive: Recursive = False,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Say what is where in pictures: an overlay of coloured classes, the label map, or which experts acted where."""
    if labels and routing:
        raise ArgumentError("--labels and --routing are two pictures; ask for one at a time")
    if layer is not None and not routing:
        raise ArgumentError("--layer names the layer that --routing draws; give both")
    kind = "labels" if labels else "routing" if routing else "segmented"
    jobs = places.settle(
        inputs, output, name=lambda path: f"{path.stem}.{kind}.png", accepts=_is_source, recursive=recursive
    )
    for job in jobs:
        if job.output is not None:
            _check_output(job.output, labels)
    report = Report("segment", len(jobs), as_json=as_json, quiet=quiet, text=_told)
    from moesaic import rows
    from moesaic.picture import Frame
    from moesaic.segment.models import DEFAULT_MODEL, registry
    from moesaic.segment.use import segment as find
    from moesaic.training.device import pick_device
    from moesaic.weights_file import card_of

    network = registry.load(DEFAULT_MODEL if model is None else model, device=str(pick_device(device)))
    card = card_of(network)

    def work(job: "Job") -> Figures:
        if not routing and by_rows.goes_by_rows(job, pixel_limit=pixel_limit):
            return large(job)
        picture = moesaic.read_picture(job.source, pixel_limit=pixel_limit)
        found = find(picture, network, scale=scale.value, tile=tile)
        if labels:
            drawn = found.label_map()
        elif routing:
            drawn = found.routing_picture(layer, legend=legend, opacity=opacity)
        else:
            drawn = found.overlay(legend=legend, opacity=opacity)
        if job.output is not None:
            moesaic.write_picture(drawn, job.output, force=force, metadata=metadata.value)
        return told(picture.width, picture.height, found.shares)

    def large(job: "Job") -> Figures:
        from moesaic.segment import streaming

        output = job.output or job.source

        def opened(frame: Frame) -> Any:
            return rows.write_rows(output, frame, force=force, metadata=metadata.value)

        with rows.open_rows(job.source, pixel_limit=pixel_limit) as source, _beside(output) as file:
            frame = source.frame
            news = TileNews(report, "segment")
            found = streaming.label(source, file, network, scale=scale.value, tile=tile, progress=news.tile)
            if labels:
                with opened(Frame(width=frame.width, height=frame.height, channels=1)) as write:
                    streaming.draw_labels(found, frame, write)
            else:
                streaming.draw_overlay(found, source, opened, legend=legend, opacity=opacity)
        return told(frame.width, frame.height, found.shares)

    def told(width: int, height: int, shares: Mapping[str, float]) -> Figures:
        return {
            "width": width,
            "height": height,
            "model": None if card is None else card.name,
            "licence": None if card is None else card.licence,
            "shares": {name: round(share, 6) for name, share in shares.items()},
        }

    return run(jobs, work, report, force=force)


@ending
def models(
    pattern: Annotated[str, typer.Argument(help="Names to list, such as '*camvid*'.")] = "*",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print all that is known, one JSON object for each model, and nothing else.")
    ] = False,
) -> int:
    """List the models: architectures to train, and trained weights with their licence and a score."""
    from moesaic import zoo

    names = zoo.list_models(pattern)
    if not names:
        say(f"there is no model of the name {pattern}; known are {', '.join(zoo.list_models())}")
        return NOTHING_DONE
    cards = [zoo.model_card(name) for name in names]
    if as_json:
        for name, card in zip(names, cards, strict=True):
            held: dict[str, Any] = {"name": name, "trained": card is not None}
            typer.echo(json.dumps(held | ({} if card is None else asdict(card) | {"name": name}), allow_nan=False))
        return ALL_DONE
    width = max(map(len, names))
    for name, card in zip(names, cards, strict=True):
        if card is None:
            typer.echo(f"{name:<{width}}  architecture, to be trained")
            continue
        told = f"{card.task}, {card.parameters:,} parameters, weights under {card.licence}{_headline(card.scores)}"
        typer.echo(f"{name:<{width}}  {one_line(told)}")
    return ALL_DONE


def _beside(output: Path) -> "AbstractContextManager[Any]":
    """A file without a name on the disk of the output, where the place for temporary files may be in memory."""
    import tempfile

    try:
        return tempfile.TemporaryFile(dir=output.parent)
    except OSError as cause:
        raise ArgumentError(f"cannot write {output}: {cause.strerror or cause}") from cause


def _headline(scores: Mapping[str, float]) -> str:
    """One score of several: the first on test pictures, or the first of all."""
    if not scores:
        return ""
    name = next((name for name in scores if "test" in name), next(iter(scores)))
    more = f" ({len(scores) - 1} more with --json)" if len(scores) > 1 else ""
    return f", {name} {scores[name]:.4g}{more}"


def _told(figures: Figures) -> str:
    """The classes that a picture holds, the largest first."""
    shares = sorted(figures["shares"].items(), key=lambda item: -item[1])
    told = ", ".join(f"{one_line(name)} {share:.1%}" for name, share in shares if share >= 0.0005)
    return f"{told}, {figures['seconds']:.2f} s"


def _is_source(path: Path) -> bool:
    """A picture that is not itself the work of this verb, so that a run over a folder can be repeated."""
    from moesaic.picture_files import format_of

    if path.name.endswith((".segmented.png", ".labels.png", ".routing.png")):
        return False
    try:
        format_of(path, None)
    except PictureError:
        return False
    return True


def _check_output(path: Path, labels: bool) -> None:
    """Refuse a name that cannot hold the result, before any work.

    Raises:
        ArgumentError: a label map in another format than PNG.
        PictureError: no picture format has this suffix.
    """
    from moesaic.picture_files import format_of

    if labels and path.suffix.lower() != ".png":
        raise ArgumentError(f"{path}: label maps are written as .png; the name of a new folder ends in a slash")
    format_of(path, None)
