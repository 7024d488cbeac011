"""audit_segmentation(): does patch routing help a segmentation network, in mean IoU on labelled pictures?"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from moesaic.errors import ArgumentError, ShapeError
from moesaic.metrics import confusion_matrix
from moesaic.routing.audit import STANDARD, Audit, audit
from moesaic.routing.resampling import PictureScores
from moesaic.training.store import Store, as_input

if TYPE_CHECKING:
    from moesaic.routing.audit import Seen

IGNORE = 255  # the label of no class, in a store


def audit_segmentation(
    model: nn.Module,
    data: Store,
    classes: int,
    *,
    batch: int = 8,
    controls: Sequence[str] = STANDARD,
    against: Mapping[str, nn.Module] | None = None,
    resamples: int = 2000,
    block: int = 1,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Audit:
    """Mean IoU of a network with routed layers, as it is and under each control, on the pictures of a store.

    The mean IoU is that of one confusion matrix over all pictures, at the size of the store; its intervals come from
    drawing pictures with replacement and adding up their matrices anew.

    Args:
        model: from pictures (B, C, H, W) in [0, 1] to logits (B, classes, H, W), with at least one routed layer.
        data: pictures and labels; 255 marks pixels of no class.
        classes: how many there are.
        batch: the most pictures at once; "shuffled" exchanges decisions within a batch.
        controls: see `moesaic.routing.audit.audit`, as for all that follow.
        against: other networks by name, scored on the same pictures.
        resamples: draws of pictures behind each interval.
        block: how many pictures in a row are drawn together, for frames of a video.
        seed: of draws and controls.
        progress: told what is scored next, how many of these are done, and of how many.

    Returns:
        The audit, in points of mIoU (percent).

    Raises:
        ArgumentError: `batch` is below 1, no pixel of the store is labelled, or as `moesaic.routing.audit.audit`.
        ShapeError: logits of other classes or of another size than the labels.
    """
    if batch < 1:
        raise ArgumentError(f"batch must be 1 or more, not {batch}")
    if data.labels is None or bool((data.labels == IGNORE).all()):
        raise ArgumentError("data has no labelled pictures, so there is nothing to score against")
    return audit(
        model,
        functools.partial(_matrices, data=data, labels=data.labels, classes=classes, batch=batch),
        controls=controls,
        against=against,
        classes=classes,
        ignore=IGNORE,
        resamples=resamples,
        block=block,
        seed=seed,
        progress=progress,
    )


def mean_ious(
    matrices: Tensor,  # (..., classes, classes), rows are the truth
) -> Tensor:  # (...)
    """`moesaic.metrics.mean_iou` of many confusion matrices at once: over the classes present in the truth of each."""
    hits = matrices.diagonal(dim1=-2, dim2=-1)
    truth = matrices.sum(-1)
    union = truth + matrices.sum(-2) - hits
    each = torch.where(truth > 0, hits / union, math.nan)
    return each.nanmean(-1)


def _matrices(model: nn.Module, seen: Seen, *, data: Store, labels: Tensor, classes: int, batch: int) -> PictureScores:
    """A confusion matrix for each picture."""
    parameter = next(model.parameters(), None)
    device = data.pictures.device if parameter is None else parameter.device
    matrices = []
    # Batches of almost one size: a last one of a single picture would leave "shuffled" little to exchange.
    for numbers in torch.arange(len(data)).tensor_split(math.ceil(len(data) / batch)):
        first, last = int(numbers[0]), int(numbers[-1]) + 1
        logits = model(as_input(data.pictures[first:last].to(device)))
        truth = labels[first:last]
        wanted = (last - first, classes, *truth.shape[1:])
        if tuple(logits.shape) != wanted:
            raise ShapeError(f"model must give logits of {wanted} for these labels, not {tuple(logits.shape)}")
        seen(truth)
        predicted = logits.argmax(1).cpu()
        matrices += [
            confusion_matrix(one, label, classes, ignore=IGNORE)
            for one, label in zip(predicted, truth.cpu(), strict=True)
        ]
    return PictureScores(parts=torch.stack(matrices), score=mean_ious, name="mIoU", scale=100.0)
