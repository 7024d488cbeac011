"""Pictures to mixtures in one pass: a network that takes kernels to where they belong, in stages.

`moesaic.predict` is this folder and a call at once: `moesaic.predict("photo.jpg")` is `moesaic.predict.use.predict`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Folder(ModuleType):
    """A folder that can be called, since Python gives a call and a folder of one name the same place in `moesaic`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The mixture of a picture, by a network; see `moesaic.predict.use.predict`."""
        from moesaic.predict.use import predict

        return predict(*args, **kwargs)


sys.modules[__name__].__class__ = _Folder
