"""upscale(): a picture at two or four times its size, and what was decided on the way."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from moesaic.errors import ArgumentError, LimitError, ModelError
from moesaic.image import PIXEL_LIMIT, read_picture
from moesaic.picture import Frame, Picture
from moesaic.training.device import channels_last, pick_device
from moesaic.upscale.diffusion import DiffusionUpscaler
from moesaic.upscale.explanation import RanksUsed, explanation
from moesaic.upscale.lora_file import load_ranks
from moesaic.upscale.models import DEFAULT_MODEL
from moesaic.upscale.models import registry as _registry
from moesaic.upscale.network import CompactUpscaler, enlarged
from moesaic.upscale.pieces import SMALLEST
from moesaic.upscale.tiled import upscale_tiled
from moesaic.values import is_a, is_number, is_whole
from moesaic.weights_file import card_of

if TYPE_CHECKING:
    from torch import Tensor

    from moesaic.image import PictureSource
    from moesaic.registry import Registry
    from moesaic.upscale.scores import Estimator, Scores
    from moesaic.weights_file import Card

_RIM = 3  # px of the input within what is opaque, where colours are not yet the network's


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Upscaled:
    """A picture at more pixels, and what was decided on the way."""

    picture: Picture
    source: Picture  # as it came
    scale: int
    scores: dict[str, float]  # how degraded the source is, by name, in [0, 1]; empty for a model without ranks
    severity: float | None  # all of it in one number
    ranks: dict[str, RanksUsed] = field(repr=False)  # by layer
    card: Card | None  # of the model; None for one that was not loaded from a file

    def routing_picture(self) -> Picture:
        """Before and after, how degraded the source is, and which ranks act; see `moesaic.upscale.explanation`."""
        return explanation(
            self.source,
            self.picture,
            self.ranks,
            scores=self.scores,
            severity=self.severity,
            model="" if self.card is None else self.card.name,
        )


def upscale(
    picture: PictureSource,
    scale: int = 4,
    model: CompactUpscaler | DiffusionUpscaler | str | os.PathLike[str] | None = None,
    *,
    severity: float | None = None,
    estimator: Estimator | str | os.PathLike[str] | None = None,
    colour: str | None = None,
    tile: int | None = None,
    device: str = "auto",
    pixel_limit: int = PIXEL_LIMIT,
    registry: Registry = _registry,
    progress: Callable[[int, int], None] | None = None,
) -> Upscaled:
    """Enlarge a real-world picture and undo what its way has done to it: blur, noise, and traces of compression.

    How degraded the picture is, is estimated once for the whole of it, and the ranks that this chooses are merged into
    the network before it runs; so tiles have no seams.

    Depth, profile and metadata are kept. Colours are enlarged as they show, multiplied by alpha; alpha itself is
    enlarged by bicubic interpolation, and so are the colours where it changes. A grey picture is shown to the network
    as one of three equal channels, and the mean of what comes back is grey again.

    Args:
        picture: anything that `moesaic.read_picture` takes.
        scale: output pixels for each pixel along a side, one that the model knows; the shipped one knows 2 and 4.
        model: the name of trained weights, a file that a training run wrote or its folder, a folder with weights of
            Stable Diffusion's kind (see `moesaic.upscale.diffusion.DiffusionUpscaler`), or a network, which stays on
            its device. The shipped model unless given.
        severity: how degraded the picture is taken to be, from 0 (not at all) to 1; estimated unless given.
        estimator: what estimates it, as `moesaic.upscale.estimators.make_estimator` takes it; the one that ships unless
            given. Sides below 8 px are filled up by their rim before it looks.
        colour: of diffusion alone: where coarse colours come from, "wavelet" (what is taken unless given), "adain" or
            "none"; see `moesaic.upscale.colour`.
        tile: side of the tiles, px of the input, of diffusion px of the output; unless given, one piece up to 512x512,
            of diffusion up to an output of 1024x1024, and fitting tiles beyond. Of the compact network they are never
            smaller than eight times as far as it looks.
        device: for a named model: "auto" (CUDA where it works), "cpu", "cuda", ...
        pixel_limit: largest W * H of the output to accept.
        registry: what to look names and architectures up in.
        progress: told the number of tiles done and of all.

    Raises:
        PictureError: the file is missing, damaged, or no picture.
        ModelError: the model is unknown, missing or damaged, learned with another estimator, or what it makes are no
            numbers.
        ArgumentError: an option is out of range, the pixels are no finite numbers, or the model is no upscaler, does
            not know the scale, or has nothing to set a severity for.
        LimitError: the output has more than `pixel_limit` pixels, or memory ran out.
        BackendError: the device cannot be used here.
    """
    check_options(scale, severity, tile)
    read = read_picture(picture, pixel_limit=pixel_limit)
    made = read.width * read.height * scale**2
    if made > pixel_limit:
        raise LimitError(
            f"x{scale} of {read.width} x {read.height} px are {made:,} pixels, more than the limit of {pixel_limit:,}; "
            "raise pixel_limit, or take a smaller scale"
        )
    if isinstance(model, CompactUpscaler | DiffusionUpscaler):
        network = model
    else:
        network = load_network(DEFAULT_MODEL if model is None else model, device=device, registry=registry)
    judge = None
    if network.mix is not None or estimator is not None:
        from moesaic.upscale.estimators import make_estimator

        judge = make_estimator(estimator)
    refuse_unfit(network, scale, severity=severity, estimator=judge, colour=colour)
    x = as_it_shows(read)
    colours = 3 if x.shape[1] >= 3 else 1
    shown = x[:, :colours].expand(1, 3, -1, -1)
    scores = None if network.mix is None or judge is None else scores_of(judge, lambda: _seen(judge, shown), severity)
    if isinstance(network, DiffusionUpscaler):
        source = x[:, :colours]
        how = "wavelet" if colour is None else colour
        large = network.upscale(source, scale, scores=scores, colour=how, tile=tile, progress=progress)
    else:
        merged = nullcontext() if network.mix is None or scores is None else network.mix.merged(scores.values)
        with in_use(network), merged:
            large = upscale_tiled(
                network, shown, scale, tile=tile, finish=lambda band: finished(band, colours), progress=progress
            )
    return Upscaled(
        picture=as_picture(large, x, scale, Frame.of(read)),
        source=read,
        scale=scale,
        scores={} if scores is None else dict(zip(scores.names, scores.values[0].tolist(), strict=True)),
        severity=None if scores is None else float(scores.severity[0]),
        ranks={} if scores is None else ranks_used(network, scores),
        card=card_of(network),
    )


def load_network(
    model: str | os.PathLike[str] = DEFAULT_MODEL,
    *,
    device: str = "auto",
    mode: str | None = None,
    registry: Registry = _registry,
) -> CompactUpscaler | DiffusionUpscaler:
    """A trained network, laid out as it runs fastest; `upscale` takes it for as many pictures as there are.

    Args:
        model: as `upscale` takes it, but for a network.
        device: as there.
        mode: the step of a model of Stable Diffusion's kind, "residual" (what is taken unless given) or "eps_t".
        registry: what to look names and architectures up in.

    Raises:
        ModelError: the model is unknown, missing or damaged.
        ArgumentError: the model is no upscaler, the device is unknown, or a mode is given for the compact one.
        BackendError: the device cannot be used here.
        MissingExtraError: it is of Stable Diffusion's kind, and the extra `diffusion` is not installed.
    """
    if not is_a(model, str, os.PathLike):
        raise ArgumentError(f"a model is a name, a path or an upscaler, not {type(model).__name__}")
    if model not in registry.names() and os.path.isdir(os.path.join(model, "unet")):  # noqa: PTH112, PTH118 - never raises
        return DiffusionUpscaler.load(model, device=device, mode="residual" if mode is None else mode)
    network = registry.load(model, device=str(pick_device(device)))
    if not isinstance(network, CompactUpscaler):
        raise ArgumentError(f"{os.fspath(model)} is a {type(network).__name__}, no upscaler; see `moesaic models`")
    if mode is not None:
        raise ArgumentError("mode is an option of diffusion models; the compact one has one step; leave it out")
    channels_last(network)
    return network


def with_ranks(
    network: CompactUpscaler | DiffusionUpscaler, file: str | os.PathLike[str], estimator: Estimator
) -> None:
    """Put the ranks of a file that `MixOfRanks.save` wrote into a model of diffusion.

    Args:
        network: it is changed.
        file: with the ranks.
        estimator: what will tell them how degraded a picture is.

    Raises:
        ModelError: the file is missing or damaged, its ranks do not fit, or learned with another estimator.
        ArgumentError: the network is no model of diffusion, or has ranks.
    """
    if not isinstance(network, DiffusionUpscaler):
        raise ArgumentError("ranks of a file are for models of diffusion; those of the compact one are in its own file")
    if network.mix is not None:
        raise ArgumentError("this network has its ranks; load it anew to give it others")
    network.mix = load_ranks(network, file, estimator=estimator.identity)


def check_options(scale: int, severity: float | None, tile: int | None) -> None:
    """Refuse options that mean nothing.

    Raises:
        ArgumentError: see there.
    """
    if not is_whole(scale, 1):
        raise ArgumentError(f"scale is a whole number such as 2 or 4, not {scale!r}")
    if severity is not None and not (is_number(severity) and 0 <= severity <= 1):
        raise ArgumentError(f"severity is a number from 0 (not degraded) to 1, not {severity!r}")
    if tile is not None and not is_whole(tile, 1):
        raise ArgumentError(f"tile is a whole number of px, at least 1, not {tile!r}")


def refuse_unfit(
    network: CompactUpscaler | DiffusionUpscaler,
    scale: int,
    *,
    severity: float | None = None,
    estimator: Estimator | None = None,
    colour: str | None = None,
) -> None:
    """Refuse what a network cannot do, whatever the picture; `upscale` does so, too.

    Args:
        network: to be used.
        scale: as `upscale` takes it.
        severity: as there.
        estimator: an estimator, or None where it is not known yet.
        colour: as `upscale` takes it.

    Raises:
        ArgumentError: it does not know the scale, has no ranks that a severity or an estimator could choose, takes no
            colours, or does not compute in float32 where it must.
        ModelError: its ranks learned with another estimator.
    """
    if scale not in network.scales:
        known = " or ".join(map(str, network.scales))
        raise ArgumentError(f"scale {scale} is unknown to this model; choose {known}")
    if network.mix is None and (severity is not None or estimator is not None):
        told = "an estimator" if severity is None else "a severity"
        raise ArgumentError(f"this model has no ranks that {told} could choose; leave it out")
    if isinstance(network, CompactUpscaler):
        if colour is not None:
            raise ArgumentError("colour is an option of diffusion models; the compact one keeps colours as they are")
        first = next(network.parameters())
        if first.dtype != torch.float32 or first.is_meta:
            told = "holds no numbers" if first.is_meta else f"computes in {str(first.dtype).removeprefix('torch.')}"
            raise ArgumentError(f"this network {told}, and pictures are float32; load it anew, or call .float()")
    learned = _learned_with(network)
    if estimator is not None and learned and estimator.identity != learned:
        raise ModelError(
            f"the model's ranks learned with the estimator {learned}, and this one is {estimator.identity}; "
            "pass theirs, or weights that learned with this one"
        )


def _seen(
    estimator: Estimator,
    x: Tensor,  # (1, 3, H, W)
) -> Scores:
    """What the estimator says of a picture that may be smaller than it takes."""
    more = [max(0, SMALLEST - side) for side in x.shape[-2:]]
    return estimator(F.pad(x, (0, more[1], 0, more[0]), mode="replicate") if any(more) else x)


def scores_of(estimator: Estimator, look: Callable[[], Scores], severity: float | None) -> Scores:
    """How degraded the picture is, or is taken to be where a severity is given.

    Raises:
        ModelError: what the estimator says are no scores of one picture.
    """
    said = look() if severity is None else estimator.at(severity)
    sizes = tuple(said.values.shape), tuple(said.severity.shape)
    if sizes != ((1, len(said.names)), (1,)):
        raise ModelError(
            f"the estimator {estimator.identity} gave values and severity of the shapes {sizes[0]} and {sizes[1]} for "
            f"{len(said.names)} names; they are to be (1, {len(said.names)}) and (1,)"
        )
    if not all(bool(((told >= 0) & (told <= 1)).all()) for told in (said.values, said.severity)):
        raise ModelError(f"the estimator {estimator.identity} gave numbers that are not from 0 to 1")
    return said


def _learned_with(network: CompactUpscaler | DiffusionUpscaler) -> str:
    """The identity of the estimator that a network's ranks were told by; "" where it is not known."""
    if isinstance(network, CompactUpscaler):
        return network.estimator
    card = None if network.mix is None else network.mix.card
    return "" if card is None else str(card.options.get("estimator", ""))


