"""The weights that a run begins from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moesaic.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn


def fill(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Give a network the weights of a file, all of them or none.

    Args:
        model: the recipe's.
        weights: by name.
        source: the file, for the message.

    Raises:
        ModelError: they are those of another network.
    """
    own = model.state_dict()
    wrong = sorted(own.keys() ^ weights.keys()) or [n for n in own if own[n].shape != weights[n].shape]
    if wrong:
        raise ModelError(
            f"start={source} holds weights of another network than the recipe's: {len(wrong)} of {len(own)} differ, "
            f"the first is {wrong[0]}; state the network and the options that they were trained with"
        )
    try:
        model.load_state_dict(dict(weights))
    except (RuntimeError, ValueError) as cause:
        reason = " ".join(str(cause).split())
        raise ModelError(
            f"start={source} holds weights of another network than the recipe's: {reason[:200]}"
        ) from cause
