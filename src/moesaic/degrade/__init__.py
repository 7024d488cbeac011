"""Degradations of clean pictures, seeded and with their parameters told: for training, for tests, and for show.

`moesaic.degrade` is this folder and a call at once: `moesaic.degrade(pixels, "rain")` is
`moesaic.degrade.use.degrade`. Batches on any device come from `moesaic.degrade.batch.degrade_batch`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from moesaic.degrade.ranges import FAMILIES, KINDS, LABELS, NAMED_FAMILIES

__all__ = ["FAMILIES", "KINDS", "LABELS", "NAMED_FAMILIES"]


class _Folder(ModuleType):
    """A folder that can be called, since Python gives a call and a folder of one name the same place in `moesaic`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Degrade a picture; see `moesaic.degrade.use.degrade`."""
        from moesaic.degrade.use import degrade

        return degrade(*args, **kwargs)


sys.modules[__name__].__class__ = _Folder
