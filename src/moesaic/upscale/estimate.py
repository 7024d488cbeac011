"""estimate(): how degraded a picture is, in a few numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from moesaic.image import PIXEL_LIMIT, read_picture
from moesaic.upscale.estimators import make_estimator

if TYPE_CHECKING:
    import os

    from torch import Tensor

    from moesaic.image import PictureSource
    from moesaic.picture import Picture
    from moesaic.upscale.scores import Estimator


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimated:
    """How degraded a picture is: 0 not at all, 1 as much as the estimator knows."""

    scores: dict[str, float]  # in [0, 1], of what the estimator tells apart, such as "noise"
    severity: float  # in [0, 1], all of it in one number
    estimator: str  # kind and version of what said so


def estimate(
    picture: PictureSource,
    estimator: Estimator | str | os.PathLike[str] | None = None,
    *,
    device: str = "cpu",
    pixel_limit: int = PIXEL_LIMIT,
) -> Estimated:
    """How much noise, blur, JPEG and loss of resolution there is in a picture.

    Of a picture of more than 1.6 megapixels, pieces at its own resolution are looked at. Colours are taken as they
    show, multiplied by alpha; a grey picture is taken as one of three equal channels.

    Args:
        picture: anything that `moesaic.read_picture` takes.
        estimator: what estimates: a name or file as `moesaic.upscale.estimators.make_estimator` takes it, or an
            estimator. The network that ships unless given.
        device: where a named network computes: "cpu", "cuda", ...; "auto" is CUDA where it works.
        pixel_limit: largest W * H to accept.

    Raises:
        PictureError: the file is missing, damaged, or no picture.
        ShapeError: a side is below 8 px.
        ArgumentError: the estimator is unknown, or the pixels are no finite numbers.
        ModelError: its weights are missing, damaged, or of something else.
        MissingExtraError: it is CLIP, and transformers is not installed.
        LimitError: the picture has more than `pixel_limit` pixels.
        BackendError: the device cannot be used here.
    """
    used = make_estimator(estimator, device=device)
    said = used(as_shown(read_picture(picture, pixel_limit=pixel_limit)))
    values = said.values[0].tolist()
    return Estimated(
        scores=dict(zip(said.names, values, strict=True)), severity=float(said.severity[0]), estimator=used.identity
    )


def as_shown(picture: Picture) -> Tensor:  # (1, 3, H, W)
    """The colours of a picture as they show, multiplied by alpha, for an estimator."""
    colours = 3 if picture.channels >= 3 else 1
    x = torch.from_numpy(np.ascontiguousarray(picture.premultiplied()[..., :colours]))
    return x.permute(2, 0, 1)[None].expand(-1, 3, -1, -1)
