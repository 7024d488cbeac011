"""The training of a restoration network: in one call or in pieces, with the same result."""

from __future__ import annotations

import json
import math
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from moesaic.errors import ArgumentError, ModelError, TrainingError
from moesaic.files import atomic_write, name_of
from moesaic.memory import within_memory
from moesaic.restore.build import Parts, known_parts
from moesaic.restore.finish import dearest, steps_left
from moesaic.restore.recipe import RestoreRecipe
from moesaic.restore.run import Run, learned, scores_of
from moesaic.restore.validation import mean_psnr
from moesaic.training.bank import Bank, held_out, list_pictures, read_bank
from moesaic.training.checkpoint import Checkpoints, check_same, remove_files
from moesaic.training.lock import alone_in, run_folder
from moesaic.training.log import Log, Silence
from moesaic.training.loop import checked_state, go_on, run_steps
from moesaic.training.parallel import Team, team_on
from moesaic.training.plan import seconds_of_a_step
from moesaic.training.progress import Pace, ProgressCallback
from moesaic.values import is_a, is_number
from moesaic.weights_file import read_card, write_weights

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

SAVE_EVERY = 60.0  # s between checkpoints; there is one at the end of the call as well


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreRun:
    """How a call of `train_restore` ended."""

    out: Path
    finished: bool  # else call again to go on
    step: int
    steps: int
    scores: Mapping[str, float]  # PSNR of the last validation, dB, by sort of damage
    seconds: float  # of this call
    weights: Path | None  # once finished

    @property
    def psnr(self) -> float | None:
        """The mean over the sorts of the last validation, dB."""
        return mean_psnr(self.scores)


def train_restore(
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    recipe: RestoreRecipe,
    *,
    piece: float | None = None,
    resume: bool = True,
    device: str | torch.device = "auto",
    progress: ProgressCallback | None = None,
    parts: Parts | None = None,
) -> RestoreRun:
    """Train a network that undoes damage, in one call or in pieces, by one process or as many as torchrun starts.

    The folder `out` gets `recipe.json`, `log.jsonl`, `samples/`, `checkpoint.pt` (and the one before it), and at the
    end the averaged weights, `model.safetensors`, with their card. A run that was interrupted at any moment, or
    stopped by `piece`, goes on when the call is repeated, and ends with the same weights to the bit as one that was
    not, on one machine with one number of threads and of processes.

    Args:
        data: a folder of clean pictures, or a text file that lists some; see `moesaic.training.bank.list_pictures`.
        out: folder of the run; made when missing.
        recipe: everything that defines the run. It states `steps`, or `minutes` of the whole run, from which steps are
            planned once.
        piece: minutes after which this call stops at the next step; the run's end when None.
        resume: go on with a run that `out` holds; False starts anew and replaces it.
        device: "auto", "cpu", "cuda"...
        progress: told where the run stands, after each step.
        parts: other networks and damage than moesaic's own.

    Raises:
        ArgumentError: neither steps nor minutes, crops that the network does not take, or a folder that cannot be
            written to.
        PictureError: no picture is there that can be read and is large enough.
        TrainingError: the loss or the weights stopped being numbers, `out` holds a run of another recipe, or another
            run is training there.
        ModelError: the weights to start from cannot be read or do not fit.
        LimitError: there is not enough memory for the pictures, the network or a step.
    """
    if not is_a(recipe, RestoreRecipe):
        raise ArgumentError(f"recipe is a RestoreRecipe, not {type(recipe).__name__}")
    if piece is not None and not (is_number(piece) and 0 < piece < math.inf):
        raise ArgumentError(f"piece {piece!r} must be a number of minutes above 0")
    if recipe.steps is None and recipe.minutes is None:
        raise ArgumentError("a run needs steps in its recipe, or minutes to plan them from")
    pace = Pace(piece, 0)
    folder = run_folder(out)
    files = list_pictures(data)
    needs = (
        f"steps of {recipe.batch} crops of {recipe.largest_crop} px through {recipe.network}, with all pictures at "
        "hand; lower batch or crop"
    )
    with team_on(device) as team:
        generators = [team.device] if team.device.type == "cuda" else []
        alone = alone_in(folder) if team.leads else nullcontext()
        with alone, torch.random.fork_rng(devices=generators), within_memory(needs):
            bank = read_bank(files, least=recipe.largest_crop)
            data_name = Path(name_of(Path(data))).stem
            return _train(bank, data_name, folder, recipe, pace, resume, team, progress, parts or known_parts())


