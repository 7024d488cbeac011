"""The optional packages of the diffusion path, imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from moesaic.errors import MissingExtraError


def diffusion_extra(module: str) -> Any:
    """A module of the extra `diffusion`, such as "diffusers".

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as cause:
        raise MissingExtraError(
            f"upscaling with Stable Diffusion weights needs {module}: pip install 'moesaic[diffusion]'"
        ) from cause
