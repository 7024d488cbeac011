"""A task that learns from crops of pictures, trained in one call or in pieces, with the same result."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import torch

from moesaic.errors import ArgumentError, TrainingError
from moesaic.files import atomic_write, name_of
from moesaic.memory import within_memory
from moesaic.training.bank import Bank, held_out, list_pictures, read_bank
from moesaic.training.checkpoint import Checkpoints, check_same, remove_files
from moesaic.training.finished import finished_card, is_of, refuse_others, settled_length
from moesaic.training.lock import alone_in, run_folder
from moesaic.training.log import Log, Silence
from moesaic.training.loop import checked_state, go_on, run_steps
from moesaic.training.optimiser import learned
from moesaic.training.parallel import Team, team_on
from moesaic.training.picture_run import PictureRecipe, PictureRun, read_scores
from moesaic.training.plan import seconds_of_a_step
from moesaic.training.progress import Pace, ProgressCallback
from moesaic.training.psnr import mean_psnr
from moesaic.values import is_number
from moesaic.weights_file import read_card, write_weights

if TYPE_CHECKING:
    import os

SAVE_EVERY = 60.0  # s between checkpoints; there is one at the end of the call as well
_MARGIN = 0.97  # of the minutes, for what is neither step nor validation

Recipe = TypeVar("Recipe", bound=PictureRecipe)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """How a call of a task's training ended."""

    out: Path
    finished: bool  # else call again to go on
    step: int
    steps: int
    scores: Mapping[str, float]  # of the last validation, by sort of damage; PSNR in dB unless the task says otherwise
    seconds: float  # of this call
    weights: Path | None  # once finished

    @property
    def psnr(self) -> float | None:
        """The mean over the sorts of the last validation, dB."""
        return mean_psnr(self.scores)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(Generic[Recipe]):
    """What one task's training is made of.

    Args:
        run: makes a run from the recipe with its steps, the pictures to learn from, those that are held out or None,
            the team, and the folder for sample pictures or None.
        config: of the recipe: what a checkpoint must agree with beside the recipe's own values; nothing unless given.
        seconds: of a probing run and the time of one step: the time of a step with all that comes now and then, which
            is nothing unless given.
        fitting: of a probing run, the recipe and the number of steps that the whole time would hold: how many to plan,
            all of them unless given.
    """

    run: Callable[[Recipe, Bank, Bank | None, Team, Path | None], PictureRun]
    config: Callable[[Recipe], dict[str, Any]] = lambda _: {}
    seconds: Callable[[Any, float], float] = lambda _, step: step
    fitting: Callable[[Any, Recipe, float], int] = lambda _probe, _recipe, steps: max(1, int(steps))


def train_on_pictures(
    task: Task[Recipe],
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    recipe: Recipe,
    *,
    piece: float | None = None,
    resume: bool = True,
    device: str | torch.device = "auto",
    progress: ProgressCallback | None = None,
) -> Trained:
    """Train in one call or in pieces, by one process or as many as torchrun starts.

    The folder `out` gets `recipe.json`, `log.jsonl`, `samples/`, `checkpoint.pt` (and the one before it), and at the
    end the averaged weights, `model.safetensors`, with their card. A run that was interrupted at any moment, or
    stopped by `piece`, goes on when the call is repeated, and ends with the same weights to the bit as one that was
    not, on one machine with one number of threads and of processes. Finished weights without a checkpoint are never
    replaced unasked: those of the same run are left as they are, and others refused.

    Args:
        task: what is trained.
        data: a folder of clean pictures, or a text file that lists some; see `moesaic.training.bank.list_pictures`.
            What lies in `out` is left out.
        out: folder of the run; made when missing.
        recipe: everything that defines the run. It states `steps`, or `minutes` of the whole run, from which steps are
            planned once.
        piece: minutes after which this call stops, after one step at the least; the run's end when None.
        resume: go on with a run that `out` holds; False starts anew and replaces it.
        device: "auto", "cpu", "cuda"...
        progress: told where the run stands, after each step.

    Raises:
        ArgumentError: neither steps nor minutes, crops that the network does not take, or a folder that cannot be
            written to.
        PictureError: no picture is there that can be read and is large enough.
        TrainingError: the loss or the weights stopped being numbers, `out` holds a run of another recipe or
            finished weights without a checkpoint, or another run is training there.
        ModelError: the weights to start from cannot be read or do not fit.
        LimitError: there is not enough memory for the pictures, the network or a step.
    """
    if piece is not None and not (is_number(piece) and 0 < piece < math.inf):
        raise ArgumentError(f"piece {piece!r} must be a number of minutes above 0")
    if recipe.steps is None and recipe.minutes is None:
        raise ArgumentError("a run needs steps in its recipe, or minutes to plan them from")
    pace = Pace(piece, 0)
    folder = run_folder(out)
    files = list_pictures(data, leave_out=folder)
    needs = (
        f"steps of {recipe.batch} crops of {recipe.largest_crop} px through {recipe.network}, with all pictures at "
        "hand; lower batch or crop"
    )
    with team_on(device) as team:
        generators = [team.device] if team.device.type == "cuda" else []
        alone = alone_in(folder) if team.leads else nullcontext()
        with alone, torch.random.fork_rng(devices=generators), within_memory(needs):
            bank = read_bank(files, least=recipe.largest_crop)
            name = Path(name_of(Path(data))).stem
            return _train(task, bank, name, folder, recipe, pace, resume, team, progress)


