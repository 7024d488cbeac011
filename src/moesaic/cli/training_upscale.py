"""The command `train upscale`."""

# Annotations are real here, not postponed: typer evaluates them.
from functools import partial
from pathlib import Path
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
def upscale(
    data: Data,
    output: RunFolder,
    network: Annotated[str, typer.Option(help="An upscaler of `moesaic models`.")] = "compact_upscaler",
    options: Annotated[
        str,
        typer.Option(
            metavar="JSON",
            help='Of that network, such as {"width": 48, "ranks": {"scores": 4}}; with ranks these alone are learned.',
            show_default="its own",
        ),
    ] = "{}",
    start: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Weights to begin from, with or without ranks.", show_default=False),
    ] = None,
    mix: Annotated[
        str, typer.Option(metavar="NAME=SHARE,...", help="Sorts of pairs: bicubic, mild, medium, severe, full.")
    ] = "bicubic=0.6,mild=0.4",
    scales: Annotated[str, typer.Option(metavar="SCALE=SHARE,...", help="Scales, and how often each.")] = "4=0.7,2=0.3",
    told: Annotated[
        str, typer.Option(help="What ranks are told of pictures: estimator, oracle, constant or shuffled.")
    ] = "estimator",
    balance: Annotated[str, typer.Option(help="Of the ranks' use: degradation, plain or none.")] = "degradation",
    balance_weight: Annotated[float, typer.Option(min=0, help="Its weight.")] = 0.01,
    steps: Steps = None,
    minutes: Minutes = None,
    piece: Piece = None,
    crop: Annotated[int, typer.Option(min=8, help="Side of what a step sees, px of the input.")] = 48,
    batch: Annotated[int, typer.Option(min=1, help="Crops in a step.")] = 16,
    shrink: Shrink = 0.5,
    rate: Rate = 1e-3,
    router_rate: Annotated[float, typer.Option(min=0, help="That of routers, times the rate.")] = 3.0,
    warm_up: WarmUp = 200,
    weight_decay: WeightDecay = 0.0,
    clip: Clip = 1.0,
    average: Average = 0.999,
    precision: Precision = "auto",
    held_out: HeldOut = 0.02,
    validate_every: ValidateEvery = 1000,
    seed: Seed = 0,
    resume: Resume = True,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Train a network that enlarges: first all of it on little damage, then its ranks on much.

    On several GPUs: torchrun --nproc-per-node 4 -m moesaic train upscale ...
    """
    if steps is None and minutes is None:
        raise ArgumentError("state --steps, or --minutes of the whole run: how long to train")
    sorts = read_shares("--mix", mix, "bicubic=1,full=2") or {}
    factors = read_shares("--scales", scales, "4=2,2=1") or {}
    table = read_options(options, '{"width": 48}')
    from moesaic.training.parallel import leads
    from moesaic.upscale.recipe import UpscaleRecipe
    from moesaic.upscale.train import train_upscale

    recipe = UpscaleRecipe.from_json(
        {
            "network": network,
            "options": table,
            "start": None if start is None else str(start),
            "mix": sorts,
            "scales": factors,
            "told": told,
            "balance": balance,
            "balance_weight": balance_weight,
            "crop": crop,
            "batch": batch,
            "shrink": shrink,
            "steps": steps,
            "minutes": minutes,
            "rate": rate,
            "router_rate": router_rate,
            "warm_up": warm_up,
            "weight_decay": weight_decay,
            "clip": clip,
            "average": average,
            "precision": precision,
            "held_out": held_out,
            "validate_every": validate_every,
            "seed": seed,
        }
    )
    begin = partial(train_upscale, data, output, recipe, piece=piece, resume=resume, device=device)
    run = watched(lambda news: begin(progress=news), output, resume=resume, quiet=quiet or not leads())
    if run is None:
        return INTERRUPTED
    if leads():
        score = None if run.psnr is None else f"{run.psnr:.2f} dB on held-out pictures"
        figures = {"held_out_psnr": dict(run.scores)}
        tell(run, "upscale", score=score, figures=figures, as_json=as_json, quiet=quiet)
    return ALL_DONE
