"""make_network(): one of the six networks by name, dense or with one convolution turned into a patch mixture."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, Literal

import torch

from moesaic.errors import ArgumentError
from moesaic.segment.networks.deeplab import deeplab
from moesaic.segment.networks.enet import enet
from moesaic.segment.networks.erfnet import erfnet
from moesaic.segment.networks.lraspp import lraspp
from moesaic.segment.networks.pspnet import pspnet
from moesaic.segment.networks.unet import unet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from moesaic.routing.dispatch import How
    from moesaic.segment.networks.network import SegmentationNetwork

NETWORKS: dict[str, Callable[..., SegmentationNetwork]] = {
    "enet": enet,
    "erfnet": erfnet,
    "unet": unet,
    "lraspp": lraspp,
    "deeplab": deeplab,
    "pspnet": pspnet,
}


def make_network(
    name: str,
    classes: int,
    *,
    channels: int = 3,
    width: float = 1.0,
    options: Mapping[str, Any] | None = None,
    experts: int | None = None,
    k: int = 2,
    grid: int | tuple[int, int] = 3,
    gate: str = "two_conv",
    gate_options: Mapping[str, Any] | None = None,
    balance: str = "switch",
    balance_weight: float = 0.01,
    place: str | None = None,
    initial: Literal["copy", "fresh"] = "fresh",
    jitter: float = 0.0,
    how: How = "auto",
    seed: int = 0,
) -> SegmentationNetwork:
    """A network with fresh weights; with `experts`, one of its convolutions is a patch mixture (arXiv 2604.13761).

    Args:
        name: "enet", "erfnet", "unet", "lraspp", "deeplab" (DeepLabv3+) or "pspnet".
        classes: number of classes.
        channels: channels of the pictures.
        width: factor on all channel counts.
        options: what only this network knows: {"base": 32} for "unet", {"unpool": False} for "enet".
        experts: how many experts the mixture has; None leaves the network dense, and all that follows but the seed
            without a meaning.
        k: how many experts act at a place.
        grid: rows and columns of places, one number or two.
        gate: see `moesaic.routing.sparsify`, as for all that follows.
        gate_options: passed to the gate.
        balance: the balance loss.
        balance_weight: its factor.
        place: name of the convolution; None takes the network's `moe_place`, and `moe_places` lists others.
        initial: experts drawn each for itself, "fresh", since a network from scratch has nothing to copy; or "copy".
        jitter: noise on copies.
        how: the form of dispatch.
        seed: the same seed gives the same weights; torch's global generator is left as it was.

    Raises:
        ArgumentError: an unknown network, option or layer, or another argument outside its values.
    """
    if name not in NETWORKS:
        close = difflib.get_close_matches(name, NETWORKS, n=1)
        hint = f"did you mean {close[0]!r}? There are" if close else "choose one of"
        raise ArgumentError(f"network {name!r} is unknown; {hint} {', '.join(NETWORKS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            network = NETWORKS[name](classes, channels=channels, width=width, **dict(options or {}))
        except TypeError as cause:
            raise ArgumentError(f"options {dict(options or {})} do not fit {name!r}: {cause}") from cause
    if experts is not None:
        from moesaic.routing.convert import sparsify

        sparsify(
            network,
            network.moe_place if place is None else place,
            experts,
            k,
            grid,
            gate=gate,
            gate_options=gate_options,
            balance=balance,
            balance_weight=balance_weight,
            initial=initial,
            jitter=jitter,
            how=how,
            seed=seed,
            inplace=True,
        )
    return network