def ranks_used(network: CompactUpscaler | DiffusionUpscaler, scores: Scores) -> dict[str, RanksUsed]:
    """What each layer decides for these scores; nothing for a network without ranks."""
    if network.mix is None:
        return {}
    with network.mix.given(scores.values):
        routings = network.mix.routings()
    used = {}
    for name, layer in network.mix.layers.items():
        routing = routings.get(name)
        used[name] = RanksUsed(
            shared=layer.shared,
            routed=layer.routed,
            zero=layer.zero,
            chosen=() if routing is None else tuple(int(slot) for slot in routing.chosen[0, 0]),
            probabilities=() if routing is None else tuple(routing.probabilities[0, 0].tolist()),
        )
    return used


def finished(
    band: Tensor,  # (1, 3, rows, W)
    colours: int,
) -> Tensor:  # (1, 1 or 3, rows, W)
    """In [0, 1], and grey where the picture was.

    Raises:
        ModelError: a value is no finite number.
    """
    if not bool(band.isfinite().all()):
        raise ModelError("what the model makes of this picture are no finite numbers; train it anew, or take another")
    return (band.mean(1, keepdim=True) if colours == 1 else band).clamp(0, 1)


def as_it_shows(picture: Picture) -> Tensor:  # (1, C, H, W)
    """The colours multiplied by alpha, and alpha; a view of the picture's pixels where it has none."""
    pixels = picture.premultiplied() if picture.has_alpha else picture.pixels
    if not pixels.flags.writeable:
        pixels = pixels.copy()
    return torch.from_numpy(np.moveaxis(pixels, 2, 0))[None]


