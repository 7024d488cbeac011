"""The command `train predict`."""

# Annotations are real here, not postponed: typer evaluates them.
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from moesaic.cli.endings import ALL_DONE, INTERRUPTED, ending
from moesaic.cli.options import Quiet, positive
from moesaic.cli.training_run import (
    AsJson,
    Rate,
    Resume,
    RunFolder,
    Seed,
    WeightDecay,
    read_options,
    tell,
    watched,
)
from moesaic.errors import ArgumentError


@ending
def predict(
    data: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER|LIST",
            help="Clean pictures: a folder, or a text file with a path in each line, relative to the file.",
            show_default=False,
        ),
    ],
    output: RunFolder,
    network: Annotated[str, typer.Option(help="A predictor of `moesaic models`.")] = "mixture_predictor",
    options: Annotated[
        str, typer.Option(metavar="JSON", help='Of that network, such as {"hidden": 64}.', show_default="its own")
    ] = "{}",
    start: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Weights of that network to begin from.", show_default=False)
    ] = None,
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
    steps: Annotated[
        int | None, typer.Option(min=1, help="Of the whole run; as many as fit into --minutes without it.")
    ] = None,
    minutes: Annotated[
        float | None, positive("Of the whole run: the speed is measured once, and steps are planned.", "MINUTES")
    ] = None,
    piece: Annotated[float | None, positive("Stop after so much time; the same command goes on.", "MINUTES")] = None,
    crop: Annotated[int, typer.Option(min=32, help="Side of a crop, px.")] = 144,
    batch: Annotated[int, typer.Option(min=1, help="Crops in a step.")] = 2,
    shrink: Annotated[float, typer.Option(min=0, max=1, help="Chance of a crop at half its picture's size.")] = 0.5,
    rate: Rate = 2e-3,
    warm_up: Annotated[int, typer.Option(min=0, help="Steps in which the learning rate rises.")] = 200,
    weight_decay: WeightDecay = 0.0,
    clip: Annotated[float, typer.Option(min=0, help="Largest norm of the gradient.")] = 1.0,
    average: Annotated[float, typer.Option(min=0, max=1, help="Decay of the averaged weights.")] = 0.999,
    held_out: Annotated[float, typer.Option(min=0, max=1, help="Share of the pictures that is only tested on.")] = 0.02,
    validate_every: Annotated[int, typer.Option(min=1, help="Steps between two tests.")] = 1000,
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
