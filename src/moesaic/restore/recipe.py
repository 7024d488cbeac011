"""Everything that defines a training run of a restoration network, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from moesaic.degrade.mix import check_mix
from moesaic.errors import ArgumentError
from moesaic.restore.loss import FLOOR
from moesaic.training.recipe_json import check_table, check_values, plain, read_recipe
from moesaic.values import is_number

FLOOR_SHARE = 0.7
"""Of the steps, in which the floor of the loss "decibel" falls, by the same factor in each."""
PIXEL_LOSSES = ("charbonnier", "l1", "decibel")


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreRecipe:
    """What a run does; two runs of equal recipes and steps on one machine give equal weights.

    The length is stated as `steps`, or as `minutes` of the whole run: then the speed is measured when the run begins,
    and the number of steps is settled for good. It is no limit on a call: `train_restore` takes `piece` for that.

    Raises:
        ArgumentError: a value is outside what it accepts; the text names it.
    """

    network: str = "moce_lite"  # a name of moesaic.restore.models.registry
    options: Mapping[str, Any] = field(default_factory=dict)  # of that network, such as {"channels": 32}
    start: str | None = None  # weights file of the same network to begin from
    mix: Mapping[str, float] | None = None  # sorts of damage and how often each is drawn; None: the default mix

    crop: int = 96  # px, the side of what a step sees
    batch: int = 16  # crops in a step
    late_crop: int | None = None  # px, in the last part of the run, with as many pixels in a batch; None: as before
    late_share: float = 0.15  # of the steps
    grey: float = 0.0  # share of the crops that are grey, before their damage and after it
    shrink: float = 0.5  # chance that a crop is taken from its picture at half the size, which hides codec artefacts

    steps: int | None = None
    minutes: float | None = None  # of the whole run, from which steps are planned where they are not stated
    rate: float = 1e-3  # learning rate at its highest; AdamW, cosine
    warm_up: int = 200  # steps
    weight_decay: float = 1e-4  # of kernels and matrices; biases and norms have none
    betas: tuple[float, float] = (0.9, 0.9)  # of AdamW
    clip: float = 1.0  # largest norm of the gradient
    pixel_loss: str = "charbonnier"
    floor_begin: float = FLOOR  # mean squared error from which the floor of "decibel" falls to its own; see FLOOR_SHARE
    fourier: float = 0.05  # weight of the loss on frequencies; see moesaic.restore.loss for its scale
    labels: float = 0.02  # weight of the loss on what is said to be there, and how strong
    cost: float = 0.0  # weight of the expected cost of the chosen experts
    explore: float = 1.0  # share of the pictures whose experts are drawn, at the beginning; for moce_lite, whose
    explore_end: float = 1.0  # gates learn last, and at the end; in between on a line
    trials: int = 6000  # crops on which every expert is tried at the end, for gates that learn last; fewer where that
    # would take more than a quarter of the minutes
    tolerance: float = 0.05  # dB that their choice may lose on average, from which the price of compute is set
    average: float = 0.999  # decay of the averaged weights, which are what a run leaves
    precision: str = "auto"
    held_out: float = 0.02  # share of the pictures that is never trained on, and reported on
    validate_every: int = 2000  # steps
    seed: int = 0

    def __post_init__(self) -> None:
        check_values(
            self,
            known={"pixel_loss": PIXEL_LOSSES},
            whole={"crop": 8, "late_crop": 8, "trials": 1},
            from_zero=("fourier", "labels", "cost", "tolerance"),
            shares=("late_share", "grey", "explore", "explore_end"),
            optional=("late_crop",),
        )
        if not (is_number(self.floor_begin) and FLOOR <= self.floor_begin <= 1):
            raise ArgumentError(f"floor_begin {self.floor_begin!r} must be a mean squared error from {FLOOR:g} to 1")
        self._check_tables()

    def _check_tables(self) -> None:
        check_table("options", self.options)
        if self.mix is not None:
            check_table("mix", self.mix)
            check_mix(self.mix)

    @property
    def late_batch(self) -> int:
        """Crops in a step of the last part: as many pixels as before, at least one crop."""
        return max(1, round(self.batch * (self.crop / (self.late_crop or self.crop)) ** 2))

    @property
    def largest_crop(self) -> int:
        """The largest side that a step sees, px."""
        return max(self.crop, self.late_crop or 0)

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {name: plain(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, held: Mapping[str, Any]) -> RestoreRecipe:
        """The recipe that `to_json` wrote.

        Raises:
            ArgumentError: a value is missing its place or outside what it accepts.
        """
        return read_recipe(cls, held, "restoration")
