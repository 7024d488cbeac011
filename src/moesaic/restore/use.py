"""restore(): a picture without its damage, and what was decided on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from moesaic.errors import ArgumentError, ModelError
from moesaic.image import PIXEL_LIMIT, read_picture
from moesaic.picture import Picture
from moesaic.registry import Registry
from moesaic.restore.explanation import Choice, explanation, found_in_words
from moesaic.restore.gain_gate import checked_price
from moesaic.restore.models import DEFAULT_MODEL
from moesaic.restore.models import registry as _registry
from moesaic.restore.network import MoceLite
from moesaic.restore.tiled import decide, restore_tiled
from moesaic.routing.collect import routed_layers
from moesaic.training.device import channels_last, pick_device
from moesaic.values import is_a, is_number, is_whole
from moesaic.weights_file import card_of

if TYPE_CHECKING:
    import os

    from torch import Tensor

    from moesaic.image import PictureSource
    from moesaic.restore.decision import Decision
    from moesaic.weights_file import Card


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decided:
    """What was decided about a picture."""

    decision: Decision  # one for the whole picture
    labels: tuple[str, ...]  # of the degradations that the network names; empty where it names none
    choices: tuple[Choice, ...]  # of each routed layer, in the order of the network's layers
    card: Card | None  # of the model; None for one that was not loaded from a file

    @property
    def detected(self) -> dict[str, float]:
        """The probability that each degradation is there, by its label."""
        return _by_label(self.labels, self.decision.present)

    @property
    def severity(self) -> dict[str, float]:
        """How strong each degradation is, in [0, 1], by its label; means little where its probability is low."""
        return _by_label(self.labels, self.decision.severity)

    @property
    def experts(self) -> dict[str, int]:
        """The chosen expert of each routed layer, counted from 0, by the layer's name."""
        return {choice.layer: choice.chosen for choice in self.choices}

    @property
    def cost(self) -> float:
        """The share of the dearest decoder that was spent, in (0, 1]."""
        return float(self.decision.cost[0])

    def drawn(self, before: Picture, after: Picture) -> Picture:
        """Before and after, what was found, who was chosen, and the cost; see `moesaic.restore.explanation`."""
        return explanation(
            before,
            after,
            self.choices,
            detected=self.detected,
            severity=self.severity,
            cost=self.cost,
            model="" if self.card is None else self.card.name,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Restored(Decided):
    """A picture without its damage, and what was decided on the way."""

    picture: Picture
    source: Picture  # as it came

    def __repr__(self) -> str:
        size = f"{self.picture.width}x{self.picture.height}"
        parts = (size, found_in_words(self.detected), f"{self.cost:.0%} of the dearest decoder")
        return f"Restored({', '.join(part for part in parts if part)})"

    @property
    def change(self) -> float:
        """How far the colours as they show are from what they were: mean absolute difference, in levels of 255."""
        return float((as_it_shows(self.picture) - as_it_shows(self.source)).abs_().mean()) * 255

    def routing_picture(self) -> Picture:
        """Before and after, what was found, who was chosen, and the cost; see `moesaic.restore.explanation`."""
        return self.drawn(self.source, self.picture)


def restore(
    picture: PictureSource,
    model: nn.Module | str | os.PathLike[str] | None = None,
    *,
    strength: float = 1.0,
    price: float | None = None,
    tile: int | None = None,
    device: str = "auto",
    pixel_limit: int = PIXEL_LIMIT,
    registry: Registry = _registry,
    progress: Callable[[int, int], None] | None = None,
) -> Restored:
    """Take noise, rain, haze, snow, blur, darkness and traces of compression out of a picture.

    What is wrong with the picture, and which experts act, is decided once for the whole of it. Up to 1.5 megapixels it
    is looked at and restored in one piece. Of a larger one 16 pieces of 320x320 px, spread evenly at full resolution,
    are looked at, and then it is restored tile by tile.

    Size, depth, profile and metadata are kept. Alpha is kept as it is, and colours are restored as they show,
    multiplied by it. A grey picture is shown to the network as one of three equal channels, and the mean of what comes
    back is grey again.

    Args:
        picture: anything that `moesaic.read_picture` takes.
        model: the name of trained weights, a file that a training run wrote or its folder, or a network, which stays on
            its device. The shipped model unless given.
        strength: how much of the change is made: 1 all of it, 0 none, which hands the picture back as it came.
        price: dB that the compute of a whole decoder must be worth, to 1000: 0 takes whoever helps most, more spares
            compute. The model's own unless given.
        tile: side of the tiles, px, rounded up to a multiple of 16. Unless given, one piece up to 1.5 megapixels as far
            as memory allows, and 768 px beyond.
        device: for a named model: "auto" (CUDA where it works), "cpu", "cuda", ...
        pixel_limit: largest W * H to accept.
        registry: what to look names and architectures up in.
        progress: told the number of tiles done and of all.

    Raises:
        PictureError: the file is missing, damaged, or no picture.
        ModelError: the model is unknown, missing or damaged, or what it makes are no numbers.
        ArgumentError: an option is out of range, the pixels are no finite numbers, the model is no restoration network,
            or it has no price.
        LimitError: the picture has more than `pixel_limit` pixels, or memory ran out.
        BackendError: the device cannot be used here.
    """
    check_options(strength, price, tile)
    if progress is not None and not callable(progress):
        raise ArgumentError(f"progress is a function of two numbers, not {type(progress).__name__}")
    read = read_picture(picture, pixel_limit=pixel_limit)
    if isinstance(model, nn.Module):
        network = model
    else:
        network = load_network(DEFAULT_MODEL if model is None else model, device=device, registry=registry)
    check_network(network, price)
    shown = as_it_shows(read)
    x = shown.expand(3, -1, -1)[None]
    with in_use(network), priced(network, price):
        if strength == 0:
            decision, after = decide(network, x), read
        else:
            finish = partial(finished, channels=len(shown))
            restored, decision = restore_tiled(network, x, tile=tile, finish=finish, progress=progress)
            after = as_picture(torch.lerp(shown, restored[0], strength) if strength < 1 else restored[0], read)
        choices = choices_of(network, decision)
    return Restored(
        picture=after,
        source=read,
        decision=decision,
        labels=tuple(getattr(network, "labels", ())),
        choices=choices,
        card=card_of(network),
    )


def load_network(
    model: str | os.PathLike[str] = DEFAULT_MODEL, *, device: str = "auto", registry: Registry = _registry
) -> nn.Module:
    """A trained network, laid out as it runs fastest; `restore` takes it for as many pictures as there are.

    Raises:
        ModelError: the model is unknown, missing or damaged.
        ArgumentError: the device is unknown, or `registry` is none.
        BackendError: the device cannot be used here.
    """
    if not is_a(registry, Registry):
        raise ArgumentError(f"registry is a moesaic Registry, not {type(registry).__name__}")
    network = registry.load(model, device=str(pick_device(device)))
    channels_last(network)
    return network


def check_options(strength: float, price: float | None, tile: int | None) -> None:
    """Refuse options that mean nothing.

    Raises:
        ArgumentError: see there.
    """
    if not (is_number(strength) and 0 <= strength <= 1):
        raise ArgumentError(f"strength is a number from 0 (no change) to 1 (all of it), not {strength!r}")
    if price is not None:
        checked_price(price)
    if tile is not None and not is_whole(tile, 1):
        raise ArgumentError(f"tile is a whole number of px, at least 1, not {tile!r}")


def check_network(network: nn.Module, price: float | None) -> None:
    """Refuse networks of another kind.

    Raises:
        ArgumentError: see there.
    """
    if not callable(getattr(network, "look", None)):
        raise ArgumentError(
            f"model is a {type(network).__name__}, which decides nothing for whole pictures (it has no `look`); pass a"
            " restoration network, such as moesaic.create_model('moce_lite')"
        )
    if price is not None and not hasattr(network, "price"):
        raise ArgumentError(f"{type(network).__name__} has no price of compute; leave price out")


def finished(
    restored: Tensor,  # (1, 3, rows, W)
    channels: int,
) -> Tensor:  # (1, channels, rows, W)
    """In [0, 1], and grey where the picture was.

    Raises:
        ModelError: a value is no finite number.
    """
    if not bool(restored.isfinite().all()):
        raise ModelError("what the model makes of this picture are no finite numbers; train it anew, or take another")
    if channels == 1:
        restored = restored.mean(1, keepdim=True)
    return restored.float().clamp(0, 1)


def as_it_shows(picture: Picture) -> Tensor:  # (1 or 3, H, W)
    """The colours multiplied by alpha; a view of the picture's pixels where it has none."""
    pixels = picture.premultiplied()[..., :-1] if picture.has_alpha else picture.pixels
    if not pixels.flags.writeable:
        pixels = pixels.copy()
    return torch.from_numpy(np.moveaxis(pixels, 2, 0))


def as_picture(
    restored: Tensor,  # (1 or 3, H, W), in [0, 1]
    read: Picture,
) -> Picture:
    """The restored pixels with all that the picture has beside its colours."""
    pixels = np.ascontiguousarray(restored.permute(1, 2, 0).numpy())
    if not read.has_alpha:
        return replace(read, pixels=pixels)
    whole = np.concatenate([pixels, read.pixels[..., -1:]], axis=2)
    return Picture.from_premultiplied(whole, depth=read.depth, icc=read.icc, exif=read.exif, xmp=read.xmp)


def choices_of(network: nn.Module, decision: Decision) -> tuple[Choice, ...]:
    """What each routed layer decided, with what its experts cost where the network knows it."""
    layers, work = routed_layers(network), getattr(network, "decoder_work", None)
    choices = []
    for name, routing in decision.routings.items():
        costs = getattr(layers[name].gate, "costs", None) if name in layers else None
        shares = tuple(costs.tolist()) if isinstance(costs, torch.Tensor) else ()
        if work is not None:
            shares = tuple(macs / work.dearest for macs in work.experts[name])
        choices.append(
            Choice(
                layer=name,
                title=_title(network, name),
                chosen=int(routing.chosen[0, 0, 0]),
                probabilities=tuple(routing.probabilities[0, 0].tolist()),
                costs=shares,
            )
        )
    return tuple(choices)


def _title(network: nn.Module, layer: str) -> str:
    """The name of a routed layer for people."""
    level = layer.rpartition(".")[2]
    return f"At 1/{2 ** (int(level) + 1)} of the size" if isinstance(network, MoceLite) else layer


def _by_label(labels: tuple[str, ...], values: Tensor | None) -> dict[str, float]:
    return {} if values is None else dict(zip(labels, values[0].tolist(), strict=True))


@contextmanager
def in_use(network: nn.Module) -> Iterator[None]:
    """Within this the network is in evaluation mode."""
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)


@contextmanager
def priced(network: Any, price: float | None) -> Iterator[None]:
    """Within this compute has that price."""
    if price is None:
        yield
        return
    before = network.price
    network.price = float(price)
    try:
        yield
    finally:
        network.price = before
