"""The training of a predictor: in one call or in pieces, with the same result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moesaic.errors import ArgumentError
from moesaic.predict.recipe import PredictRecipe
from moesaic.predict.run import Run
from moesaic.training.on_pictures import Task, Trained, train_on_pictures
from moesaic.values import is_a

if TYPE_CHECKING:
    import os

    import torch

    from moesaic.training.progress import ProgressCallback


def train_predict(
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    recipe: PredictRecipe,
    *,
    piece: float | None = None,
    resume: bool = True,
    device: str | torch.device = "cpu",
    progress: ProgressCallback | None = None,
) -> Trained:
    """Train a network that predicts mixtures; see `moesaic.training.on_pictures.train_on_pictures`.

    Args:
        data: a folder of clean pictures, or a text file that lists some.
        out: folder of the run; made when missing.
        recipe: everything that defines the run.
        piece: minutes after which this call stops, after one step at the least; the run's end when None.
        resume: go on with a run that `out` holds; False starts anew and replaces it.
        device: the CPU, on which all stages are computed.
        progress: told where the run stands, after each step.

    Raises:
        ArgumentError: neither steps nor minutes, a device other than the CPU, or a folder that
            cannot be written to.
        PictureError: no picture is there that can be read and is large enough.
        TrainingError: the loss or the weights stopped being numbers, `out` holds a run of another recipe, or another
            run is training there.
        ModelError: the weights to start from cannot be read or do not fit.
        LimitError: there is not enough memory for the pictures, the network or a step.
    """
    if not is_a(recipe, PredictRecipe):
        raise ArgumentError(f"recipe is a PredictRecipe, not {type(recipe).__name__}")
    task = Task(run=Run, seconds=_seconds)
    return train_on_pictures(task, data, out, recipe, piece=piece, resume=resume, device=device, progress=progress)


def _seconds(probe: Run, step: float) -> float:
    """Of a step of the whole run: a probe's has as many stages as its first steps have."""
    most, rising = len(probe.recipe.shares), probe.recipe.unlock
    mean = rising * (most + 1) / 2 + (1.0 - rising) * most
    return step * mean / probe.unlocked
