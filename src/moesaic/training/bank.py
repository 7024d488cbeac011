"""Pictures of any sizes, decoded once into one tensor of bytes, and random crops of them drawn where it lies."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from moesaic.errors import ArgumentError, PictureError
from moesaic.image import read_picture
from moesaic.picture import to_integers

_log = logging.getLogger(__name__)

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".tif", ".tiff", ".bmp")
_CAP = 2  # a picture counts as at most so many medians of pixels: a few huge ones must not be all that is seen


def list_pictures(
    source: str | os.PathLike[str], *, leave_out: str | os.PathLike[str] | None = None
) -> list[tuple[str, Path]]:
    """The pictures of a folder, folders within it included, or those that a text file lists.

    Args:
        source: a folder, of which hidden files and folders are left out; or a text file with one path in each line,
            relative to the file's own folder.
        leave_out: the folder of a run, whose pictures are none to learn from where it lies within the folder; where it
            is that folder, or one above it, only its own `samples` are left out.

    Returns:
        Name and path of each, sorted by name; a name is the path below the folder, with slashes.

    Raises:
        PictureError: there is no such folder or file, it names no picture, or a listed file is not there.
    """
    try:
        place = Path(source)
    except TypeError:
        raise PictureError(f"data is a folder or a list of files, not {type(source).__name__}") from None
    try:
        if place.is_dir():
            below = ((path.relative_to(place), path) for path in place.rglob("*") if path.suffix.lower() in SUFFIXES)
            own = None if leave_out is None else _own_pictures(place, Path(leave_out))
            files = {
                name.as_posix(): path
                for name, path in below
                if not any(part.startswith(".") for part in name.parts) and not _within(name, own) and path.is_file()
            }
        elif place.suffix.lower() in SUFFIXES and place.is_file():
            raise PictureError(f"{place} is one picture; data is a folder of pictures, or a text file that lists some")
        else:
            lines = (line.strip() for line in place.read_text(encoding="utf-8").splitlines())
            files = {Path(line).as_posix(): place.parent / line for line in lines if line and not line.startswith("#")}
            if missing := [path for path in files.values() if not path.is_file()]:
                raise PictureError(f"{place} lists {missing[0]}, which is not there ({len(missing)} such files)")
    except UnicodeDecodeError:
        raise PictureError(f"{place} is no text; data is a folder of pictures, or a text that lists some") from None
    except (OSError, ValueError) as cause:  # ValueError: a name that holds a null character
        raise PictureError(f"{place}: {getattr(cause, 'strerror', None) or cause}") from cause
    if not files:
        raise PictureError(f"{place} names no picture ({', '.join(SUFFIXES)})")
    return sorted(files.items())


def _own_pictures(data: Path, run: Path) -> Path | None:
    """Where a run's pictures lie below the folder of the data; None where they do not."""
    place, own = Path(os.path.realpath(data)), Path(os.path.realpath(run))
    if place.is_relative_to(own):
        own = own / "samples"
    return own.relative_to(place) if own.is_relative_to(place) and own != place else None


def _within(name: Path, folder: Path | None) -> bool:
    return folder is not None and name.is_relative_to(folder)


def held_out(names: Iterable[str], share: float) -> set[str]:
    """The names of a share of pictures that is kept from training: at least one of two or more, and never all.

    They are those of the smallest hashes: the same on every machine, whatever the order, and hardly others when
    pictures are added.
    """
    names = sorted(set(names))
    count = min(len(names) - 1, max(1, round(share * len(names)))) if share > 0 and len(names) > 1 else 0
    return set(sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())[:count])


