"""Segmentation with experts chosen for each patch of the picture.

`moesaic.segment` is this folder and a call at once: `moesaic.segment("street.jpg")` is `moesaic.segment.use.segment`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Folder(ModuleType):
    """A folder that can be called, since Python gives a call and a folder of one name the same place in `moesaic`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What is where in a picture; see `moesaic.segment.use.segment`."""
        from moesaic.segment.use import segment

        return segment(*args, **kwargs)


sys.modules[__name__].__class__ = _Folder
