"""Pictures of routing: which expert acts where, for each of the five systems.

`moesaic.explain` is this folder and a call at once: `moesaic.explain("photo.moe")` is `moesaic.explain.use.explain`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Folder(ModuleType):
    """A folder that can be called, since Python gives a call and a folder of one name the same place in `moesaic`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """A picture of what was decided for an input; see `moesaic.explain.use.explain`."""
        from moesaic.explain.use import explain

        return explain(*args, **kwargs)


sys.modules[__name__].__class__ = _Folder
