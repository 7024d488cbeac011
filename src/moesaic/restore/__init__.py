"""Restoration: one network for many kinds of damage, with experts chosen for each picture.

`moesaic.restore` is this folder and a call at once: `moesaic.restore("photo.jpg")` is `moesaic.restore.use.restore`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Folder(ModuleType):
    """A folder that can be called, since Python gives a call and a folder of one name the same place in `moesaic`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """A picture without its damage; see `moesaic.restore.use.restore`."""
        from moesaic.restore.use import restore

        return restore(*args, **kwargs)


sys.modules[__name__].__class__ = _Folder
