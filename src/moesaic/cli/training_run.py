"""What the commands of `train` share: options of every run, how a run is interrupted, and what is told at its end."""

# Annotations are real here, not postponed: typer evaluates them.
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar

import typer

from moesaic.cli.endings import one_line, say
from moesaic.cli.news import News
from moesaic.cli.options import positive
from moesaic.errors import ArgumentError

if TYPE_CHECKING:
    from moesaic.training.progress import ProgressCallback

RunFolder = Annotated[str, typer.Option("--output", "-o", metavar="RUN", help="Folder of the run.", show_default=False)]
Data = Annotated[
    Path,
    typer.Option(
        metavar="FOLDER|LIST",
        help="Clean pictures: a folder, or a text file with a path in each line, relative to the file.",
        show_default=False,
    ),
]
Start = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Weights of that network to begin from.", show_default=False)
]
Steps = Annotated[int | None, typer.Option(min=1, help="Of the whole run; as many as fit into --minutes without it.")]
Minutes = Annotated[
    float | None, positive("Of the whole run: the speed is measured once, and steps are planned.", "MINUTES")
]
Piece = Annotated[float | None, positive("Stop after so much time; the same command goes on.", "MINUTES")]
Shrink = Annotated[float, typer.Option(min=0, max=1, help="Chance of a crop at half its picture's size.")]
WarmUp = Annotated[int, typer.Option(min=0, help="Steps in which the learning rate rises.")]
Clip = Annotated[float, typer.Option(min=0, help="Largest norm of the gradient.")]
Average = Annotated[float, typer.Option(min=0, max=1, help="Decay of the averaged weights.")]
HeldOut = Annotated[float, typer.Option(min=0, max=1, help="Share of the pictures that is only tested on.")]
ValidateEvery = Annotated[int, typer.Option(min=1, help="Steps between two tests.")]
Rate = Annotated[float, typer.Option(min=0, help="Learning rate.")]
WeightDecay = Annotated[float, typer.Option(min=0, help="Of kernels; biases and norms have none.")]
Precision = Annotated[str, typer.Option(help="auto, float32 or bfloat16; auto is bfloat16 on CUDA.")]
Seed = Annotated[int, typer.Option(min=0, help="Same seed, machine and threads: same weights.")]
Resume = Annotated[bool, typer.Option("--resume/--fresh", help="Go on with the run in the folder, or replace it.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else.")]


def read_options(text: str, example: str) -> dict[str, Any]:
    """The options of a network, from `--options`.

    Raises:
        ArgumentError: it is no JSON object.
    """
    try:
        table = json.loads(text)
    except (ValueError, RecursionError):
        table = None
    if not isinstance(table, dict):
        raise ArgumentError(f"--options {text!r} is no JSON object; write one such as {example}")
    return table


def read_shares(option: str, text: str | None, example: str) -> dict[str, float] | None:
    """Names and their shares; None for None.

    Raises:
        ArgumentError: it is no such list, or states a name twice.
    """
    if text is None:
        return None
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, _, share = part.partition("=")
        if name.strip() in shares:
            raise ArgumentError(f"{option} {text!r} states {name.strip()!r} twice")
        try:
            shares[name.strip()] = float(share)
        except ValueError:
            raise ArgumentError(f"{option} {text!r} is no list of shares; write one such as {example}") from None
    return shares


class Ended(Protocol):
    """How a call of a task's training ended."""

    @property
    def out(self) -> Path:
        """The folder of the run."""

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""

    @property
    def step(self) -> int:
        """Steps done."""

    @property
    def steps(self) -> int:
        """Steps of the whole run."""

    @property
    def seconds(self) -> float:
        """Of this call."""

    @property
    def weights(self) -> Path | None:
        """The file, once finished."""


_Run = TypeVar("_Run", bound=Ended)


def watched(begin: "Callable[[ProgressCallback], _Run]", folder: str, *, resume: bool, quiet: bool) -> _Run | None:
    """The run that `begin` makes, with its progress shown; None where Ctrl-C stopped it behind a checkpoint."""
    try:
        with News(quiet=quiet) as news:
            return begin(news.progress)
    except KeyboardInterrupt:
        if not (Path(folder) / "checkpoint.pt").is_file():
            raise
        say(f"interrupted; the same command{'' if resume else ' without --fresh'} goes on from the last checkpoint")
        return None


def tell(
    run: Ended,
    task: str,
    *,
    score: str | None,
    figures: Mapping[str, Any],
    as_json: bool,
    quiet: bool,
    warnings: tuple[str, ...] | None = None,
) -> None:
    """Print how a run ended: one JSON object, or a line, or nothing.

    Args:
        run: the run.
        task: its command.
        score: what it reached, in words, or None.
        figures: what the object has of this task alone.
        as_json: whether it is the object.
        quiet: whether nothing is to be printed but that.
        warnings: of a task that warns.
    """
    if as_json:
        told: dict[str, Any] = {
            "verb": "train",
            "task": task,
            "status": "finished" if run.finished else "stopped",
            "output": str(run.out),
            "weights": None if run.weights is None else str(run.weights),
            "step": run.step,
            "steps": run.steps,
            **figures,
            "seconds": round(run.seconds, 3),
        }
        typer.echo(json.dumps(told if warnings is None else {**told, "warnings": list(warnings)}, allow_nan=False))
    elif not quiet:
        reached = "" if score is None else f", {score}"
        place = one_line(str(run.weights or run.out))
        rest = "finished" if run.finished else "stopped; the same command goes on"
        bad = one_line("".join(f"; {warning}" for warning in warnings or ()))
        typer.echo(f"{place}: step {run.step:,} of {run.steps:,}{reached}, {run.seconds:.0f} s, {rest}{bad}")
