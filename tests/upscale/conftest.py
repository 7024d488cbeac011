"""Pictures to train on."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """A folder of eight small pictures with edges, slopes and grain."""
    folder = tmp_path_factory.mktemp("data") / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(5)
    rows, columns = np.mgrid[:80, :96]
    for number in range(8):
        angle, period = rng.uniform(0, np.pi), rng.uniform(6, 20)
        waves = np.sin((rows * np.cos(angle) + columns * np.sin(angle)) * 2 * np.pi / period)[..., None]
        colour = rng.uniform(0.2, 0.8, 3)
        pixels = np.clip(colour + 0.3 * np.sign(waves) * rng.uniform(-1, 1, 3) + rng.normal(0, 0.02, (80, 96, 3)), 0, 1)
        Image.fromarray(np.rint(255 * pixels).astype(np.uint8)).save(folder / f"{number}.png")
    return folder
