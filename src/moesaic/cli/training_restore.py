"""The command `train restore`."""

# Annotations are real here, not postponed: typer evaluates them.
from functools import partial
from typing import Annotated

import typer

from moesaic.cli.endings import ALL_DONE, INTERRUPTED, ending
from moesaic.cli.options import Quiet
from moesaic.cli.training_run import (
    AsJson,
    Average,
    Clip,
    Data,
    Device,
    HeldOut,
    Minutes,
    Piece,
    Precision,
    Rate,
    Resume,
    RunFolder,
    Seed,
    Shrink,
    Start,
    Steps,
    ValidateEvery,
    WarmUp,
    WeightDecay,
    read_options,
    read_shares,
    tell,
    watched,
)
from moesaic.errors import ArgumentError


@ending
def restore(
    data: Data,
    output: RunFolder,
    network: Annotated[str, typer.Option(help="A restoration network of `moesaic models`.")] = "moce_lite",
    options: Annotated[
        str, typer.Option(metavar="JSON", help='Of that network, such as {"width": 40}.', show_default="its own")
    ] = "{}",
    start: Start = None,
    mix: Annotated[
        str | None,
        typer.Option(metavar="NAME=SHARE,...", help="Kinds of damage, such as noise=2,jpeg=1.", show_default="all"),
    ] = None,
    steps: Steps = None,
    minutes: Minutes = None,
    piece: Piece = None,
    crop: Annotated[int, typer.Option(min=8, help="Side of what a step sees, px.")] = 96,
    late_crop: Annotated[
        int | None, typer.Option(min=8, help="Side in the last part of the run, px.", show_default="as before")
    ] = None,
    late_share: Annotated[float, typer.Option(min=0, max=1, help="That part, as a share of the steps.")] = 0.15,
    batch: Annotated[int, typer.Option(min=1, help="Crops in a step.")] = 16,
    grey: Annotated[float, typer.Option(min=0, max=1, help="Share of the crops that are grey.")] = 0.0,
    shrink: Shrink = 0.5,
    rate: Rate = 1e-3,
    warm_up: WarmUp = 200,
    weight_decay: WeightDecay = 1e-4,
    clip: Clip = 1.0,
    pixel_loss: Annotated[str, typer.Option(help="charbonnier, l1 or decibel.")] = "charbonnier",
    floor_begin: Annotated[
        float, typer.Option(min=0, help="Error below which decibel sees no gain at first; it falls to 3e-5.")
    ] = 3e-5,
    fourier: Annotated[float, typer.Option(min=0, help="Weight of the loss on frequencies.")] = 0.05,
    labels: Annotated[float, typer.Option(min=0, help="Weight of the loss on what is said to be there.")] = 0.02,
    cost: Annotated[float, typer.Option(min=0, help="Weight of the expected cost of the experts.")] = 0.0,
    explore: Annotated[float, typer.Option(min=0, max=1, help="Share of experts that are drawn, at first.")] = 1.0,
    explore_end: Annotated[float, typer.Option(min=0, max=1, help="And at the end.")] = 1.0,
    trials: Annotated[int, typer.Option(min=1, help="Crops that teach gates which learn last.")] = 6000,
    tolerance: Annotated[float, typer.Option(min=0, help="dB that their choice may lose for speed.")] = 0.05,
    average: Average = 0.999,
    precision: Precision = "auto",
    held_out: HeldOut = 0.02,
    validate_every: ValidateEvery = 2000,
    seed: Seed = 0,
    resume: Resume = True,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Train a network that undoes noise, blur, rain, haze, low light and more.

    On several GPUs: torchrun --nproc-per-node 4 -m moesaic train restore ...
    """
    if steps is None and minutes is None:
        raise ArgumentError("state --steps, or --minutes of the whole run: how long to train")
    shares, table = read_shares("--mix", mix, "noise=2,jpeg=1"), read_options(options, '{"width": 40}')
    from moesaic.restore.recipe import RestoreRecipe
    from moesaic.restore.train import train_restore
    from moesaic.training.parallel import leads

    recipe = RestoreRecipe(
        network=network,
        options=table,
        start=None if start is None else str(start),
        mix=shares,
        crop=crop,
        batch=batch,
        late_crop=late_crop,
        late_share=late_share,
        grey=grey,
        shrink=shrink,
        steps=steps,
        minutes=minutes,
        rate=rate,
        warm_up=warm_up,
        weight_decay=weight_decay,
        clip=clip,
        pixel_loss=pixel_loss,
        floor_begin=floor_begin,
        fourier=fourier,
        labels=labels,
        cost=cost,
        explore=explore,
        explore_end=explore_end,
        trials=trials,
        tolerance=tolerance,
        average=average,
        precision=precision,
        held_out=held_out,
        validate_every=validate_every,
        seed=seed,
    )
    begin = partial(train_restore, data, output, recipe, piece=piece, resume=resume, device=device)
    run = watched(lambda news: begin(progress=news), output, resume=resume, quiet=quiet or not leads())
    if run is None:
        return INTERRUPTED
    if leads():
        score = None if run.psnr is None else f"{run.psnr:.2f} dB on held-out pictures"
        figures = {"held_out_psnr": dict(run.scores)}
        tell(run, "restore", score=score, figures=figures, as_json=as_json, quiet=quiet)
    return ALL_DONE
