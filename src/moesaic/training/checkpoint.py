"""Checkpoints: written whole, the one before kept, read without running code, refused for another recipe."""

from __future__ import annotations

import io
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from moesaic.errors import ArgumentError, TrainingError
from moesaic.files import atomic_write

if TYPE_CHECKING:
    from collections.abc import Mapping

_log = logging.getLogger(__name__)

_HALF_WRITTEN = re.compile(r"\.[\w.]+\.[0-9a-f]{12}\.part")  # as `atomic_write` calls what it has not yet renamed


class Checkpoints:
    """The checkpoint of a run, `checkpoint.pt`, and the one before it, `checkpoint.previous.pt`.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.last = folder / "checkpoint.pt"
        self.previous = folder / "checkpoint.previous.pt"

    def exist(self) -> bool:
        """Whether there is anything to resume from."""
        return self.last.exists() or self.previous.exists()

    def save(self, state: Mapping[str, Any]) -> None:
        """Write a state; at every moment at least one whole checkpoint is on the disk.

        Args:
            state: tensors, numbers, texts, and lists and dictionaries of them.

        Raises:
            ArgumentError: the folder cannot be written to; the checkpoints that are there stay.
        """
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        try:
            if self.last.exists():
                self.last.replace(self.previous)
        except OSError as cause:
            raise ArgumentError(f"cannot write {self.previous}: {cause.strerror or cause}") from cause
        atomic_write(self.last, buffer.getvalue(), force=True)

    def load(self, device: torch.device | str = "cpu") -> dict[str, Any] | None:
        """The newest state that can be read, or None where there is no checkpoint.

        Raises:
            TrainingError: there are checkpoints and none can be read.
        """
        reasons = []
        for path in (self.last, self.previous):
            if not path.exists():
                continue
            try:
                state: Any = torch.load(path, map_location=device, weights_only=True)
            except Exception as cause:  # noqa: BLE001 - a damaged file makes torch and zipfile raise a dozen kinds
                reasons.append(f"{path.name}: {type(cause).__name__}")
                _log.warning("%s cannot be read and is left aside", path)
                continue
            if isinstance(state, dict):
                return state
            reasons.append(f"{path.name}: {type(state).__name__}")
        if reasons:
            raise TrainingError(
                f"{self.last.parent}: no checkpoint can be read ({', '.join(reasons)}); "
                "pass resume=False (--fresh) to start anew"
            )
        return None

    def remove(self) -> None:
        """Forget both.

        Raises:
            ArgumentError: one cannot be removed.
        """
        remove_files(self.last, self.previous)

    def tidy(self) -> None:
        """Remove what killed processes left half-written in the folder; only where no other run works there."""
        for path in self.last.parent.iterdir():
            if _HALF_WRITTEN.fullmatch(path.name):
                remove_files(path)


def remove_files(*paths: Path) -> None:
    """Remove files that may not be there.

    Raises:
        ArgumentError: one cannot be removed.
    """
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as cause:
            raise ArgumentError(f"cannot remove {path}: {cause.strerror or cause}") from cause


def check_same(kept: Mapping[str, Any], asked: Mapping[str, Any], folder: Path) -> None:
    """Refuse to go on with a run under another recipe than it was begun with.

    Args:
        kept: what the checkpoint holds, as JSON values.
        asked: what the call states, as JSON values.
        folder: of the run, for the message.

    Raises:
        TrainingError: a value differs; the text names each with both values.
    """
    if told := _differences(kept, asked):
        raise TrainingError(
            f"{folder} holds a run of another recipe: {'; '.join(told)}; repeat its recipe, name another folder, "
            "or pass resume=False (--fresh) to start anew"
        )


def _differences(kept: Mapping[str, Any], asked: Mapping[str, Any], within: str = "") -> list[str]:
    told = []
    for name in sorted({*kept, *asked}):
        before, now = kept.get(name), asked.get(name)
        if isinstance(before, dict) and isinstance(now, dict):
            told += _differences(before, now, f"{within}{name} ")
        elif before != now:
            told.append(f"{within}{name} was {before!r} and is now {now!r}")
    return told
