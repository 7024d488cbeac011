"""Real-world pictures at two and four times their size: a one-step upscaler whose adapter is a mixture of ranks.

`moesaic.upscale` is this folder and a call at once: `moesaic.upscale("photo.jpg", 4)` is `moesaic.upscale.use.upscale`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Folder(ModuleType):
    """A folder that can be called, since Python gives a call and a folder of one name the same place in `moesaic`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Enlarge a picture; see `moesaic.upscale.use.upscale`."""
        from moesaic.upscale.use import upscale

        return upscale(*args, **kwargs)


sys.modules[__name__].__class__ = _Folder
