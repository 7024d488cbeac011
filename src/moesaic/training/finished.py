"""Folders that hold a run's work without a checkpoint: finished weights are never replaced unasked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from moesaic.errors import LimitError, ModelError, TrainingError
from moesaic.training.log import read_log
from moesaic.weights_file import read_weights

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from moesaic.weights_file import Card


def finished_card(
    weights: Path,  # a file that need not be there
) -> Card | None:
    """The card of the weights that an earlier call has left; None where there are no whole ones."""
    try:
        return read_weights(weights)[1]
    except (LimitError, ModelError):
        return None


def is_of(card: Card, config: Mapping[str, Any]) -> bool:
    """Whether weights come from the run that the config defines."""
    return bool(dict(card.recipe) == json.loads(json.dumps(config)))


def settled_length(card: Card | None, settled: str) -> int | None:
    """How long the run was that left the weights; None where that is not known.

    Args:
        card: of the weights, if there are any.
        settled: the name of the number in a config that says how long a run is, such as "steps".
    """
    length = None if card is None else card.recipe.get(settled)
    return length if isinstance(length, int) and length > 0 else None


def refuse_others(folder: Path, config: Mapping[str, Any], settled: str) -> None:
    """Refuse a folder without a checkpoint that holds what another run has left.

    What a run leaves that was stopped before its first checkpoint, is none of that: it may begin again.

    Args:
        folder: of the run.
        config: what defines the run.
        settled: as for `settled_length`; it may differ where it was planned anew.

    Raises:
        TrainingError: finished weights are there, a log of steps, or a recipe of another run.
    """
    ask = "name another folder, or pass resume=False (--fresh) to replace it"
    if (folder / "model.safetensors").exists():
        raise TrainingError(f"{folder} holds finished weights without a checkpoint; {ask}")
    try:
        log = read_log(folder / "log.jsonl") if (folder / "log.jsonl").exists() else []
        recipe = (folder / "recipe.json").read_bytes() if (folder / "recipe.json").exists() else None
    except OSError as cause:
        raise TrainingError(f"{folder} cannot be read: {cause.strerror or cause}; {ask}") from cause
    if any(entry.get("step", 0) != 0 for entry in log):
        raise TrainingError(f"{folder} holds the log of a run without a checkpoint; {ask}")
    if recipe is not None and not _same_but(recipe, config, settled):
        raise TrainingError(f"{folder} holds the recipe of another run without a checkpoint; {ask}")


def _same_but(recipe: bytes, config: Mapping[str, Any], settled: str) -> bool:
    try:
        held = json.loads(recipe)
    except (ValueError, RecursionError):
        return False
    wanted = json.loads(json.dumps(config))
    return isinstance(held, dict) and held | {settled: None} == wanted | {settled: None}
