"""A folder of pictures and label maps: matched, checked, and decoded once."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from moesaic.errors import ArgumentError, LimitError, MoesaicError, PictureError, ShapeError
from moesaic.image import PIXEL_LIMIT, read_picture
from moesaic.memory import within_memory
from moesaic.training.store import Store
from moesaic.values import is_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

IGNORE = 255  # in memory; what files use for it is told by the classes
_LARGEST_ID = 65535
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".tif", ".tiff", ".bmp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """What the labels of a set mean.

    Raises:
        ArgumentError: no name, more than 255, one twice, another number of colours, a colour outside 0 to 255, or an
            ignored id that is a class's or does not fit into 16 bits.
    """

    names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]  # sRGB, 0 to 255; a label map in RGB is read by them
    ignore: int | None = IGNORE  # the id that means "not known" in label files
    ignore_colour: tuple[int, int, int] | None = (0, 0, 0)  # the same in label maps in RGB

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= 255 or len(self.colours) != len(self.names):
            raise ArgumentError(
                f"classes need 1 to 255 names and a colour for each, not {len(self.names)} and {len(self.colours)}"
            )
        if twice := [name for name in self.names if self.names.count(name) > 1]:
            raise ArgumentError(f"classes have names of their own, and {twice[0]!r} comes twice")
        for colour in (*self.colours, self.ignore_colour or (0, 0, 0)):
            if not (len(tuple(colour)) == 3 and all(is_whole(level, 0, 255) for level in colour)):
                raise ArgumentError(f"the colour {colour} is none: three numbers from 0 to 255 are")
        if self.ignore is not None and 0 <= self.ignore < len(self.names):
            raise ArgumentError(
                f"ignore {self.ignore} is the class {self.names[self.ignore]!r}; take an id beyond them"
            )
        if self.ignore is not None and not 0 <= self.ignore <= _LARGEST_ID:
            raise ArgumentError(f"ignore {self.ignore} is no id of 16 bits; take one up to {_LARGEST_ID}, or null")

    def __len__(self) -> int:
        return len(self.names)


CAMVID = Classes(
    names=(
        *("Sky", "Building", "Pole", "Road", "Pavement", "Tree"),
        *("SignSymbol", "Fence", "Car", "Pedestrian", "Bicyclist"),
    ),
    colours=(
        *((128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0)),
        *((192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192)),
    ),
    ignore=11,
)
"""The eleven classes of CamVid as SegNet's authors merged them (Badrinarayanan et al. 2017), void as label 11."""


