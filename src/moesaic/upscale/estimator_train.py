"""The training of an estimator of severity: in one call or in pieces, with the same result."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from moesaic.errors import ArgumentError
from moesaic.training.on_pictures import Task, Trained, train_on_pictures
from moesaic.training.progress import ProgressCallback
from moesaic.upscale.estimator_recipe import EstimatorRecipe
from moesaic.upscale.estimator_run import Run, scores_in
from moesaic.values import is_a
from moesaic.weights_file import read_card

if TYPE_CHECKING:
    import os

    import torch


def train_estimator(
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    recipe: EstimatorRecipe,
    *,
    piece: float | None = None,
    resume: bool = True,
    device: str | torch.device = "auto",
    progress: ProgressCallback | None = None,
) -> Trained:
    """Train a network that tells how degraded pictures are; see `moesaic.training.on_pictures.train_on_pictures`.

    Clean pictures are shrunk by 1 to 4 and damaged in known ways; the network learns their true scores. The scores of
    the run that comes back are rank correlations with truth on held-out pictures, by sort of damage.

    Args:
        data: a folder of clean pictures, or a text file that lists some.
        out: folder of the run; made when missing.
        recipe: everything that defines the run.
        piece: minutes after which this call stops, after one step at the least; the run's end when None.
        resume: go on with a run that `out` holds; False starts anew and replaces it.
        device: "auto", "cpu", "cuda"...
        progress: told where the run stands, after each step.

    Raises:
        ArgumentError: neither steps nor minutes, or a folder that cannot be written to.
        PictureError: no picture is there that can be read and is large enough.
        TrainingError: the loss or the weights stopped being numbers, `out` holds a run of another recipe, or another
            run is training there.
        ModelError: the weights to start from cannot be read or do not fit.
        LimitError: there is not enough memory for the pictures, the network or a step.
    """
    if not is_a(recipe, EstimatorRecipe):
        raise ArgumentError(f"recipe is an EstimatorRecipe, not {type(recipe).__name__}")
    task = Task(run=Run)
    ended = train_on_pictures(task, data, out, recipe, piece=piece, resume=resume, device=device, progress=progress)
    if ended.weights is None:
        return ended
    return replace(ended, scores=scores_in(read_card(ended.weights)))
