"""The command `train predict`."""

# Annotations are real here, not postponed: typer evaluates them.
from functools import partial
from typing import Annotated

import typer

from moesaic.cli.endings import ALL_DONE, INTERRUPTED, ending
from moesaic.cli.options import Quiet, positive
from moesaic.cli.training_run import (
    AsJson,
    Average,
    Clip,
    Data,
    HeldOut,
    Minutes,
    Piece,
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
    tell,
    watched,
)
from moesaic.errors import ArgumentError


@ending
def predict(
    data: Data,
    output: RunFolder,
    network: Annotated[str, typer.Option(help="A predictor of `moesaic models`.")] = "mixture_predictor",
    options: Annotated[
        str, typer.Option(metavar="JSON", help='Of that network, such as {"hidden": 64}.', show_default="its own")
    ] = "{}",
    start: Start = None,
    stages: Annotated[int, typer.Option(min=1, max=64, help="How often the kernels move.")] = 8,
    unlock: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the run in which the number of stages rises to all.")
    ] = 0.1,
    together: Annotated[
        bool, typer.Option("--together/--alone", help="Whether what later stages draw teaches earlier ones, too.")
    ] = True,
    densest: Annotated[float, positive("Pixels for each kernel, at the least.", "PX")] = 15.0,
    sparsest: Annotated[float, positive("Pixels for each kernel, at the most.", "PX")] = 160.0,
    teacher: Annotated[str, typer.Option(help="render, or optimise: where steps of a fit lead.")] = "render",
    teacher_steps: Annotated[int, typer.Option(min=1, help="Of that fit.")] = 20,
    steps: Steps = None,
    minutes: Minutes = None,
    piece: Piece = None,
    crop: Annotated[int, typer.Option(min=32, help="Side of a crop, px.")] = 144,
    batch: Annotated[int, typer.Option(min=1, help="Crops in a step.")] = 2,
    shrink: Shrink = 0.5,
    rate: Rate = 2e-3,
    warm_up: WarmUp = 200,
    weight_decay: WeightDecay = 0.0,
    clip: Clip = 1.0,
    average: Average = 0.999,
    held_out: HeldOut = 0.02,
    validate_every: ValidateEvery = 1000,
    seed: Seed = 0,
    resume: Resume = True,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Train a network that predicts the mixture of a picture in a few stages; on the CPU."""
    if steps is None and minutes is None:
        raise ArgumentError("state --steps, or --minutes of the whole run: how long to train")
    table = read_options(options, '{"hidden": 64}')
    if "stages" in table:
        raise ArgumentError("--options: state the number of stages with --stages")
    from moesaic.predict.recipe import PredictRecipe
    from moesaic.predict.train import train_predict
    from moesaic.training.parallel import leads

    recipe = PredictRecipe(
        network=network,
        options={"stages": stages, **table},
        start=None if start is None else str(start),
        shares=(1.0,) * stages,
        unlock=unlock,
        together=together,
        densest=densest,
        sparsest=sparsest,
        teacher=teacher,
        teacher_steps=teacher_steps,
        crop=crop,
        batch=batch,
        shrink=shrink,
        steps=steps,
        minutes=minutes,
        rate=rate,
        warm_up=warm_up,
        weight_decay=weight_decay,
        clip=clip,
        average=average,
        held_out=held_out,
        validate_every=validate_every,
        seed=seed,
    )
    begin = partial(train_predict, data, output, recipe, piece=piece, resume=resume, device="cpu")
    run = watched(lambda news: begin(progress=news), output, resume=resume, quiet=quiet or not leads())
    if run is None:
        return INTERRUPTED
    if leads():
        last = {name: psnr for name, psnr in run.scores.items() if name.endswith(f"stage {stages}")}
        told = ", ".join(f"{name} {psnr:.2f} dB" for name, psnr in last.items())
        score = f"held-out pictures, {told}" if told else None
        tell(run, "predict", score=score, figures={"held_out_psnr": dict(run.scores)}, as_json=as_json, quiet=quiet)
    return ALL_DONE
