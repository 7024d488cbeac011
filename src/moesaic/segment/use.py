"""segment(): what is where in a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from moesaic.errors import ArgumentError, LimitError, ShapeError
from moesaic.image import PIXEL_LIMIT, read_picture
from moesaic.picture import Picture
from moesaic.routing.collect import collect, recording
from moesaic.segment.models import DEFAULT_MODEL
from moesaic.segment.models import registry as _registry
from moesaic.segment.overlay import overlay, palette
from moesaic.segment.routing_picture import pick_layer, routing_picture
from moesaic.tiling import run_tiled
from moesaic.training.device import pick_device
from moesaic.weights_file import card_of

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray
    from torch import Tensor

    from moesaic.image import PictureSource
    from moesaic.registry import Registry
    from moesaic.routing.record import Routing
    from moesaic.segment.overlay import Colour
    from moesaic.weights_file import Card

LONGEST = 32
"""Times its short side that a picture may be long when it is scaled to the size of the training pictures."""

_BAND = 2**22  # logits at a time that are enlarged to the picture's size
TILE = 512  # px, where a model does not say what it was trained on


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Segmentation:
    """What is where in a picture."""

    labels: NDArray[np.uint8]  # (H, W), the class of each pixel
    names: tuple[str, ...]  # of the classes
    colours: tuple[Colour, ...]  # of the classes, sRGB, 0 to 255
    picture: Picture  # what was segmented
    routing: Mapping[str, Routing]  # what each routed layer decided; empty when the picture was run in several tiles

    @property
    def shares(self) -> dict[str, float]:
        """The share of the picture's pixels that each class has, by name; they sum to 1."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.names))
        return {name: int(count) / self.labels.size for name, count in zip(self.names, counts, strict=True)}

    def overlay(self, *, legend: bool = True, opacity: float = 0.5) -> Picture:
        """The picture tinted by class, with a legend below it; see `moesaic.segment.overlay.overlay`.

        Raises:
            ArgumentError: the opacity is outside [0, 1].
        """
        names = self.names if legend else ()
        return overlay(self.picture, self.labels, self.colours, names=names, opacity=opacity)

    def routing_picture(self, layer: str | None = None, *, legend: bool = True, opacity: float = 0.5) -> Picture:
        """Which experts acted where; see `moesaic.segment.routing_picture.routing_picture`.

        Args:
            layer: name of the routed layer, a key of `routing`; needed where there are several.
            legend: whether there is one below the picture.
            opacity: of the colours.

        Raises:
            ArgumentError: there is no routing (a dense model, or a picture that was run in several tiles), no layer of
                that name, several layers and no name, or an opacity outside [0, 1].
            ShapeError: the picture has fewer rows or columns than the grid.
        """
        name, routing = pick_layer(self.routing, layer)
        return routing_picture(self.picture, routing, layer=name, legend=legend, opacity=opacity)

    def label_map(self) -> Picture:
        """The class ids as a grey picture of 8 bits: written as PNG, each pixel's value is its class."""
        return Picture(pixels=self.labels[..., None].astype(np.float32) / np.float32(255))


def segment(
    picture: PictureSource,
    model: nn.Module | str | os.PathLike[str] | None = None,
    *,
    scale: Literal["trained", "full"] = "trained",
    tile: int | None = None,
    device: str = "auto",
    pixel_limit: int = PIXEL_LIMIT,
    registry: Registry = _registry,
    progress: Callable[[int, int], None] | None = None,
) -> Segmentation:
    """The class of each pixel of a picture.

    Transparent pictures are seen over white; grey ones are taken by networks for colour.

    Args:
        picture: anything that `moesaic.read_picture` takes.
        model: the name of trained weights, a file that a training run wrote or its folder, or a network, which stays on
            its device. The shipped model unless given.
        scale: "trained": the picture is scaled until its short side is that of the pictures that the model was trained
            on, and the logits are enlarged to the picture's size again. "full": its own pixels, in tiles. The same for
            a model that does not say what it was trained on.
        tile: side of the tiles, px. Unless given, "trained" runs in one piece as far as memory allows, and "full" in
            tiles as long as the training pictures. A routed layer decides anew in each tile.
        device: for a named model: "auto" (CUDA where it works), "cpu", "cuda", ...
        pixel_limit: largest W * H to accept.
        registry: what to look names and architectures up in.
        progress: told the number of tiles done and of all.

    Raises:
        PictureError: the file is missing, damaged, or no picture.
        ModelError: the model is unknown, missing or damaged.
        ShapeError: the picture has another number of channels than the model takes, is smaller than it takes, or is too
            long for its width.
        ArgumentError: `scale` is neither of the two, or the tile is too small.
        LimitError: the picture has more than `pixel_limit` pixels, as it is or as scaled, or memory ran out.
        BackendError: the device cannot be used here.
    """
    if scale not in ("trained", "full"):
        raise ArgumentError(f"scale is 'trained' or 'full', not {scale!r}")
    if tile is not None and tile < 1:
        raise ArgumentError(f"tile is a number of px, at least 1, not {tile}")
    seen = read_picture(picture, pixel_limit=pixel_limit)
    if isinstance(model, nn.Module):
        network = model
    else:
        network = registry.load(DEFAULT_MODEL if model is None else model, device=str(pick_device(device)))
    card = card_of(network)
    x = as_input(seen, int(getattr(network, "channels", 3)))
    if scale == "trained" and card is not None and card.size is not None:
        x = _scaled(x, min(card.size), pixel_limit)
    elif tile is None:
        tile = max(card.size) if card is not None and card.size is not None else TILE
    tiles = classes = 0

    def watched(piece: Tensor) -> Tensor:
        nonlocal classes
        logits: Tensor = network(piece)
        classes = logits.shape[1]
        return logits

    def count(done: int, total: int) -> None:
        nonlocal tiles
        tiles = total
        if progress is not None:
            progress(done, total)

    small = x.shape[-2:] != (seen.height, seen.width)
    with in_use(network), recording(network):
        result = run_tiled(
            watched,
            x,
            tile=tile,
            overlap=(tile or TILE) // 4,
            multiple_of=int(getattr(network, "multiple_of", 1)),
            device=device_of(network),
            finish=None if small else best,
            progress=count,
        )
        routing = collect(network) if tiles == 1 else {}
    labels = _enlarged_best(result[0], seen.height, seen.width) if small else result[0, 0]
    names, colours = named(card, classes)
    return Segmentation(
        labels=labels.cpu().numpy(),
        names=names,
        colours=colours,
        picture=seen,
        routing=routing,
    )


