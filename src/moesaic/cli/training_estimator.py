"""The command `train estimator`."""

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
def estimator(
    data: Data,
    output: RunFolder,
    network: Annotated[str, typer.Option(help="An estimator of `moesaic models`.")] = "severity_net",
    options: Annotated[
        str, typer.Option(metavar="JSON", help='Of that network, such as {"hidden": 32}.', show_default="its own")
    ] = "{}",
    start: Start = None,
    mix: Annotated[
        str, typer.Option(metavar="NAME=SHARE,...", help="Sorts of inputs: wild is the second-order chain.")
    ] = "wild=.4,noise=.15,blur=.12,jpeg=.18,resolution=.05,clean=.1",
    steps: Steps = None,
    minutes: Minutes = None,
    piece: Piece = None,
    crop: Annotated[int, typer.Option(min=16, help="Side of what a step sees, px; clean crops are up to 4x.")] = 80,
    batch: Annotated[int, typer.Option(min=2, help="Crops in a step.")] = 32,
    shrink: Shrink = 0.5,
    rate: Rate = 2e-3,
    warm_up: WarmUp = 100,
    weight_decay: WeightDecay = 1e-2,
    clip: Clip = 1.0,
    order: Annotated[float, typer.Option(min=0, help="Weight of the loss on the order of pairs.")] = 0.3,
    average: Average = 0.99,
    precision: Precision = "float32",
    held_out: HeldOut = 0.06,
    validate_every: ValidateEvery = 500,
    seed: Seed = 0,
    resume: Resume = True,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Train a network that tells how degraded pictures are: noise, blur, JPEG, resolution, and a severity."""
    if steps is None and minutes is None:
        raise ArgumentError("state --steps, or --minutes of the whole run: how long to train")
    shares = read_shares("--mix", mix, "wild=2,noise=1") or {}
    table = read_options(options, '{"hidden": 32}')
    from moesaic.training.parallel import leads
    from moesaic.upscale.estimator_recipe import EstimatorRecipe
    from moesaic.upscale.estimator_train import train_estimator

    recipe = EstimatorRecipe(
        network=network,
        options=table,
        start=None if start is None else str(start),
        mix=shares,
        crop=crop,
        batch=batch,
        shrink=shrink,
        steps=steps,
        minutes=minutes,
        rate=rate,
        warm_up=warm_up,
        weight_decay=weight_decay,
        clip=clip,
        order=order,
        average=average,
        precision=precision,
        held_out=held_out,
        validate_every=validate_every,
        seed=seed,
    )
    begin = partial(train_estimator, data, output, recipe, piece=piece, resume=resume, device=device)
    run = watched(lambda news: begin(progress=news), output, resume=resume, quiet=quiet or not leads())
    if run is None:
        return INTERRUPTED
    if leads():
        told = ", ".join(f"{name} {value:.2f}" for name, value in run.scores.items())
        score = f"rank correlations on held-out pictures {told}" if told else None
        figures = {"held_out_rank_correlation": dict(run.scores)}
        tell(run, "estimator", score=score, figures=figures, as_json=as_json, quiet=quiet)
    return ALL_DONE
