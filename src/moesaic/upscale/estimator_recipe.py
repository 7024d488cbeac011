"""Everything that defines a training run of an estimator, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from moesaic.degrade.mix import check_mix
from moesaic.training.recipe_json import check_table, check_values, plain, read_recipe
from moesaic.upscale.estimator_inputs import SHRINKS, SORTS


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimatorRecipe:
    """What a run does; two runs of equal recipes and steps on one machine give equal weights.

    Raises:
        ArgumentError: a value is outside what it accepts; the text names it.
    """

    network: str = "severity_net"
    options: Mapping[str, Any] = field(default_factory=dict)  # of that network, such as {"hidden": 32}
    start: str | None = None  # weights file of the same network to begin from
    mix: Mapping[str, float] = field(
        default_factory=lambda: {
            "wild": 0.4,
            "noise": 0.15,
            "blur": 0.12,
            "jpeg": 0.18,
            "resolution": 0.05,
            "clean": 0.1,
        }
    )  # sorts of inputs, and how often each is drawn

    crop: int = 80  # px, the side of what a step sees; clean crops are up to four times as large
    batch: int = 32  # crops in a step
    shrink: float = 0.5  # chance that a crop is taken from its picture at half the size, which hides codec artefacts

    steps: int | None = None
    minutes: float | None = None  # of the whole run, from which steps are planned where they are not stated
    rate: float = 2e-3  # learning rate at its highest; AdamW, cosine
    warm_up: int = 100  # steps
    weight_decay: float = 1e-2  # of kernels and matrices; biases and norms have none
    betas: tuple[float, float] = (0.9, 0.99)  # of AdamW
    clip: float = 1.0  # largest norm of the gradient
    order: float = 0.3  # weight of the loss on the order of pairs
    average: float = 0.99  # decay of the averaged weights, which are what a run leaves
    precision: str = "float32"
    held_out: float = 0.06  # share of the pictures that is never trained on, and reported on
    validate_every: int = 500  # steps
    seed: int = 0

    def __post_init__(self) -> None:
        check_values(self, whole={"crop": 16, "batch": 2}, from_zero=("order",))
        check_table("options", self.options)
        check_table("mix", self.mix)
        check_mix(self.mix, SORTS)

    @property
    def largest_crop(self) -> int:
        """The largest side of a clean crop, px."""
        return self.crop * max(SHRINKS)

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {name: plain(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, held: Mapping[str, Any]) -> EstimatorRecipe:
        """The recipe that `to_json` wrote.

        Raises:
            ArgumentError: a value is missing its place or outside what it accepts.
        """
        return read_recipe(cls, held, "estimation")
