"""The verb `audit`: does routing help in a model, on labelled pictures, and against what?"""

# Annotations are real here, not postponed: typer evaluates them.
import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from moesaic.cli.audit_tables import as_tables
from moesaic.cli.endings import ending, one_line, say
from moesaic.cli.options import Force, Json, Quiet, read_size
from moesaic.cli.places import Job, refuse_clashes
from moesaic.cli.report import Figures, Report
from moesaic.cli.runs import run
from moesaic.errors import ArgumentError

if TYPE_CHECKING:
    from rich.progress import Progress
    from torch import nn

    from moesaic.segment.data import FolderData

_log = logging.getLogger(__name__)

_CONTROLS = "shuffled,uniform,random,position,forced"  # the library's STANDARD; a test holds the two equal


@ending
def audit(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A name from `moesaic models`, a weights file, a run.")],
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A folder of pictures and label maps.")],
    split: Annotated[str, typer.Option(help="Which part of the data.")] = "test",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="OUTPUT", help="A .json file.", show_default="MODEL.audit.json, beside the model"
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(metavar="WxH", help="Scale pictures and labels to it.", show_default="as the model was trained"),
    ] = None,
    pictures: Annotated[
        int | None, typer.Option(min=1, help="Use only so many, spread over the split.", show_default="all")
    ] = None,
    controls: Annotated[
        str, typer.Option(metavar="NAMES", help="What to replace the gate by; forced is each expert alone in turn.")
    ] = _CONTROLS,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=MODEL",
            help="A network trained apart to hold this one against; may be repeated.",
            show_default=False,
        ),
    ] = None,
    block: Annotated[
        int, typer.Option(min=1, help="Pictures in a row that are drawn together: frames of a video look alike.")
    ] = 1,
    resamples: Annotated[int, typer.Option(min=1, help="Draws of pictures behind each interval.")] = 2000,
    batch: Annotated[int, typer.Option(min=1, help="Pictures at once.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Of draws and controls.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Tell whether routing helps: scores of a model as it is and with its gate replaced, usage, and a verdict."""
    width_height = read_size(size)
    names = [name.strip() for name in controls.split(",") if name.strip()]
    others = _named(against or [])
    place = _beside(model) if output is None else output
    if place.suffix.lower() != ".json":
        raise ArgumentError(f"{place}: an audit is written as .json")
    job = Job(source=data, output=place)
    refuse_clashes([job], also=[Path(model), *map(Path, others.values())])
    # Its bar tells of PSNR; this verb has one of its own.
    report = Report("audit", 1, as_json=as_json, quiet=True, always=True, text=as_tables)

    def work(job: Job) -> Figures:
        from moesaic import __version__, zoo
        from moesaic.files import atomic_write
        from moesaic.segment.audit import audit_segmentation
        from moesaic.segment.data import FolderData
        from moesaic.training.device import pick_device
        from moesaic.weights_file import card_of

        where = str(pick_device(device))
        network = zoo.load_model(model, device=where)
        rivals = {name: zoo.load_model(file, device=where) for name, file in others.items()}
        card = card_of(network)
        folder = FolderData(data)
        for name, one in {model: network, **rivals}.items():
            _check_classes(name, one, folder)
        rows_columns = (width_height[1], width_height[0]) if width_height else (card.size if card else None)
        store = folder.read(split, rows_columns, limit=pictures)
        with _Steps(silent=quiet) as steps:
            found = audit_segmentation(
                network,
                store,
                len(folder.classes),
                batch=batch,
                controls=names,
                against=rivals,
                resamples=resamples,
                block=block,
                seed=seed,
                progress=steps.told,
            )
        figures: dict[str, Any] = {
            "version": __version__,
            "model": model,
            "sha256": card.sha256 if card else None,
            "against": others,
            "split": split,
            "size": list(store.size),
            "classes": list(folder.classes.names),
            **found.figures(),
        }
        if job.output is not None:
            atomic_write(job.output, (json.dumps(figures, indent=1, allow_nan=False) + "\n").encode(), force=force)
        return figures

    return run([job], work, report, force=force)


def _named(pairs: list[str]) -> dict[str, str]:
    """Other models by name.

    Raises:
        ArgumentError: one is not of the form NAME=MODEL, or a name comes twice.
    """
    named: dict[str, str] = {}
    for pair in pairs:
        name, equals, file = pair.partition("=")
        if not (name and equals and file) or name in named:
            raise ArgumentError(f"--against {pair!r} must be NAME=MODEL, each with a name of its own")
        named[name] = file
    return named


def _beside(model: str) -> Path:
    """Where the audit of a model goes unless told otherwise: beside its file, or here where it ships with moesaic."""
    path = Path(model)
    if path.is_dir():
        return path / "model.audit.json"
    return (
        path.with_name(f"{path.stem}.audit.json") if path.suffix == ".safetensors" else Path(f"{path.name}.audit.json")
    )


def _check_classes(name: str, network: "nn.Module", folder: "FolderData") -> None:
    """Refuse a network for other classes; other names for them are only told, as data sets spell them in many ways.

    Raises:
        ArgumentError: the numbers of classes differ.
    """
    from moesaic.weights_file import card_of

    card, known = card_of(network), folder.classes.names
    if card is None or not card.classes:
        return
    if len(card.classes) != len(known):
        raise ArgumentError(f"{name} was trained for {len(card.classes)} classes, {folder.root} has {len(known)}")
    if tuple(map(str.casefold, card.classes)) != tuple(map(str.casefold, known)):
        _log.warning("%s names its classes %s, the data %s", name, ", ".join(card.classes), ", ".join(known))


class _Steps:
    """A bar on a terminal, a line for each step elsewhere, on standard error."""

    def __init__(self, *, silent: bool) -> None:
        self._silent = silent
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        if not self._silent and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
                redirect_stdout=False,
            ).__enter__()
            self._bar.add_task("", total=None)
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def told(self, what: str, done: int, total: int) -> None:
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description=one_line(what), completed=done, total=total)
        elif not self._silent:
            say(f"scoring {what} ({done + 1} of {total})")
