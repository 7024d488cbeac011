"""The command `batch`: a verb on a whole folder, in shards and worker processes, killed and resumed without loss."""

# Annotations are real here, not postponed: typer evaluates them.
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import moesaic
from moesaic.cli import handover
from moesaic.cli.batch_news import BatchNews
from moesaic.cli.endings import ALL_DONE, NOTHING_DONE, SOME_FAILED, ending, say
from moesaic.cli.options import Json, Quiet, Recursive
from moesaic.cli.places import Job, nothing_in
from moesaic.cli.report import Figures, Report, log_to_stderr
from moesaic.errors import ArgumentError

if TYPE_CHECKING:
    from moesaic import batch
    from moesaic.batch import Outcome, Plan, RemoteFolder

Verb = Callable[..., int]


class Engine(Enum):
    """Where the workers of a batch are."""

    PROCESSES = "processes"
    RAY = "ray"


_OF_ALL_VERBS = ("inputs", "output", "recursive", "force", "as_json", "quiet")  # batch has its own


@dataclass(frozen=True, slots=True)
class VerbWork:
    """Prepares a verb's work in a worker process."""

    verb: Verb
    options: Mapping[str, Any]

    def __call__(self) -> Callable[[Path, Path], Figures]:
        """Load what the verb needs, once; the work makes an output from an input."""
        log_to_stderr()
        work, _ = handover.ask(self.verb, self.options, _settle_none)
        return lambda source, output: work(Job(source=source, output=output, found=True, within=True))


def _settle_none(*_: object) -> list[Job]:
    """In a worker: what there is to do comes one by one."""
    return []


def app_of(verbs: Sequence[Verb]) -> typer.Typer:
    """The command `batch`, which has a command for each verb, with the options of both."""
    app = typer.Typer(
        no_args_is_help=True,
        help="Run a verb on a whole folder: in worker processes and shards, resumable whenever it was stopped.",
        epilog="Exit codes: 0 all done, 1 some inputs failed, 2 nothing could be done.",
    )
    for verb in verbs:
        app.command(verb.__name__)(_batched(verb))
    return app


def _batched(verb: Verb) -> Verb:
    """A verb's command within `batch`: typer reads its options from a signature that joins the two."""

    @ending
    def command(**stated: Any) -> int:
        own = {name: stated.pop(name) for name in inspect.signature(_run).parameters if name in stated}
        return _run(verb, stated, **own)

    mine = [one for one in inspect.signature(_run).parameters.values() if one.name not in ("verb", "options")]
    theirs = [one for one in inspect.signature(verb).parameters.values() if one.name not in _OF_ALL_VERBS]
    joined = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*mine[:2], *theirs, *mine[2:])]
    command.__signature__ = inspect.Signature(joined, return_annotation=int)  # type: ignore[attr-defined] # a dunder
    command.__annotations__ = {one.name: one.annotation for one in joined}
    command.__name__ = verb.__name__
    command.__doc__ = verb.__doc__
    return command


def _run(
    verb: Verb,
    options: Mapping[str, Any],
    folder: Annotated[
        str, typer.Argument(metavar="INPUT", help="The folder of the inputs; a path or an URL.", show_default=False)
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="OUTPUT",
            help="The folder that mirrors it, and holds the manifest; a path or an URL.",
            show_default=False,
        ),
    ],
    shard: Annotated[
        str, typer.Option(metavar="i/n", help="Do one of n parts of the work, from 1/n to n/n.", show_default=False)
    ] = "1/1",
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that share the work.", show_default="one for a processor, at most 8"),
    ] = None,
    engine: Annotated[
        Engine, typer.Option(help="Where the workers are: processes of this machine, or actors of a Ray cluster.")
    ] = Engine.PROCESSES,
    recursive: Recursive = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", "-f", help="Replace outputs of other origin, and do all anew where the options have changed."
        ),
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Do a verb's work on a folder."""
    from moesaic import batch

    if not output:
        raise ArgumentError("the output has an empty name")
    part, inputs, out = batch.Shard.read(shard), batch.folder_of(folder), batch.folder_of(output)
    found: list[Plan] = []

    def settle(name: Callable[[Path], str], accepts: Callable[[Path], bool]) -> list[Job]:
        plan = batch.make_plan(inputs, out, name=name, accepts=accepts, recursive=recursive, shard=part)
        if not plan.total:
            raise ArgumentError(_nothing_in(inputs, accepts, recursive))
        found.append(plan)
        return [
            Job(source=Path(plan.source(task)), output=Path(plan.target(task)), found=True, within=True)
            for task in plan.tasks
            if task.problem is None
        ]

    asked = handover.ask(verb, options, settle)[1]  # refuses wrong options before any work
    (plan,) = found
    name = verb.__name__
    report = Report(name, len(plan.tasks), as_json=as_json, quiet=quiet, text=asked.text)
    with BatchNews(len(plan.tasks), quiet=quiet) as news:

        def tell(outcome: "Outcome") -> None:
            news.through(worked=outcome.seconds > 0, failed=outcome.status == "failed")
            with news.aside():
                _tell(report, _Told(plan.source(outcome.task), plan.target(outcome.task)), outcome, as_json=as_json)

        tally = batch.run(
            plan,
            VerbWork(verb, options),
            settings={"verb": name, "options": _stated(options), "moesaic": moesaic.__version__},
            workers=workers,
            engine=_engine(engine, options),
            force=force,
            tell=tell,
        )
    if not quiet:
        say(
            f"{tally.done:,} done, {tally.kept:,} kept, {tally.failed:,} failed; "
            f"{batch.named_in(out, batch.manifest_name(part))} says how each went"
        )
    if not tally.failed:
        return ALL_DONE
    return SOME_FAILED if tally.done or tally.kept else NOTHING_DONE


def _engine(engine: Engine, options: Mapping[str, Any]) -> "batch.Engine":
    from moesaic import batch

    if engine is Engine.PROCESSES:
        return batch.processes
    return partial(batch.ray_actors, may_use_gpus=options.get("device", "cpu") != "cpu")


def _tell(report: Report, job: "_Told", outcome: "Outcome", *, as_json: bool) -> None:
    if outcome.error is not None:
        report.failed(job, outcome.error)
    elif outcome.status == "done":
        report.done(job, {**outcome.figures, "seconds": round(outcome.seconds, 3)})
    elif as_json:  # for people, a line for each of a million files would hide the others
        report.kept(job)


@dataclass(frozen=True, slots=True)
class _Told:
    """An input and its output as they are told, by paths or URLs."""

    source: str
    output: str


def _nothing_in(folder: "Path | RemoteFolder", accepts: Callable[[Path], bool], recursive: bool) -> str:
    if isinstance(folder, Path):
        return nothing_in([folder], accepts, recursive)
    return f"there is nothing to do: no input of the kind that this verb takes is in {folder}" + (
        "" if recursive else "; --recursive looks into folders below"
    )


def _stated(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as the manifest holds them; of files their size and time, too, as they may change."""
    told = {}
    for name, value in options.items():
        plain = value.value if isinstance(value, Enum) else str(value) if isinstance(value, Path) else value
        if isinstance(plain, str) and os.path.isfile(plain):  # noqa: PTH113 - never raises, whatever the text holds
            found = os.stat(plain)  # noqa: PTH116
            plain = f"{plain} ({found.st_size} bytes, {found.st_mtime_ns})"
        told[name] = plain
    return told
