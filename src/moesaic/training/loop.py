"""The loop around a run's steps: checkpoints now and then, a log, an end by steps or by time, a stop that says why."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from moesaic.errors import TrainingError

if TYPE_CHECKING:
    from pathlib import Path

    from moesaic.training.checkpoint import Checkpoints
    from moesaic.training.log import Log, Silence
    from moesaic.training.progress import Pace, Progress, ProgressCallback


class Trainable(Protocol):
    """What the loop needs of a run; every draw of a step follows from the seed and the step's number."""

    step: int  # steps done
    steps: int  # of the whole run

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""

    def take_step(self) -> object:
        """One step, which counts `step` up."""

    def report(self, log: Log | Silence, pace: Pace) -> None:
        """After a step: write into the log what is due."""

    def check_finite(self) -> None:
        """Raises FloatingPointError where a weight is no number."""

    def progress(self, pace: Pace) -> Progress:
        """Where the run stands."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""


def run_steps(
    run: Trainable,
    config: Mapping[str, Any],
    checkpoints: Checkpoints,
    log: Log | Silence,
    pace: Pace,
    progress: ProgressCallback | None,
    *,
    parameters: int,
    save_every: float,
    advice: str,
    over: Callable[[], bool] | None = None,
    saves: bool = True,
) -> None:
    """Steps until the end of the run or of this call's minutes.

    Args:
        run: what takes the steps.
        config: what a checkpoint must agree with.
        checkpoints: of the run's folder.
        log: of the run.
        pace: of this call.
        progress: told where the run stands, after each step.
        parameters: how many numbers are learned, for the log.
        save_every: s between checkpoints; there is one at the end of the call as well.
        advice: what to change when the loss stops being a number.
        over: whether this call's time is up, asked after each step; what the pace says unless given.
        saves: whether this process writes checkpoints.

    Raises:
        TrainingError: the loss, its gradient or a weight stopped being a number.
    """
    over = over or (lambda: pace.over)
    log.write("resumed" if run.step else "started", run.step, steps=run.steps, parameters=parameters)

    def save() -> None:
        run.check_finite()
        if saves:
            checkpoints.save({"config": dict(config), "run": run.state_dict()})

    if run.step == 0 and saves:  # the number of steps is settled from here on, also if it was measured
        checkpoints.save({"config": dict(config), "run": run.state_dict()})
    saved, kept = time.monotonic(), run.step
    try:
        while not run.finished:
            run.take_step()
            run.report(log, pace)
            if time.monotonic() - saved >= save_every:
                save()
                saved, kept = time.monotonic(), run.step
            if progress is not None:
                progress(run.progress(pace))
            if over():  # asked only now: however short a piece, each goes on by a step
                break
        if run.step != kept:
            save()
    except FloatingPointError as cause:
        log.write("diverged", run.step, seconds=round(pace.seconds, 2))
        raise TrainingError(
            f"{checkpoints.last.parent}: {cause} at step {run.step} of {run.steps}; the checkpoint of step {kept} "
            f"is kept; {advice}"
        ) from None
    log.write("finished" if run.finished else "stopped", run.step, seconds=round(pace.seconds, 2))


def checked_state(state: dict[str, Any] | None, folder: Path, settled: str) -> dict[str, Any] | None:
    """A checkpoint that has the parts of one.

    Args:
        state: as read, or None.
        folder: of the run, for the message.
        settled: the name of the number in its config that says how long the run is, such as "steps".

    Raises:
        TrainingError: it has not.
    """
    if state is None:
        return None
    config, run = state.get("config"), state.get("run")
    if not (isinstance(config, dict) and isinstance(config.get(settled), int) and isinstance(run, dict)):
        raise TrainingError(f"{folder}: the checkpoint is none of this task; pass resume=False (--fresh) to start anew")
    return state


def go_on(run: Trainable, state: Mapping[str, Any], folder: Path) -> None:
    """Go on from a checkpoint.

    Raises:
        TrainingError: it lacks something, or holds what does not fit.
    """
    try:
        run.load_state_dict(state["run"])
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as cause:
        reason = " ".join(str(cause).split())
        raise TrainingError(
            f"{folder}: the checkpoint does not fit this version of moesaic ({type(cause).__name__}: {reason[:200]}); "
            "pass resume=False (--fresh) to start anew"
        ) from cause
