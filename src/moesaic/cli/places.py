"""Which inputs a command works on, and where each output goes: settled, and checked for clashes, before any work."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from moesaic.cli import handover
from moesaic.errors import ArgumentError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One input and its output."""

    source: Path
    output: Path | None  # None where the verb writes nothing
    found: bool = False  # in a folder, not named by the user: an output that is there is kept without complaint
    within: bool = False  # the output lies in a folder that the run may make


def settle(
    inputs: Sequence[Path],
    output: str | None,
    *,
    name: Callable[[Path], str] | None,
    accepts: Callable[[Path], bool],
    recursive: bool = False,
) -> list[Job]:
    """The jobs of a command that writes one output for each input.

    One input: `output` is a file, or a folder if it is one or ends in a slash. Several inputs or a folder: `output` is
    a folder, in which the tree below an input folder is mirrored. None: each output stands beside its input.

    Args:
        inputs: files and folders. The same file is taken once; hidden files in folders are left out.
        output: what the user gave with -o.
        name: the name of an input's output; None where the verb writes none.
        accepts: which files of a folder are inputs, by their names.
        recursive: look into the folders of folders as well.

    Raises:
        ArgumentError: several inputs and `output` is a file, two inputs would share an output, an output would
            replace an input, or there is nothing to do.
    """
    if (batch := handover.current()) is not None and name is not None:
        return batch.settle(name, accepts)
    if output == "":
        raise ArgumentError("the output has an empty name")
    several = len(inputs) > 1 or any(path.is_dir() for path in inputs)
    target = None if output is None else Path(output)
    within = target is not None and (several or target.is_dir() or str(output).endswith(("/", os.sep)))
    if target is not None and several and name is not None:
        looks_like_file = target.suffix == Path(name(inputs[0])).suffix
        if (target.exists() or looks_like_file) and not target.is_dir():
            raise ArgumentError(f"{target} is no folder; for several inputs or a folder the output is a folder")
    jobs, seen = [], set()
    for given in inputs:
        for source in _files(given, accepts, recursive):
            if (same := _identity(source)) in seen:
                continue
            seen.add(same)
            place = target
            if name is not None and target is None:
                place = source.with_name(name(source))
            elif name is not None and target is not None and within:
                below = source.relative_to(given).parent if source != given else Path()
                place = target / below / name(source)
            jobs.append(Job(source=source, output=place, found=source != given, within=within))
    if not jobs:
        raise ArgumentError(nothing_in(inputs, accepts, recursive))
    refuse_clashes(jobs)
    return jobs


def refuse_clashes(jobs: Sequence[Job], *, also: Sequence[Path] = ()) -> None:
    """Stop a run in which one output would replace another, or an input.

    Args:
        jobs: all of the run.
        also: further files that the run reads.

    Raises:
        ArgumentError: it would; the text names both files.
    """
    sources = {_identity(path) for path in (*(job.source for job in jobs), *also)}
    taken: dict[str, Path] = {}
    for job in jobs:
        if job.output is None:
            continue
        place = _identity(job.output)
        if place in sources:
            raise ArgumentError(f"{job.output} is an input; give the output another place with -o")
        if place in taken:
            raise ArgumentError(f"{taken[place]} and {job.source} would both become {job.output}; nothing was done")
        taken[place] = job.source


def change_told(
    *,
    scale: float | None,
    size: tuple[int, int] | None,
    region: tuple[float, float, float, float] | None,
    layers: int | None,
) -> str:
    """What the name of a decoded picture says about how it differs from the whole, such as `.x4`."""
    told = ""
    if layers is not None:
        told += f".layers{layers}"
    if region is not None:
        told += ".region" + ",".join(f"{side:g}" for side in region)
    if scale is not None and scale != 1:
        told += f".x{scale:g}"
    if size is not None:
        told += f".{size[0]}x{size[1]}"
    return told


def nothing_in(folders: Sequence[Path], accepts: Callable[[Path], bool], recursive: bool) -> str:
    """That folders hold no input, and whether those below them do."""
    told = f"there is nothing to do: no input of the kind that this verb takes is in {', '.join(map(str, folders))}"
    if not recursive and any(True for folder in folders for _ in _files(folder, accepts, recursive=True)):
        told += "; folders below hold some: --recursive looks into them"
    return told


def _files(given: Path, accepts: Callable[[Path], bool], recursive: bool) -> Iterator[Path]:
    if not given.is_dir():
        yield given
        return
    for folder, below, names in os.walk(given, onerror=_raise):
        below[:] = sorted(one for one in below if not one.startswith(".")) if recursive else []
        for name in sorted(names):
            path = Path(folder, name)
            if name.startswith(".") or not accepts(path):
                _log.info("%s is skipped: hidden, or of another kind", path)
            else:
                yield path


def _raise(error: OSError) -> None:
    _log.warning("the folder %s is left out: %s", error.filename, error.strerror)


def _identity(path: Path) -> str:
    """The same text for the same place, whatever way the path takes to it; the last part need not exist."""
    try:
        return os.path.normcase(os.path.realpath(path))
    except (OSError, ValueError):  # a loop of links, a name with a null character: reading it will say so
        return str(path)
