"""The verb `train`: one command for each task."""

# Annotations are real here, not postponed: typer evaluates them.
import math
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from moesaic.cli.endings import ALL_DONE, INTERRUPTED, ending
from moesaic.cli.options import Quiet, positive, read_size
from moesaic.cli.training_estimator import estimator
from moesaic.cli.training_predict import predict
from moesaic.cli.training_restore import restore
from moesaic.cli.training_run import (
    AsJson,
    Device,
    Precision,
    Rate,
    Resume,
    RunFolder,
    Seed,
    WeightDecay,
    tell,
    watched,
)
from moesaic.cli.training_upscale import upscale
from moesaic.errors import ArgumentError

app = typer.Typer(no_args_is_help=True)
app.command()(predict)
app.command()(restore)
app.command()(upscale)
app.command()(estimator)

_TRAINED = "Train networks of your own; every run can be interrupted and goes on where it was."


@app.callback(help=_TRAINED)
def train() -> None:
    """The group of commands; each task adds its own."""


@app.command()
@ending
def segment(
    data: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER",
            help="Pictures and label maps: train/ beside trainannot/, or images/train/ beside labels/train/.",
            show_default=False,
        ),
    ],
    output: RunFolder,
    network: Annotated[str, typer.Option(help="enet, erfnet, unet, lraspp, deeplab or pspnet.")] = "enet",
    experts: Annotated[
        int | None,
        typer.Option(min=1, help="Experts of the routed layer; without it the network is dense.", show_default=False),
    ] = None,
    k: Annotated[int, typer.Option(min=1, help="Experts that act at each place.")] = 2,
    grid: Annotated[int, typer.Option(min=1, help="Rows and columns of places.")] = 3,
    gate: Annotated[
        str, typer.Option(help="two_conv, conv, linear or frequency; uniform, random, position, frozen as controls.")
    ] = "two_conv",
    place: Annotated[
        str | None, typer.Option(metavar="LAYER", help="The layer that becomes experts.", show_default="the network's")
    ] = None,
    balance: Annotated[str, typer.Option(help="The balance loss, or none.")] = "switch",
    balance_weight: Annotated[float, typer.Option(min=0, help="Its factor.")] = 0.01,
    width: Annotated[float, typer.Option(min=0.01, help="Factor on all channel counts.")] = 1.0,
    start: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Weights to begin from; dense ones are upcycled.", show_default=False),
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Scale pictures to this.", show_default="as in the files")
    ] = None,
    crop: Annotated[
        str | None, typer.Option(metavar="WxH", help="What a step sees of them.", show_default="all")
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Of the whole run; as many as fit into --minutes without it.", show_default=False),
    ] = None,
    minutes: Annotated[float | None, positive("Stop after so much time; the same command goes on.", "MINUTES")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Pictures in a step.")] = 8,
    rate: Rate = 1e-3,
    optimiser: Annotated[str, typer.Option(help="adamw or sgd.")] = "adamw",
    schedule: Annotated[str, typer.Option(help="cosine, poly or constant.")] = "cosine",
    warm_up: Annotated[float, typer.Option(min=0, help="Epochs in which the learning rate rises.")] = 2.0,
    weight_decay: WeightDecay = 1e-4,
    class_weights: Annotated[str, typer.Option(help="Against rare classes: enet, median or none.")] = "enet",
    precision: Precision = "auto",
    seed: Seed = 0,
    resume: Resume = True,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Train a network that says what is where in a picture."""
    frame, window = read_size(size), _read_crop(crop)
    if epochs is None and minutes is None:
        raise ArgumentError("state --epochs, --minutes or both: how long to train")
    from moesaic.segment.recipe import SegmentRecipe
    from moesaic.segment.train import train_segment

    recipe = SegmentRecipe(
        network=network,
        width=width,
        experts=experts,
        k=k,
        grid=grid,
        gate=gate,
        place=place,
        balance=balance,
        balance_weight=balance_weight,
        start=None if start is None else str(start),
        epochs=epochs,
        batch=batch,
        rate=rate,
        optimiser=optimiser,
        schedule=schedule,
        warm_up=warm_up,
        weight_decay=weight_decay,
        class_weights=class_weights,
        precision=precision,
        seed=seed,
        size=None if frame is None else (frame[1], frame[0]),
        crop=None if window is None else (window[1], window[0]),
    )
    begin = partial(train_segment, data, output, recipe, minutes=minutes, resume=resume, device=device)
    run = watched(lambda news: begin(progress=news), output, resume=resume, quiet=quiet)
    if run is None:
        return INTERRUPTED
    score = None if run.score is None else f"mean IoU on val {run.score:.2%}"
    iou = run.score if run.score is None or math.isfinite(run.score) else None
    figures = {"epochs": run.epochs, "val_mean_iou": iou}
    tell(run, "segment", score=score, figures=figures, as_json=as_json, quiet=quiet, warnings=run.warnings)
    return ALL_DONE


def _read_crop(text: str | None) -> tuple[int, int] | None:
    try:
        return read_size(text)
    except ArgumentError as cause:
        raise ArgumentError(str(cause).replace("--size", "--crop")) from None
