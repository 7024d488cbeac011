"""Everything that defines a training run of a predictor, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from moesaic.errors import ArgumentError
from moesaic.predict.stages import SHARES, checked_shares
from moesaic.training.recipe_json import check_table, check_values, plain, read_recipe
from moesaic.values import is_a, is_number

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
    options: Mapping[str, Any] = field(default_factory=dict)  # of that network, such as {"width": 64}
    start: str | None = None  # weights file to begin from, of the same network

    shares: tuple[float, ...] = SHARES  # of all kernels, how many there are after each stage
    unlock: tuple[float, ...] = (0.0, 0.2, 0.4)  # share of the run from which each stage is trained
    densest: float = 20.0  # px for each kernel, at the least; drawn for each crop, evenly by its logarithm
    sparsest: float = 80.0  # and at the most
    teacher: str = "render"
    teacher_steps: int = 20  # of a fit, for the teacher "optimise"
    colours: int = 4  # steps of conjugate gradients on the colours of what is drawn
    colour_weight: float = 0.2  # of the distance of the colours that are said to those in closed form

    crop: int = 112  # px
    batch: int = 8  # crops in a step
    shrink: float = 0.5  # chance that a crop is taken from its picture at half the size, which hides codec artefacts

    steps: int | None = None
    minutes: float | None = None  # of the whole run, from which steps are planned where they are not stated
    rate: float = 1e-3  # learning rate at its highest; AdamW, cosine
    warm_up: int = 200  # steps
    weight_decay: float = 0.0  # of kernels and matrices; biases and norms have none
    betas: tuple[float, float] = (0.9, 0.99)  # of AdamW
    clip: float = 1.0  # largest norm of the gradient
    average: float = 0.999  # decay of the averaged weights, which are what a run leaves
    precision: str = "float32"  # of the map; kernels are always float32
    held_out: float = 0.02  # share of the pictures that is never trained on, and reported on
    validate_every: int = 1000  # steps
    seed: int = 0

    def __post_init__(self) -> None:
        check_values(
            self,
            known={"teacher": TEACHERS},
            whole={"crop": 32, "teacher_steps": 1, "colours": 0},
            above=("densest", "sparsest"),
            from_zero=("colour_weight",),
        )
        check_table("options", self.options)
        self._check_stages()
        if self.densest > self.sparsest:
            raise ArgumentError(f"densest {self.densest:g} must not be above sparsest {self.sparsest:g}")

    def _check_stages(self) -> None:
        object.__setattr__(self, "shares", checked_shares(self.shares))
        unlock = self.unlock
        listed = is_a(unlock, tuple, list) and all(is_number(one) and 0 <= one <= 1 for one in unlock)
        if not listed or len(unlock) != len(self.shares) or unlock[0] != 0 or sorted(unlock) != list(unlock):
            raise ArgumentError(
                f"unlock {unlock!r} must be one number from 0 to 1 for each share, the first 0, that never fall"
            )
        object.__setattr__(self, "unlock", tuple(unlock))

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