@dataclass(frozen=True, slots=True, eq=False)
class Bank:
    """N pictures in RGB, one after the other, row by row; `read_bank` makes it."""

    pixels: Tensor  # (sum of H * W, 3) uint8
    offsets: Tensor  # (N,) int64, where each picture begins; on the CPU, as are the sizes
    heights: Tensor  # (N,) int64, px
    widths: Tensor  # (N,) int64, px
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def smallest(self) -> int:
        """The shortest side of all pictures, px."""
        return int(torch.minimum(self.heights, self.widths).min())

    def split(self, names: set[str]) -> tuple[Bank, Bank | None]:
        """All other pictures, and those of these names, or None where there are none of them."""
        theirs = [number for number, name in enumerate(self.names) if name in names]
        if not theirs:
            return self, None
        return self._only([number for number, name in enumerate(self.names) if name not in names]), self._only(theirs)

    def to(self, device: torch.device | str) -> Bank:
        """The same with its pixels on another device."""
        return replace(self, pixels=self.pixels.to(device))

    def near(self, device: torch.device) -> Bank:
        """The same with its pixels on the device, if half of what is free there holds them; else as it is."""
        if device.type == "cuda" and self.pixels.nbytes > torch.cuda.mem_get_info(device)[0] / 2:
            _log.warning("the pictures take %d MiB, too much for %s: they stay", self.pixels.nbytes >> 20, device)
            return self
        return self.to(device)

    def fingerprint(self) -> str:
        """A hash of all names, sizes and pixels: a run is resumed only on the data that it began with."""
        digest = hashlib.sha256("\n".join(self.names).encode())
        digest.update(torch.stack([self.heights, self.widths]).numpy().data)
        digest.update(self.pixels.cpu().numpy().data)
        return digest.hexdigest()[:16]

    def crops(
        self, generator: torch.Generator, batch: int, side: int, *, shrink: float = 0.0
    ) -> Tensor:  # (batch, 3, side, side) uint8, channels innermost
        """Random crops, on the device of the pixels: of any picture, from any place, in one of 8 orientations.

        A picture's chance follows its pixels, up to twice the median of all. Every draw is made on the CPU, so that
        the crops are the same whatever the device.

        Args:
            generator: on the CPU.
            batch: how many.
            side: px.
            shrink: the chance of a crop of twice the side, shrunk by the mean of each 2x2 pixels, where the picture is
                large enough. This hides what a codec left in the files.

        Raises:
            ArgumentError: a picture is smaller than the side.
        """
        if self.smallest < side:
            raise ArgumentError(f"a crop of {side} px is larger than a picture's side of {self.smallest} px")
        counts = (self.heights * self.widths).double()
        chances = counts.minimum(_CAP * counts.median())
        chosen = torch.multinomial(chances, batch, replacement=True, generator=generator)
        draws = torch.rand(3, batch, dtype=torch.float64, generator=generator)
        turns = torch.randint(8, (batch,), generator=generator)
        room = torch.minimum(self.heights[chosen], self.widths[chosen])
        halved = (draws[2] < shrink) & (room >= 2 * side)
        out = torch.empty(batch, side, side, 3, dtype=torch.uint8, device=self.pixels.device)
        for factor, ours in ((1, ~halved), (2, halved)):
            which = ours.nonzero()[:, 0]
            if len(which):
                found = self._cut(chosen[which], draws[:2, which], turns[which], factor * side)
                out[which.to(out.device)] = found if factor == 1 else _halved(found)
        return out.permute(0, 3, 1, 2)

    def centres(self, side: int) -> Tensor:  # (N, 3, side, side) uint8
        """The middle of every picture.

        Raises:
            ArgumentError: a picture is smaller than the side.
        """
        if self.smallest < side:
            raise ArgumentError(f"a crop of {side} px is larger than a picture's side of {self.smallest} px")
        count = len(self)
        middle = torch.full((2, count), 0.5, dtype=torch.float64)
        cut = self._cut(torch.arange(count), middle, torch.zeros(count, dtype=torch.int64), side)
        return cut.permute(0, 3, 1, 2)

    def _only(self, numbers: list[int]) -> Bank:
        """Some of the pictures; only the table is new, the pixels are shared."""
        names = tuple(self.names[number] for number in numbers)
        return Bank(self.pixels, self.offsets[numbers], self.heights[numbers], self.widths[numbers], names)

    def _cut(
        self,
        chosen: Tensor,  # (B,) int64, pictures
        place: Tensor,  # (2, B) float64 in [0, 1), of the free room: down, to the right
        turns: Tensor,  # (B,) int64, 0 to 7: 1 mirrors left and right, 2 top and bottom, 4 at the diagonal
        side: int,
    ) -> Tensor:  # (B, side, side, 3) uint8
        heights, widths = self.heights[chosen], self.widths[chosen]
        top = (place[0] * (heights - side + 1)).long()
        left = (place[1] * (widths - side + 1)).long()
        first = self.offsets[chosen] + top * widths + left
        mirrored, flipped, turned = turns & 1 > 0, turns & 2 > 0, turns & 4 > 0
        # the index of a pixel is start + row * down + column * right, whatever the orientation
        down = torch.where(flipped, -widths, widths)
        right = torch.where(mirrored, -1, 1).to(down)
        start = first + torch.where(flipped, (side - 1) * widths, 0) + torch.where(mirrored, side - 1, 0)
        down, right = torch.where(turned, right, down), torch.where(turned, down, right)
        start, down, right = torch.stack([start, down, right]).to(self.pixels.device)[:, :, None, None]
        steps = torch.arange(side, device=self.pixels.device)
        index = start + steps[:, None] * down + steps * right  # (B, side, side)
        return self.pixels.index_select(0, index.flatten()).view(*index.shape, 3)


def read_bank(files: Sequence[tuple[str, Path]], *, least: int = 1) -> Bank:
    """Decode pictures into a bank; grey becomes RGB, alpha is laid over white, 16 bits become 8.

    Args:
        files: name and path of each, as `list_pictures` gives them.
        least: pictures with a side of fewer px are left out, with one warning for all of them.

    Raises:
        PictureError: a file is no picture that can be read, or none is large enough.
    """
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        decoded = list(pool.map(_decode, (path for _, path in files)))
    large = [number for number, pixels in enumerate(decoded) if min(pixels.shape[:2]) >= least]
    if not large:
        raise PictureError(f"none of {len(files)} pictures has sides of at least {least} px")
    if len(large) < len(decoded):
        _log.warning("%d of %d pictures have a side below %d px and are left out", *_small(decoded, large), least)
    sizes = torch.tensor([decoded[number].shape[:2] for number in large])  # (N, 2)
    counts = sizes.prod(1)
    ends = counts.cumsum(0)
    pixels = torch.empty(int(ends[-1]), 3, dtype=torch.uint8)
    for number, end, count in zip(large, ends.tolist(), counts.tolist(), strict=True):
        pixels[end - count : end] = torch.from_numpy(decoded[number].reshape(-1, 3))
        decoded[number] = decoded[number][:0]  # let go of
    names = tuple(files[number][0] for number in large)
    return Bank(pixels, ends - counts, sizes[:, 0].contiguous(), sizes[:, 1].contiguous(), names)


def _small(decoded: Sequence[object], large: Sequence[int]) -> tuple[int, int]:
    return len(decoded) - len(large), len(decoded)


def _decode(path: Path) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:  # (H, W, 3)
    pixels = to_integers(read_picture(path).over(1.0).with_depth(8))
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


def _halved(pixels: Tensor) -> Tensor:  # (B, 2H, 2W, 3) uint8 -> (B, H, W, 3) uint8
    """The mean of each 2x2 pixels, rounded; halves go up."""
    rows = pixels[:, ::2].to(torch.int16) + pixels[:, 1::2]
    return ((rows[:, :, ::2] + rows[:, :, 1::2] + 2) >> 2).to(torch.uint8)
