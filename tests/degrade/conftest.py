"""What the tests of degradations share: a picture made of whole numbers, the same on every machine."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest


@pytest.fixture(scope="session")
def picture() -> Callable[..., np.ndarray]:
    """Make a picture (H, W, 3) in uint8: ramps, blocks, black and white."""

    def make(height: int = 48, width: int = 64) -> np.ndarray:
        y, x = np.mgrid[:height, :width]
        planes = [x * 5 + y, 255 - 4 * y - x // 2, (x // 8 + y // 8) % 2 * 160 + y]
        pixels = np.clip(np.stack(planes, 2), 0, 255)
        pixels[: height // 4, : width // 4] = 0
        pixels[-(height // 4) :, : width // 5] = 255
        return pixels.astype(np.uint8)

    return make
