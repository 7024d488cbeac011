"""Everything that defines a training run of an upscaler, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from moesaic.degrade.mix import check_mix, check_share
from moesaic.errors import ArgumentError
from moesaic.training.recipe_json import check_table, check_values, plain, read_recipe
from moesaic.upscale.pairs import SORTS

TOLD = ("estimator", "oracle", "constant", "shuffled")
"""What adapters are told of a picture: what the estimator says of it, what is true of it, always the same, or what is
said of another picture of the batch. The last two are controls."""

BALANCES = ("degradation", "plain", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class UpscaleRecipe:
    """What a run does; two runs of equal recipes and steps on one machine give equal weights.

    A network with `ranks` among its options learns these alone: the rest of it stays as `start` has it.

    Raises:
        ArgumentError: a value is outside what it accepts; the text names it.
    """

    network: str = "compact_upscaler"  # a name of moesaic.upscale.models.registry
    options: Mapping[str, Any] = field(default_factory=dict)  # of that network, such as {"width": 48}
    start: str | None = None  # weights file to begin from, of the same network with or without ranks
    mix: Mapping[str, float] = field(default_factory=lambda: {"bicubic": 0.6, "mild": 0.4})  # sorts of pairs
    scales: Mapping[int, float] = field(default_factory=lambda: {4: 0.7, 2: 0.3})  # and how often each is drawn
    told: str = "estimator"  # what adapters are told, see TOLD
    balance: str = "degradation"  # of the ranks' use, see BALANCES
    balance_weight: float = 0.01

    crop: int = 48  # px, the side of what a step sees, at the size of the input
    batch: int = 16  # crops in a step
    shrink: float = 0.5  # chance that a crop is taken from its picture at half the size, which hides codec artefacts

    steps: int | None = None
    minutes: float | None = None  # of the whole run, from which steps are planned where they are not stated
    rate: float = 1e-3  # learning rate at its highest; AdamW, cosine
    router_rate: float = 3.0  # that of routers, times the rate
    warm_up: int = 200  # steps
    weight_decay: float = 0.0  # of kernels and matrices; biases and norms have none
    betas: tuple[float, float] = (0.9, 0.99)  # of AdamW
    clip: float = 1.0  # largest norm of the gradient
    average: float = 0.999  # decay of the averaged weights, which are what a run leaves
    precision: str = "auto"
    held_out: float = 0.02  # share of the pictures that is never trained on, and reported on
    validate_every: int = 1000  # steps
    seed: int = 0

    def __post_init__(self) -> None:
        check_values(
            self,
            known={"told": TOLD, "balance": BALANCES},
            whole={"crop": 8},
            above=("router_rate",),
            from_zero=("balance_weight",),
        )
        self._check_tables()

    def _check_tables(self) -> None:
        check_table("options", self.options)
        check_table("mix", self.mix)
        check_mix(self.mix, SORTS)
        try:
            given = dict(self.scales)
            scales = {int(scale): share for scale, share in given.items()}  # JSON has texts for names
        except (OverflowError, TypeError, ValueError):
            raise ArgumentError(f"scales {self.scales!r} must give factors their shares, such as {{4: 0.7}}") from None
        if [str(scale) for scale in given] != [str(scale) for scale in scales] or not all(n >= 1 for n in scales):
            raise ArgumentError(f"scales {self.scales!r} must name whole factors from 1, each once, such as {{4: 0.7}}")
        for scale, share in scales.items():
            check_share(f"in scales, the share of {scale}", share)
        if not any(scales.values()):
            raise ArgumentError(f"scales {self.scales!r} give no factor a share above 0")
        object.__setattr__(self, "scales", scales)

    @property
    def largest_crop(self) -> int:
        """The largest side of a clean crop, px."""
        return self.crop * max(scale for scale, share in self.scales.items() if share)

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {name: plain(value) for name, value in asdict(self).items()} | {
            "scales": {str(scale): share for scale, share in self.scales.items()}
        }

    @classmethod
    def from_json(cls, held: Mapping[str, Any]) -> UpscaleRecipe:
        """The recipe that `to_json` wrote.

        Raises:
            ArgumentError: a value is missing its place or outside what it accepts.
        """
        return read_recipe(cls, held, "upscaling")
