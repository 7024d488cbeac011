"""What a run needs of the folder of its outputs, wherever that is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from moesaic.batch.carrying import Made
from moesaic.batch.manifest import Entry, Log
from moesaic.batch.plan import Plan, Task

Opened = Callable[[Plan, Entry, bool], AbstractContextManager["Outputs"]]
"""Opens the folder of a plan's outputs for a run: the plan, what the run is, and whether outputs may be replaced."""


class Outputs(Protocol):
    """The folder while a run is at work in it: nobody else has this shard, and what a kill has left is gone."""

    @property
    def log(self) -> Log:
        """The manifest of this run."""

    @property
    def known(self) -> Mapping[str, Sequence[Entry]]:
        """What all manifests said of each input when the run began."""

    @property
    def ahead(self) -> int:
        """How many tasks are best announced at once."""

    def size(self, path: str) -> int | None:
        """Bytes of a file that is there."""

    def is_there(self, path: str) -> bool:
        """Whether a file, or anything else, has this place."""

    def announce(self, tasks: Sequence[Task]) -> None:
        """Told of tasks before any of them is handed out."""

    def staging(self, number: int) -> Path | None:
        """The folder that a worker makes for its output, where outputs are moved into their places afterwards."""

    def take(self, task: Task, source: str, made: Made, *, may_replace: bool) -> tuple[dict[str, int], dict[str, Any]]:
        """See to it that what was made is in its place.

        Returns:
            Sizes of all files, bytes, by their paths, and the figures with paths as they are now.

        Raises:
            MoesaicError: there is no output, or something else is in its place.
        """

    def drop(self, number: int, made: Made | None) -> None:
        """Told when nothing more will be done for a task."""