def _train(
    task: Task[Recipe],
    bank: Bank,
    data_name: str,
    folder: Path,
    recipe: Recipe,
    pace: Pace,
    resume: bool,
    team: Team,
    progress: ProgressCallback | None,
) -> Trained:
    """`train_on_pictures` with all that it reads, alone in its folder."""
    checkpoints = Checkpoints(folder)
    team.wait()  # the first process has made the folder
    if team.leads:
        checkpoints.tidy()
    state = checked_state(checkpoints.load(team.device), folder, "steps") if resume else None
    train, val = bank.split(held_out(bank.names, recipe.held_out))
    steps = recipe.steps
    weights = folder / "model.safetensors"
    left = finished_card(weights) if resume and state is None else None
    if steps is None:
        steps = settled_length(left, "steps") if state is None else int(state["config"]["steps"])
    if steps is None:
        steps = _steps_that_fit(task, recipe, train, val, team)
    recipe = _with_steps(recipe, steps)
    config = _config(task, recipe, bank, data_name, val, team)
    if state is not None:
        check_same(state["config"], config, folder)
    elif left is not None and is_of(left, config):
        return _ended(folder, steps, steps, read_scores(left), pace)
    elif resume:
        refuse_others(folder, config, "steps")
    run = task.run(recipe, train, val, team, folder / "samples")
    if state is not None:
        go_on(run, state, folder)
    team.wait()  # all have read the checkpoint
    log: Log | Silence = Silence()
    if team.leads:
        if not resume:
            checkpoints.remove()
            remove_files(*(folder / name for name in ("log.jsonl", "model.safetensors", "model.json")))
            remove_files(*(folder / "samples").glob("step_*.png"))
        atomic_write(folder / "recipe.json", (json.dumps(config, indent=2) + "\n").encode(), force=True)
        log = Log(folder / "log.jsonl", step=run.step)
    try:
        run_steps(
            run,
            config,
            checkpoints,
            log,
            pace,
            progress if team.leads else None,
            parameters=learned(run.model),
            save_every=SAVE_EVERY,
            advice=f"start anew with a lower rate than {recipe.rate} or a longer warm_up than {recipe.warm_up}",
            over=lambda: bool(team.agree(float(pace.over))),
            saves=team.leads,
        )
        team.check_equal(run.model)
        if run.finished and team.leads:
            left = finished_card(weights)
            if left is None or not is_of(left, config):
                write_weights(weights, run.finish(log, pace), run.card(name_of(folder), config), force=True)
            else:
                run.scores = read_scores(left)
        team.wait()  # the first process has finished
    finally:
        log.close()
    return _ended(folder, run.step, run.steps, run.scores, pace)


def _ended(folder: Path, step: int, steps: int, scores: Mapping[str, float], pace: Pace) -> Trained:
    return Trained(
        out=folder,
        finished=step >= steps,
        step=step,
        steps=steps,
        scores=dict(scores),
        seconds=pace.seconds,
        weights=folder / "model.safetensors" if step >= steps else None,
    )


def _config(
    task: Task[Recipe], recipe: Recipe, bank: Bank, data_name: str, val: Bank | None, team: Team
) -> dict[str, Any]:
    """What a checkpoint must agree with: the recipe, the data, and the weights it began from by their hash."""
    config = recipe.to_json() | task.config(recipe)
    if recipe.start is not None:
        config["start"] = {"file": Path(recipe.start).name, "sha256": read_card(recipe.start).sha256}
    config["processes"] = team.size
    config["data"] = {
        "name": data_name,
        "pictures": len(bank),
        "held_out": 0 if val is None else len(val),
        "hash": bank.fingerprint(),
    }
    return config


def _with_steps(recipe: Recipe, steps: int) -> Recipe:
    return cast("Recipe", replace(cast("Any", recipe), steps=steps))


def _steps_that_fit(task: Task[Recipe], recipe: Recipe, train: Bank, val: Bank | None, team: Team) -> int:
    """How many steps the recipe's minutes allow, measured on steps that are thrown away."""
    probe = task.run(_with_steps(recipe, 10**6), train, val, team, None)
    try:
        step = task.seconds(probe, seconds_of_a_step(probe.take_step, team.device))
    except FloatingPointError as cause:
        raise TrainingError(f"{cause} within the first steps; start with a lower rate than {recipe.rate}") from None
    seconds = 60 * (recipe.minutes or 0)
    return int(team.agree(task.fitting(probe, recipe, _MARGIN * seconds / step)))
