"""What the tests of the training of restoration share: a folder of small pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Twelve pictures of different sizes: waves and edges."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(12):
        generator = np.random.default_rng(number)
        rows, columns = np.mgrid[: 24 + number, : 40 - number] / 8.0
        waves = [np.sin(rows * generator.uniform(0, 2) + columns * generator.uniform(0, 2)) for _ in range(3)]
        pixels = np.stack(waves, axis=2) * 60 + 128
        pixels[:, : int(generator.integers(5, 20))] *= 0.6
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    return folder
