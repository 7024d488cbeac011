"""Everything that defines a training run of a predictor, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from moesaic.errors import ArgumentError
from moesaic.predict.stages import SHARES, checked_shares
from moesaic.training.recipe_json import check_table, check_values, plain, read_recipe
from moesaic.values import is_a

TEACHERS = ("render", "optimise")
"""What the numbers of kernels learn from: the loss of the picture that they show, through the renderer; or what some
steps of a fit make of them (predict, optimise, distil)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictRecipe:
    """What a run does; two runs of equal recipes and steps on one machine give equal weights.

    Raises:
        ArgumentError: a value is outside what it accepts; the text names it.
    """

    network: str = "mixture_predictor"  # a name of moesaic.predict.models.registry
    options: Mapping[str, Any] = field(default_factory=dict)  # of that network, such as {"hidden": 64}
    start: str | None = None  # weights file to begin from, of the same network

    shares: tuple[float, ...] = SHARES  # of all kernels, how many there are in each stage
    unlock: float = 0.1  # share of the run in which the number of stages that are trained rises to all
    together: bool = True  # what a later stage draws teaches earlier ones, too
    densest: float = 15.0  # px for each kernel, at the least; drawn for each crop, evenly by its logarithm
    sparsest: float = 160.0  # and at the most
    teacher: str = "render"
    teacher_steps: int = 20  # of a fit, for the teacher "optimise"

    crop: int = 144  # px
    batch: int = 2  # crops in a step
    shrink: float = 0.5  # chance that a crop is taken from its picture at half the size, which hides codec artefacts

    steps: int | None = None
    minutes: float | None = None  # of the whole run, from which steps are planned where they are not stated
    rate: float = 2e-3  # learning rate at its highest; AdamW, cosine
    warm_up: int = 200  # steps
    weight_decay: float = 0.0  # of kernels and matrices; biases and norms have none
    betas: tuple[float, float] = (0.9, 0.98)  # of AdamW
    clip: float = 1.0  # largest norm of the gradient
    average: float = 0.999  # decay of the averaged weights, which are what a run leaves
    precision: str = "float32"  # of the network; kernels are always float32
    held_out: float = 0.02  # share of the pictures that is never trained on, and reported on
    validate_every: int = 1000  # steps
    seed: int = 0

    def __post_init__(self) -> None:
        check_values(
            self,
            known={"teacher": TEACHERS},
            whole={"crop": 32, "teacher_steps": 1},
            above=("densest", "sparsest"),
            from_zero=("unlock",),
        )
        check_table("options", self.options)
        object.__setattr__(self, "shares", checked_shares(self.shares))
        if not is_a(self.together, bool):
            raise ArgumentError(f"together is True or False, not {self.together!r}")
        if self.unlock > 1:
            raise ArgumentError(f"unlock {self.unlock:g} must be a share of the run, at most 1")
        if self.densest > self.sparsest:
            raise ArgumentError(f"densest {self.densest:g} must not be above sparsest {self.sparsest:g}")

    @property
    def largest_crop(self) -> int:
        """The side of a crop, px."""
        return self.crop

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {name: plain(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, held: Mapping[str, Any]) -> PredictRecipe:
        """The recipe that `to_json` wrote.

        Raises:
            ArgumentError: a value is missing its place or outside what it accepts.
        """
        return read_recipe(cls, held, "predicting")
