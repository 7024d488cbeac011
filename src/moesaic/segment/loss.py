"""What a segmentation network is trained on: weighted cross-entropy over the labelled pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from moesaic.segment.data import IGNORE


def class_weights(
    labels: Tensor,  # (N, H, W) uint8
    classes: int,
    kind: str,
) -> Tensor | None:  # (classes,) float32
    """Weights against the rarity of classes, from the labels of the training split.

    "enet": 1 / ln(1.02 + p) with p a class's share of the labelled pixels (Paszke et al. 2016). "median": the median of
    the classes' frequencies over each one's own, a frequency being counted over the pictures that show the class (Eigen
    and Fergus 2015); a class that is never shown has 0. "none": no weights.
    """
    if kind == "none":
        return None
    counts = torch.stack([torch.bincount(one.flatten().long(), minlength=256)[:classes] for one in labels.cpu()])
    counts = counts.double()  # (N, classes)
    if kind == "enet":
        share = counts.sum(0) / counts.sum().clamp_min(1)
        return (1 / torch.log(1.02 + share)).float()
    labelled = counts.sum(1, keepdim=True)  # (N, 1), px
    frequency = counts.sum(0) / ((counts > 0) * labelled).sum(0).clamp_min(1)
    shown = frequency > 0
    weights = torch.where(shown, frequency[shown].median() / frequency.where(shown, 1.0), 0.0)
    return weights.float()


def pixel_loss(
    logits: Tensor,  # (B, classes, H, W)
    labels: Tensor,  # (B, H, W) int64
    weights: Tensor | None,  # (classes,)
    smoothing: float,
) -> Tensor:  # ()
    """Cross-entropy over the labelled pixels, each weighed by its class, as a weighted mean.

    It is torch's mean, but for a batch without any labelled pixel: that has a loss of 0 where torch has NaN.
    """
    total = F.cross_entropy(
        logits.float(), labels, weights, ignore_index=IGNORE, reduction="sum", label_smoothing=smoothing
    )
    counts = torch.bincount(labels.flatten(), minlength=IGNORE + 1)[: logits.shape[1]]
    mass = counts.float().sum() if weights is None else counts.float() @ weights
    return total / mass.clamp_min(1e-6)