def _train(
    bank: Bank,
    data_name: str,
    folder: Path,
    recipe: RestoreRecipe,
    pace: Pace,
    resume: bool,
    team: Team,
    progress: ProgressCallback | None,
    parts: Parts,
) -> RestoreRun:
    """`train_restore` with all that it reads, alone in its folder."""
    checkpoints = Checkpoints(folder)
    team.wait()  # the first process has made the folder
    if team.leads:
        checkpoints.tidy()
    state = checked_state(checkpoints.load(team.device), folder, "steps") if resume else None
    train, val = bank.split(held_out(bank.names, recipe.held_out))
    steps = recipe.steps
    if steps is None and state is not None:
        steps = int(state["config"]["steps"])
    if steps is None:
        steps = _steps_that_fit(recipe, train, val, parts, team)
    config = _config(replace(recipe, steps=steps), bank, data_name, val, parts, team)
    if state is not None:
        check_same(state["config"], config, folder)
    run = Run(replace(recipe, steps=steps), train, val, parts, team, folder / "samples")
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
        weights = folder / "model.safetensors" if run.finished else None
        if weights is not None and team.leads:
            kept = _finished(weights, config)
            if kept is None:
                write_weights(weights, run.finish(log, pace), run.card(name_of(folder), config), force=True)
            else:
                run.scores = kept
        team.wait()  # the first process has finished
    finally:
        log.close()
    return RestoreRun(
        out=folder,
        finished=run.finished,
        step=run.step,
        steps=run.steps,
        scores=dict(run.scores),
        seconds=pace.seconds,
        weights=weights,
    )


def _finished(weights: Path, config: Mapping[str, Any]) -> dict[str, float] | None:
    """The scores of the weights that an earlier call has left, or None where there are none of this run."""
    try:
        card = read_card(weights)
    except ModelError:
        return None
    return scores_of(card) if dict(card.recipe) == json.loads(json.dumps(config)) else None


def _config(
    recipe: RestoreRecipe, bank: Bank, data_name: str, val: Bank | None, parts: Parts, team: Team
) -> dict[str, Any]:
    """What a checkpoint must agree with: the recipe, the data, and the weights it began from by their hash."""
    config = recipe.to_json()
    if recipe.start is not None:
        config["start"] = {"file": Path(recipe.start).name, "sha256": read_card(recipe.start).sha256}
    config["mix"] = dict(parts.mix if recipe.mix is None else recipe.mix)
    config["processes"] = team.size
    config["data"] = {
        "name": data_name,
        "pictures": len(bank),
        "held_out": 0 if val is None else len(val),
        "hash": bank.fingerprint(),
    }
    return config


def _steps_that_fit(recipe: RestoreRecipe, train: Bank, val: Bank | None, parts: Parts, team: Team) -> int:
    """How many steps the recipe's minutes allow, measured on steps that are thrown away."""
    probe = Run(replace(recipe, steps=10**6), train, val, parts, team)
    try:
        step = seconds_of_a_step(probe.take_step, team.device)
        if recipe.late_crop is not None:
            probe.step = probe.steps - 10**3
            step += recipe.late_share * (seconds_of_a_step(probe.take_step, team.device) - step)
    except FloatingPointError as cause:
        raise TrainingError(f"{cause} within the first steps; start with a lower rate than {recipe.rate}") from None
    if probe.validation is not None:
        began = Pace(None, 0)
        probe.validation.scores(probe.model, recipe.precision, dearest)
        step += began.seconds / recipe.validate_every
    seconds = 60 * (recipe.minutes or 0)
    return int(team.agree(steps_left(probe.model, recipe, 0.97 * seconds / step)))
