"""What the tests of segmentation share: a small folder of pictures and label maps in CamVid's layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def write_pair(root: Path, split: str, name: str, *, size: tuple[int, int] = (40, 32), seed: int = 0) -> None:
    """A picture whose left half is dark and right half bright, labelled 0, 1, 8 or void."""
    generator = np.random.default_rng(seed)
    width, height = size
    border = int(generator.integers(width // 4, 3 * width // 4))
    labels = np.full((height, width), 11, np.uint8)
    labels[:-2, :border], labels[:-2, border:] = 0, 1
    labels[: height // 3, : width // 4] = 8
    level = np.select([labels == 0, labels == 1, labels == 8], [40, 200, 120], 0)
    pixels = np.clip(level[..., None] + generator.normal(0, 10, (height, width, 3)), 0, 255).astype(np.uint8)
    for folder, array in ((split, pixels), (f"{split}annot", labels)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(root / folder / f"{name}.png")


@pytest.fixture
def camvid(tmp_path) -> Path:
    """Nine pictures to train on and three to validate."""
    root = tmp_path / "data"
    for number in range(9):
        write_pair(root, "train", f"t{number}", seed=number)
    for number in range(3):
        write_pair(root, "val", f"v{number}", seed=100 + number)
    return root
