"""Sample pictures of a run: what went in, what came out, and what was hoped for, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from moesaic.image import write_picture
from moesaic.picture import Picture

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

_GAP = 2  # px of white between two pictures


def write_strip(path: Path, columns: Sequence[Tensor]) -> None:
    """Write one PNG: a row for each picture of a batch, a column for each tensor; a file that is there is replaced.

    Args:
        path: of the file; its folder is made when missing.
        columns: each (B, 3, H, W) in [0, 1], such as input, output and clean; values beyond are clipped.

    Raises:
        ArgumentError: the file cannot be written.
    """
    table = torch.stack([column.detach().float().cpu().clamp(0, 1) for column in columns], 1)  # (B, columns, 3, H, W)
    table = torch.nn.functional.pad(table, (0, _GAP, 0, _GAP), value=1.0)
    B, count, _, H, W = table.shape
    sheet = table.permute(0, 3, 1, 4, 2).reshape(B * H, count * W, 3)[:-_GAP, :-_GAP]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_picture(Picture(pixels=np.ascontiguousarray(sheet.numpy()), depth=8), path, force=True)