def as_picture(
    large: Tensor,  # (1, 1 or 3, H', W'), in [0, 1]
    x: Tensor,  # (1, C, H, W), the picture as it came, multiplied by alpha
    scale: int,
    frame: Frame,
    above: int = 0,
) -> Picture:
    """The enlarged pixels with all that the picture has beside its pixels.

    Where these are a band of rows, x is what they were made from with `above` rows before it, and some behind it.
    """
    if not frame.has_alpha:
        return frame.filled(large[0].permute(1, 2, 0).numpy())
    # At the rim of what is opaque the network sharpens a fall to black that is alpha's alone: divided by an alpha
    # that is smoother, it would leave a fringe. Bicubic interpolation does the same to both.
    inside = -F.max_pool2d(-F.pad(x[:, -1:], [_RIM] * 4, mode="replicate"), 2 * _RIM + 1, stride=1)
    rows = slice(above * scale, above * scale + large.shape[2])
    whole = enlarged(x, scale).clamp(0, 1)[:, :, rows]
    whole[:, :-1].lerp_(large, F.interpolate(inside, scale_factor=scale, mode="bilinear")[:, :, rows])
    pixels = whole[0].permute(1, 2, 0).numpy()
    return Picture.from_premultiplied(pixels, depth=frame.depth, icc=frame.icc, exif=frame.exif, xmp=frame.xmp)


@contextmanager
def in_use(network: CompactUpscaler) -> Iterator[None]:
    """Within this the network is in evaluation mode."""
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)
