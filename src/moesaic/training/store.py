"""Pictures and labels, decoded once and kept as bytes on the device that trains on them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from moesaic.errors import ShapeError


@dataclass(frozen=True, slots=True, eq=False)
class Store:
    """A set of pictures of one size, and what belongs to them.

    Raises:
        ShapeError: the tensors do not fit each other.
    """

    pictures: Tensor  # (N, C, H, W) uint8
    labels: Tensor | None = None  # (N, H, W) uint8, 255 where nothing is known
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.pictures.ndim != 4 or self.pictures.dtype != torch.uint8:
            raise ShapeError(f"pictures of a store are (N, C, H, W) uint8, not {tuple(self.pictures.shape)}")
        wanted = (self.pictures.shape[0], *self.pictures.shape[2:])
        if self.labels is not None and tuple(self.labels.shape) != wanted:
            raise ShapeError(f"labels of a store are {wanted} like its pictures, not {tuple(self.labels.shape)}")

    def __len__(self) -> int:
        return int(self.pictures.shape[0])

    @property
    def size(self) -> tuple[int, int]:
        """Rows H and columns W of every picture, px."""
        return int(self.pictures.shape[2]), int(self.pictures.shape[3])

    def to(self, device: torch.device | str) -> Store:
        """The same on another device."""
        labels = None if self.labels is None else self.labels.to(device)
        return Store(self.pictures.to(device), labels, self.names)

    def fingerprint(self) -> str:
        """A hash of all pixels and labels: a run is resumed only on the data that it began with."""
        digest = hashlib.sha256(repr(tuple(self.pictures.shape)).encode())
        for tensor in (self.pictures, self.labels):
            if tensor is not None:
                digest.update(tensor.cpu().contiguous().numpy().data)
        return digest.hexdigest()[:16]


def as_input(pictures: Tensor) -> Tensor:  # (B, C, H, W) uint8 -> float32 in [0, 1], channels innermost
    """Bytes as a network takes them."""
    return pictures.to(memory_format=torch.channels_last).float().div_(255)
