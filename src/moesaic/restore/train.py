"""The training of a restoration network: in one call or in pieces, with the same result."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moesaic.errors import ArgumentError
from moesaic.restore.build import Parts, known_parts
from moesaic.restore.finish import dearest, steps_left
from moesaic.restore.recipe import RestoreRecipe
from moesaic.restore.run import Run
from moesaic.training.on_pictures import Task, Trained, train_on_pictures
from moesaic.training.plan import seconds_of_a_step
from moesaic.training.progress import Pace, ProgressCallback
from moesaic.values import is_a

if TYPE_CHECKING:
    import os

    import torch

    from moesaic.training.bank import Bank
    from moesaic.training.parallel import Team


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
) -> Trained:
    """Train a network that undoes damage; see `moesaic.training.on_pictures.train_on_pictures` for all but `parts`.

    Args:
        data: a folder of clean pictures, or a text file that lists some.
        out: folder of the run; made when missing.
        recipe: everything that defines the run.
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
    parts = parts or known_parts()

    def run(recipe: RestoreRecipe, train: Bank, val: Bank | None, team: Team, samples: Path | None) -> Run:
        return Run(recipe, train, val, parts, team, samples)

    def fitting(probe: Run, recipe: RestoreRecipe, steps: float) -> int:
        return steps_left(probe.model, recipe, steps)

    task = Task(run=run, config=partial(_config, parts), seconds=_seconds, fitting=fitting)
    return train_on_pictures(task, data, out, recipe, piece=piece, resume=resume, device=device, progress=progress)


def _config(parts: Parts, recipe: RestoreRecipe) -> dict[str, Any]:
    return {"mix": dict(parts.mix if recipe.mix is None else recipe.mix)}


def _seconds(probe: Run, step: float) -> float:
    """The time of a step with its share of the late ones and of validations."""
    recipe = probe.recipe
    if recipe.late_crop is not None:
        probe.step = probe.steps - 10**3
        step += recipe.late_share * (seconds_of_a_step(probe.take_step, probe.device) - step)
    if probe.validation is not None:
        began = Pace(None, 0)
        probe.validation.scores(probe.model, recipe.precision, dearest)
        step += began.seconds / recipe.validate_every
    return step