class FolderData:
    """Pictures and label maps of the same names, in one of two layouts.

    CamVid's: `train/` beside `trainannot/`, and so on for other splits; its eleven classes are known, and a
    `classes.json` overrules them. The general one: `images/SPLIT/` beside `labels/SPLIT/`, with a `classes.json` of
    the form {"names": ["road", ...], "colours": [[128, 64, 128], ...], "ignore": 255}. Colours are optional where the
    label maps hold ids. A label map holds a class id in each pixel (8 or 16 bits, or a palette's indices), or the
    class's colour.

    Args:
        root: the folder.

    Raises:
        PictureError: there is no such folder, or it has neither layout.
        ArgumentError: `classes.json` is damaged or does not say what it should.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        try:
            self.root = Path(root)
        except TypeError:
            raise PictureError(f"data is the path of a folder, not {type(root).__name__}") from None
        if not os.path.isdir(self.root):  # noqa: PTH112 - unlike Path.is_dir, it never raises, whatever the name holds
            raise PictureError(f"{self.root}: there is no such folder")
        table = self.root / "classes.json"
        found = {path.name: path for path in _listed(self.root) if path.is_dir()}
        if "images" in found and "labels" in found:
            splits = [path.name for path in _listed(found["images"]) if path.is_dir()]
            self._folders = {name: (found["images"] / name, found["labels"] / name) for name in splits}
            if not table.exists():
                raise PictureError(f'{table}: there is no such file; write {{"names": [...], "ignore": 255}} into it')
        else:
            self._folders = {name: (found[name], found[f"{name}annot"]) for name in found if f"{name}annot" in found}
        if not self._folders:
            raise PictureError(
                f"{self.root} has neither layout: train/ beside trainannot/, or images/train/ beside labels/train/"
            )
        self.classes = _read_classes(table) if table.exists() else CAMVID

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits, such as train, val and test."""
        return tuple(self._folders)

    def files(self, split: str) -> list[tuple[Path, Path]]:
        """Picture and label map of each pair in a split, sorted by name.

        Raises:
            ArgumentError: there is no such split.
            PictureError: a picture has no label map or the other way round, or the split is empty.
        """
        if split not in self._folders:
            raise ArgumentError(f"split {split!r} is not in {self.root}; choose one of {', '.join(self.splits)}")
        pictures, labels = (_by_stem(folder) for folder in self._folders[split])
        for ours, theirs, what in ((pictures, labels, "label map"), (labels, pictures, "picture")):
            if alone := sorted(ours.keys() - theirs.keys()):
                raise PictureError(f"{ours[alone[0]]} has no {what} of the same name ({len(alone)} such files)")
        if not pictures:
            raise PictureError(f"{self._folders[split][0]} holds no picture")
        return [(pictures[stem], labels[stem]) for stem in sorted(pictures)]

    def read_pair(self, picture: Path, label: Path) -> tuple[Tensor, Tensor]:  # (3, H, W) float32, (H, W) uint8
        """A picture in [0, 1] and its labels, 255 where nothing is known, in the size of the files.

        Raises:
            PictureError: a file cannot be read, holds a label outside the classes, or the sizes differ.
        """
        pixels, ids = read_rgb(picture), read_labels(label, self.classes)
        if pixels.shape[1:] != ids.shape:
            sizes = [f"{x.shape[-1]}x{x.shape[-2]}" for x in (pixels, ids)]
            raise PictureError(f"{label} is {sizes[1]} and its picture {picture.name} {sizes[0]}: they must be equal")
        return pixels, ids

    def read(self, split: str, size: tuple[int, int] | None = None, *, limit: int | None = None) -> Store:
        """A whole split, decoded: pictures as bytes, scaled to one size, and their labels.

        Args:
            split: its name.
            size: rows and columns, px; as in the files when None, which then must all have one size.
            limit: read only so many pictures, spread evenly over the split.

        Raises:
            ArgumentError: there is no such split.
            PictureError: as `files` and `read_pair`.
            ShapeError: the pictures differ in size and no size is given.
            LimitError: there is not enough memory for all of them at this size.
        """
        files = self.files(split)
        if limit is not None and limit < 1:
            raise ArgumentError(f"limit {limit} must be at least 1 picture")
        if limit is not None and limit < len(files):
            files = [files[i * len(files) // limit] for i in range(limit)]
        if size is not None:
            _check_pixels(size[1], size[0], "size")
        told = "" if size is None else f" of {size[1]}x{size[0]}"
        with within_memory(f"{len(files)} pictures{told} of the split {split}; take a smaller size"):
            return self._read(files, size)

    def _read(self, files: Sequence[tuple[Path, Path]], size: tuple[int, int] | None) -> Store:
        pictures: Tensor | None = None
        labels = torch.empty(0)
        for number, (picture, label) in enumerate(files):
            pixels, ids = self.read_pair(picture, label)
            if size is not None:
                pixels, ids = fit_picture(pixels, size), fit_labels(ids, size)
            if pictures is None:  # all at once: what does not fit is told now, not after the machine has choked
                pictures = torch.empty(len(files), *pixels.shape, dtype=torch.uint8)
                labels = torch.empty(len(files), *ids.shape, dtype=torch.uint8)
            elif pixels.shape != pictures.shape[1:]:
                height, width = pictures.shape[2:]
                raise ShapeError(
                    f"{picture} is {pixels.shape[2]}x{pixels.shape[1]}, others {width}x{height}: "
                    "state the size to train at"
                )
            pictures[number], labels[number] = pixels.mul(255).round_(), ids
        if pictures is None:
            raise PictureError("a split without pictures cannot be read")
        return Store(pictures, labels, tuple(path.name for path, _ in files))


def read_rgb(path: Path) -> Tensor:  # (3, H, W) float32 in [0, 1]
    """A picture file as networks take it: grey becomes RGB, alpha is left out.

    Raises:
        PictureError: the file is no picture that can be read.
    """
    pixels = read_picture(path).pixels
    colour = pixels[..., :1].repeat(3, axis=2) if pixels.shape[2] <= 2 else pixels[..., :3]
    return torch.from_numpy(np.ascontiguousarray(colour.transpose(2, 0, 1)))


def read_labels(path: Path, classes: Classes) -> Tensor:  # (H, W) uint8, 255 where nothing is known
    """A label map, by ids or by colours.

    Raises:
        PictureError: the file cannot be read, is no label map, or holds a label outside the classes.
    """
    try:
        with Image.open(path) as image:
            _check_pixels(image.width, image.height, str(path))
            mode, stored = image.mode, np.asarray(image)
    except MoesaicError:
        raise
    except Exception as cause:  # decoders raise a dozen kinds on damaged files
        reason = " ".join(str(cause).split())
        raise PictureError(f"{path}: no label map that can be read ({reason})") from cause
    if mode in ("L", "P", "I;16", "I"):
        return torch.from_numpy(_from_ids(stored.astype(np.int64), classes, path))
    if mode in ("RGB", "RGBA"):
        return torch.from_numpy(_from_colours(stored[..., :3].astype(np.int64), classes, path))
    raise PictureError(f"{path}: a label map holds ids of 8 or 16 bits, palette indices or RGB colours, not {mode}")


def fit_picture(picture: Tensor, size: Sequence[int]) -> Tensor:  # (C, H, W) -> (C, *size)
    """A picture at another size: triangle filter as wide as the reduction, so that nothing aliases."""
    if tuple(picture.shape[1:]) == tuple(size):
        return picture
    scaled = F.interpolate(picture[None], tuple(size), mode="bilinear", antialias=True, align_corners=False)
    return scaled[0].clamp_(0, 1)


def fit_labels(labels: Tensor, size: Sequence[int]) -> Tensor:  # (H, W) -> size
    """Labels at another size: each pixel takes the label at its centre."""
    return labels[_centres(labels.shape[0], size[0])][:, _centres(labels.shape[1], size[1])]


def _centres(length: int, new: int) -> Tensor:  # (new,) int64
    return ((torch.arange(new, dtype=torch.float64) + 0.5) * (length / new)).long().clamp_(max=length - 1)


def _from_ids(ids: NDArray[np.int64], classes: Classes, path: Path) -> NDArray[np.uint8]:  # (H, W)
    table = np.full(_LARGEST_ID + 1, -1, np.int16)
    table[: len(classes)] = np.arange(len(classes))
    table[IGNORE] = IGNORE
    if classes.ignore is not None:
        table[classes.ignore] = IGNORE
    if ids.min() < 0 or ids.max() > _LARGEST_ID or (table[ids] < 0).any():
        known = [i for i in np.unique(ids) if not 0 <= i <= _LARGEST_ID or table[i] < 0]
        raise PictureError(
            f"{path} holds label {known[0]}: allowed are 0 to {len(classes) - 1}, and {classes.ignore} to be ignored"
        )
    return table[ids].astype(np.uint8)


def _from_colours(rgb: NDArray[np.int64], classes: Classes, path: Path) -> NDArray[np.uint8]:  # (H, W, 3) -> (H, W)
    if twice := [colour for colour in classes.colours if classes.colours.count(colour) > 1]:
        raise PictureError(f"{path} holds colours, but {twice[0]} stands for several classes: state one for each")
    codes = rgb @ np.array([65536, 256, 1])
    labels = np.full(codes.shape, -1, np.int16)
    palette = [(colour, number) for number, colour in enumerate(classes.colours)]
    if classes.ignore_colour is not None:
        palette.insert(0, (classes.ignore_colour, IGNORE))
    for (red, green, blue), number in palette:
        labels[codes == red * 65536 + green * 256 + blue] = number
    if (labels < 0).any():
        row, column = np.argwhere(labels < 0)[0]
        colour = tuple(int(v) for v in rgb[row, column])
        allowed = ", ".join(f"{name} {rgb}" for name, rgb in zip(classes.names, classes.colours, strict=True))
        raise PictureError(f"{path} holds the colour {colour}, which is no class: allowed are {allowed}")
    return labels.astype(np.uint8)


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise PictureError(f"{folder}: there is no such folder")
    found: dict[str, Path] = {}
    for path in _listed(folder):
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith("."):
            if path.stem in found:
                raise PictureError(f"{found[path.stem]} and {path.name} have the same name but for the suffix")
            found[path.stem] = path
    return found


def _check_pixels(width: int, height: int, name: str) -> None:
    if width * height > PIXEL_LIMIT:
        raise LimitError(f"{name}: {width}x{height} has more than {PIXEL_LIMIT} pixels; take a smaller one")


def _listed(folder: Path) -> list[Path]:
    """What a folder holds, by name.

    Raises:
        PictureError: it may not be read.
    """
    try:
        return sorted(folder.iterdir())
    except OSError as cause:
        raise PictureError(f"{folder}: the folder cannot be read: {cause.strerror or cause}") from cause


def _read_classes(path: Path) -> Classes:
    try:
        held: Any = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(held["names"], list):
            raise TypeError("names must be a list")
        names = tuple(str(name) for name in held["names"])
        colours = tuple((int(r), int(g), int(b)) for r, g, b in held.get("colours") or spread_colours(len(names)))
        ignore = held.get("ignore", IGNORE)
        dark = held.get("ignore_colour", None if (0, 0, 0) in colours else (0, 0, 0))
        ignored = None if dark is None else (int(dark[0]), int(dark[1]), int(dark[2]))
        ignored_id = None if ignore is None else int(ignore)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError) as cause:
        raise ArgumentError(
            f'{path} must be JSON like {{"names": ["road"], "colours": [[128, 64, 128]], "ignore": 255}} ({cause})'
        ) from cause
    try:
        return Classes(names=names, colours=colours, ignore=ignored_id, ignore_colour=ignored)
    except ArgumentError as cause:
        raise ArgumentError(f"{path}: {cause}") from cause


def spread_colours(count: int) -> list[tuple[int, int, int]]:
    """Colours for classes that have none: hues by the golden angle, in three brightnesses."""
    import colorsys

    colours = []
    for i in range(count):
        red, green, blue = colorsys.hsv_to_rgb(i * 0.618034 % 1, 0.75, (0.95, 0.7, 0.5)[i % 3])
        colours.append((round(255 * red), round(255 * green), round(255 * blue)))
    return colours