def named(card: Card | None, classes: int) -> tuple[tuple[str, ...], tuple[Colour, ...]]:
    """Names and colours of so many classes, by the model's card where it has them."""
    fits = card is not None and len(card.classes) == classes
    coloured = card is not None and len(card.colours) == classes
    return (
        card.classes if card is not None and fits else tuple(f"class {c}" for c in range(classes)),
        card.colours if card is not None and coloured else palette(classes),
    )


def as_input(picture: Picture, channels: int) -> Tensor:  # (1, C, H, W)
    """The picture as the network takes it.

    Raises:
        ShapeError: it takes another number of channels.
    """
    if channels != picture.channels:
        picture = picture.over(1.0)
    pixels = torch.from_numpy(np.ascontiguousarray(np.moveaxis(picture.pixels, 2, 0)))[None]
    if channels == 3 and picture.channels == 1:
        pixels = pixels.expand(1, 3, -1, -1)
    if pixels.shape[1] != channels:
        raise ShapeError(f"the picture has {picture.channels} channels, this model takes {channels}")
    return pixels


def _scaled(x: Tensor, short: int, pixel_limit: int) -> Tensor:
    """The picture with another short side; smoothed before it is made smaller."""
    height, width = x.shape[-2:]
    size = scaled_size(height, width, short, pixel_limit)
    smaller = short < min(height, width)
    return x if size == (height, width) else F.interpolate(x, size, mode="bilinear", antialias=smaller)


def scaled_size(height: int, width: int, short: int, pixel_limit: int) -> tuple[int, int]:
    """The sides of a picture with another short side.

    Raises:
        ShapeError: the picture is too long for its width.
        LimitError: there are more than `pixel_limit` pixels.
    """
    if max(height, width) > LONGEST * min(height, width):
        raise ShapeError(
            f"a picture of {width}x{height} is more than {LONGEST} times as long as wide; crop it, or pass scale='full'"
        )
    factor = short / min(height, width)
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    if size[0] * size[1] > pixel_limit:
        raise LimitError(
            f"at the size of the model's training this picture has {size[1]}x{size[0]} pixels, the limit is"
            f" {pixel_limit}: pass scale='full' or a larger pixel_limit"
        )
    return size


def best(
    logits: Tensor,  # (B, classes, H, W)
) -> Tensor:  # (B, 1, H, W), uint8
    """The class of the largest logit.

    Raises:
        ShapeError: more classes than 8 bits can name.
    """
    if logits.shape[1] > 256:
        raise ShapeError(f"the model has {logits.shape[1]} classes; label maps hold at most 256")
    return logits.argmax(1, keepdim=True).to(torch.uint8)


def _enlarged_best(
    logits: Tensor,  # (classes, h, w)
    height: int,
    width: int,
) -> Tensor:  # (H, W), uint8
    """The class of the largest logit after bilinear scaling to another size."""
    return torch.cat(list(enlarged_bands(logits, height, width)))


def enlarged_bands(
    logits: Tensor,  # (classes, h, w)
    height: int,
    width: int,
) -> Iterator[Tensor]:  # each (rows, W), uint8
    """The class of the largest logit after bilinear scaling to another size, a band of rows at a time."""
    classes, rows, _ = logits.shape
    step = max(1, _BAND // (classes * width))
    for top in range(0, height, step):
        bottom = min(top + step, height)
        place = (torch.arange(top, bottom, device=logits.device) + 0.5) * (rows / height) - 0.5
        place = place.clamp(0, rows - 1)
        above = place.floor().long()
        share = (place - above)[:, None]
        below = (above + 1).clamp(max=rows - 1)
        band = logits[:, above] * (1 - share) + logits[:, below] * share  # (classes, band, w)
        wide = F.interpolate(band[None], (bottom - top, width), mode="bilinear", align_corners=False)
        yield best(wide)[0, 0]


def device_of(network: nn.Module) -> torch.device:
    """Where the network's weights are."""
    weight = next(network.parameters(), None)
    return torch.device("cpu") if weight is None else weight.device


@contextmanager
def in_use(network: nn.Module) -> Iterator[None]:
    """Within this the network is in evaluation mode."""
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)
