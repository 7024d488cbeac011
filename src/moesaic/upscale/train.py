"""The training of an upscaler: in one call or in pieces, with the same result."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moesaic.errors import ArgumentError
from moesaic.training.on_pictures import Task, Trained, train_on_pictures
from moesaic.training.progress import ProgressCallback
from moesaic.upscale.recipe import UpscaleRecipe
from moesaic.upscale.run import Run
from moesaic.values import is_a

if TYPE_CHECKING:
    import os

    import torch

    from moesaic.training.bank import Bank
    from moesaic.training.parallel import Team
    from moesaic.upscale.scores import Estimator


def train_upscale(
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    recipe: UpscaleRecipe,
    *,
    estimator: Estimator | None = None,
    piece: float | None = None,
    resume: bool = True,
    device: str | torch.device = "auto",
    progress: ProgressCallback | None = None,
) -> Trained:
    """Train a network that enlarges; see `moesaic.training.on_pictures.train_on_pictures` for all but `estimator`.

    Args:
        data: a folder of clean pictures, or a text file that lists some.
        out: folder of the run; made when missing.
        recipe: everything that defines the run.
        estimator: what tells a network with ranks how degraded a picture is; the shipped one unless given.
        piece: minutes after which this call stops, after one step at the least; the run's end when None.
        resume: go on with a run that `out` holds; False starts anew and replaces it.
        device: "auto", "cpu", "cuda"...
        progress: told where the run stands, after each step.

    Raises:
        ArgumentError: neither steps nor minutes, scales that the network does not know, or a folder that cannot be
            written to.
        PictureError: no picture is there that can be read and is large enough.
        TrainingError: the loss or the weights stopped being numbers, `out` holds a run of another recipe, or another
            run is training there.
        ModelError: the weights to start from cannot be read or do not fit.
        LimitError: there is not enough memory for the pictures, the network or a step.
    """
    if not is_a(recipe, UpscaleRecipe):
        raise ArgumentError(f"recipe is an UpscaleRecipe, not {type(recipe).__name__}")
    if recipe.options.get("ranks") is not None and estimator is None:
        from moesaic.upscale.estimators import make_estimator
        from moesaic.upscale.fixed_scores import Oracle

        estimator = Oracle() if recipe.told == "oracle" else make_estimator()

    def run(recipe: UpscaleRecipe, train: Bank, val: Bank | None, team: Team, samples: Path | None) -> Run:
        return Run(recipe, train, val, team, samples, estimator)

    task = Task(run=run, config=partial(_config, estimator))
    return train_on_pictures(task, data, out, recipe, piece=piece, resume=resume, device=device, progress=progress)


def _config(estimator: Estimator | None, recipe: UpscaleRecipe) -> dict[str, Any]:  # noqa: ARG001 - a task's form
    return {} if estimator is None else {"estimator": estimator.identity}
