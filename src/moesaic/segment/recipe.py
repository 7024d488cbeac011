"""Everything that defines a training run of a segmentation network, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from moesaic.errors import ArgumentError
from moesaic.routing.grid import read_grid
from moesaic.training.device import PRECISIONS
from moesaic.training.recipe_json import check_table, plain, read_recipe
from moesaic.training.schedule import SHAPES
from moesaic.values import is_number, is_pair, is_whole

OPTIMISERS = ("adamw", "sgd")
CLASS_WEIGHTS = ("enet", "median", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRecipe:
    """What a run does; two runs of equal recipes on one machine give equal weights.

    Raises:
        ArgumentError: a value is outside what it accepts; the text names it.
    """

    network: str = "enet"  # a name of moesaic.segment.networks.NETWORKS
    width: float = 1.0  # times every channel count
    options: Mapping[str, Any] = field(default_factory=dict)  # of that network alone, such as {"base": 32} of unet
    experts: int | None = None  # None: dense
    k: int = 2  # experts that act at a place
    grid: int | tuple[int, int] = 3  # rows and columns of places
    gate: str = "two_conv"
    gate_options: Mapping[str, Any] = field(default_factory=dict)
    place: str | None = None  # the layer that becomes experts; the network's own choice when None
    balance: str = "switch"
    balance_weight: float = 0.01
    start: str | None = None  # weights file to begin from; a dense one is upcycled: each expert a copy
    expert_noise: float = 0.0  # on the copies, as a share of the weights' standard deviation

    size: tuple[int, int] | None = None  # rows and columns to which pictures are scaled, px; as in the files when None
    crop: tuple[int, int] | None = None  # rows and columns that a step sees, px; all when None
    scale: tuple[float, float] = (0.75, 1.5)  # range of the augmentation
    flip: bool = True
    jitter: float = 0.2  # of brightness, contrast and saturation

    epochs: int | None = None  # None: as many as fit into the minutes of the first call
    batch: int = 8
    rate: float = 1e-3  # learning rate
    schedule: str = "cosine"
    warm_up: float = 2.0  # epochs
    optimiser: str = "adamw"
    weight_decay: float = 1e-4  # of kernels and matrices; biases and norms have none
    clip: float = 5.0  # largest norm of the gradient
    class_weights: str = "enet"  # enet: 1 / ln(1.02 + share), Paszke et al. 2016; median: median frequency / frequency
    label_smoothing: float = 0.0
    average: float | None = None  # decay of the averaged weights; None: an average over the last twentieth of the run
    precision: str = "auto"
    validate_every: int = 5  # epochs
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (
            ("schedule", SHAPES),
            ("optimiser", OPTIMISERS),
            ("class_weights", CLASS_WEIGHTS),
            ("precision", PRECISIONS),
        ):
            if getattr(self, name) not in tuple(known):
                raise ArgumentError(f"{name} {getattr(self, name)!r} is unknown; choose one of {', '.join(known)}")
        for name in ("network", "gate", "balance", "place", "start"):
            value = getattr(self, name)
            if not isinstance(value, str) and not (value is None and name in ("place", "start")):
                raise ArgumentError(f"{name} {value!r} must be a text")
        for name in ("options", "gate_options"):
            check_table(name, getattr(self, name))
        if not isinstance(self.flip, bool):
            raise ArgumentError(f"flip {self.flip!r} must be True or False")
        for name, low in (("batch", 1), ("epochs", 1), ("k", 1), ("experts", 1), ("validate_every", 1), ("seed", 0)):
            value = getattr(self, name)
            if not (value is None and name in ("epochs", "experts")) and not is_whole(value, low):
                raise ArgumentError(f"{name} {value!r} must be at least {low}, a whole number")
        for name in ("width", "rate", "clip"):
            value = getattr(self, name)
            if not (is_number(value) and 0 < value < float("inf")):
                raise ArgumentError(f"{name} {value!r} must be a number above 0")
        for name in ("weight_decay", "warm_up", "balance_weight", "expert_noise"):
            value = getattr(self, name)
            if not (is_number(value) and 0 <= value < float("inf")):
                raise ArgumentError(f"{name} {value!r} must be a number from 0")
        for name in ("jitter", "label_smoothing", "average"):
            value = getattr(self, name)
            if not (value is None and name == "average") and not (is_number(value) and 0 <= value < 1):
                raise ArgumentError(f"{name} {value!r} must be from 0 to below 1")
        if self.experts is not None and self.k > self.experts:
            raise ArgumentError(
                f"k {self.k} is more than the {self.experts} experts; choose k from 1 to {self.experts}"
            )
        if not (
            is_pair(self.scale) and all(map(is_number, self.scale)) and 0.1 <= self.scale[0] <= self.scale[1] <= 10
        ):
            raise ArgumentError(f"scale {self.scale!r} must be two rising factors from 0.1 to 10")
        read_grid(self.grid)
        for name in ("size", "crop"):
            sides = getattr(self, name)
            if sides is not None and not (is_pair(sides) and all(is_whole(side, 1) for side in sides)):
                raise ArgumentError(f"{name} {sides!r} must be rows and columns of at least 1 px")

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {name: plain(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, held: Mapping[str, Any]) -> SegmentRecipe:
        """The recipe that `to_json` wrote.

        Raises:
            ArgumentError: a value is missing its place or outside what it accepts.
        """
        return read_recipe(cls, held, "segmentation")

    def build_options(self, classes: int) -> dict[str, Any]:
        """What `moesaic.segment.networks.make_network` needs to build the same network again, as JSON values."""
        options: dict[str, Any] = {"classes": classes, "width": self.width, "options": self.options}
        if self.experts is not None:
            options |= {
                "experts": self.experts,
                "k": self.k,
                "grid": self.grid,
                "gate": self.gate,
                "gate_options": dict(self.gate_options),
                "place": self.place,
            }
        return {name: plain(value) for name, value in options.items()}
