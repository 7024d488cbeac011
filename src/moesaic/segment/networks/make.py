"""make_network(): one of the six networks by name, dense or with one convolution turned into a patch mixture."""

from __future__ import annotations

import difflib
import functools
from typing import TYPE_CHECKING, Any, Literal

import torch

from moesaic.errors import ArgumentError, LimitError
from moesaic.memory import machine_bytes, within_memory
from moesaic.segment.networks.deeplab import deeplab
from moesaic.segment.networks.enet import enet
from moesaic.segment.networks.erfnet import erfnet
from moesaic.segment.networks.lraspp import lraspp
from moesaic.segment.networks.pspnet import pspnet
from moesaic.segment.networks.unet import unet
from moesaic.shapes import as_shapes
from moesaic.values import is_number, is_table, is_whole

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
        LimitError: there is not enough memory for such a network.
    """
    if name not in tuple(NETWORKS):
        close = difflib.get_close_matches(str(name), NETWORKS, n=1)
        hint = f"did you mean {close[0]!r}? There are" if close else "choose one of"
        raise ArgumentError(f"network {name!r} is unknown; {hint} {', '.join(NETWORKS)}")
    if not is_whole(seed, -(2**63), 2**64 - 1):
        raise ArgumentError(f"seed is a whole number of at most 64 bits, not {seed!r}")
    if options is not None and not is_table(options):
        raise ArgumentError(f'options is a table of names such as {{"base": 32}}, not {options!r}')
    own = dict(options or {})
    extra = "".join(f", {option} {value!r}" for option, value in own.items())
    told = f"{name} with {classes} classes, {channels} channels, width {width}{extra}; lower one of them"
    make = functools.partial(NETWORKS[name], classes, channels=channels, width=width, **own)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            with within_memory(told):
                if own or not (is_number(width) and width <= 4 and is_whole(classes, 1, 1000)):
                    _check_size(make, told)
                network = make()
        except TypeError as cause:
            raise ArgumentError(f"options {own} do not fit {name!r}: {cause}") from cause
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


def _check_size(make: Callable[[], SegmentationNetwork], told: str) -> None:
    """Refuse a network that cannot be held before it fills the machine: systems promise more memory than they have.

    Raises:
        LimitError: its weights alone are more than the machine's memory.
    """
    size = sum(parameter.numel() * parameter.element_size() for parameter in as_shapes(make).parameters())
    if size > machine_bytes():
        raise LimitError(f"there is not enough memory for {told}")
