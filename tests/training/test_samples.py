"""Sample pictures: a row for each picture, a column for each tensor."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from moesaic.training.samples import write_strip


def test_a_row_for_each_picture_and_a_column_for_each_tensor(tmp_path):
    dark, bright = torch.zeros(2, 3, 4, 6), torch.full((2, 3, 4, 6), 1.5)  # beyond 1 is clipped
    dark[1, 0] = 0.2
    path = tmp_path / "samples" / "step_1.png"
    for _ in range(2):  # a strip that is there is replaced
        write_strip(path, (dark, bright, dark))
    sheet = np.asarray(Image.open(path))
    assert sheet.shape == (4 + 2 + 4, 6 + 2 + 6 + 2 + 6, 3)
    assert (sheet[:4, :6] == 0).all()
    assert (sheet[:4, 6:16] == 255).all()  # a gap, the bright one, a gap
    assert (sheet[4:6] == 255).all()
    assert sheet[6, 0].tolist() == [51, 0, 0]
    assert sheet[9, 21].tolist() == [51, 0, 0]
