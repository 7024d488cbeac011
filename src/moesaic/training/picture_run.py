"""What runs that learn from crops of pictures share: the update of a step, what a checkpoint keeps, and every draw."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from moesaic.training.averaging import Average
from moesaic.training.device import channels_last
from moesaic.training.optimiser import parameter_groups
from moesaic.training.progress import Pace, Progress
from moesaic.training.psnr import mean_psnr
from moesaic.training.schedule import Schedule
from moesaic.training.seeds import generator_for, seed_for
from moesaic.values import is_number, is_table, is_whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from moesaic.training.bank import Bank
    from moesaic.training.log import Log, Silence
    from moesaic.training.parallel import Team
    from moesaic.weights_file import Card

LOG_EVERY = 100  # steps
READ_EVERY = 10  # steps; between them nothing waits for the device


class PictureRecipe(Protocol):
    """What every recipe of such a run states; each of them is a dataclass of plain values."""

    @property
    def batch(self) -> int:
        """Crops in a step."""

    @property
    def largest_crop(self) -> int:
        """The largest side that a step sees, px."""

    @property
    def steps(self) -> int | None:
        """Of the whole run; None: planned from `minutes`."""

    @property
    def minutes(self) -> float | None:
        """Of the whole run."""

    @property
    def rate(self) -> float:
        """Learning rate at its highest; AdamW, cosine."""

    @property
    def warm_up(self) -> int:
        """Steps in which it rises."""

    @property
    def weight_decay(self) -> float:
        """Of kernels and matrices."""

    @property
    def betas(self) -> tuple[float, float]:
        """Of AdamW."""

    @property
    def clip(self) -> float:
        """Largest norm of the gradient."""

    @property
    def average(self) -> float:
        """Decay of the averaged weights, which are what a run leaves."""

    @property
    def held_out(self) -> float:
        """Share of the pictures that is never trained on, and reported on."""

    @property
    def validate_every(self) -> int:
        """Steps."""

    @property
    def network(self) -> str:
        """The name of what is trained."""

    @property
    def start(self) -> str | None:
        """The weights file that the run begins from."""

    @property
    def seed(self) -> int:
        """Of every draw."""

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values."""


class PictureRun(ABC):
    """The base of such runs: a subclass says what a step's loss is (`take_step`), and how good it is (`validate`).

    Args:
        recipe: with its steps.
        model: with its first weights, on any device.
        train: what to learn from.
        team: the processes that train together, and their device.
        means: names of what `count` is told of in every step, whose means the log is told.
    """

    def __init__(
        self, recipe: PictureRecipe, model: Any, train: Bank, team: Team, *, means: Sequence[str] = ()
    ) -> None:
        self.plan, self.team, self.device = recipe, team, team.device
        self.train = train.near(self.device)
        self.steps = recipe.steps or 1
        self.step = 0
        self.scores: dict[str, float] = {}
        self.recent = math.nan  # a running mean of the loss
        self._means = tuple(means)
        self._sums = torch.zeros(len(self._means) + 1, device=self.device)  # of these, and of steps
        self._unread = torch.zeros(2, device=self.device)  # the sum of losses since the last look, and of bad steps
        self.model = model.to(self.device)
        channels_last(self.model)
        self.optimiser = torch.optim.AdamW(
            self.groups(), lr=recipe.rate, betas=recipe.betas, fused=True, weight_decay=recipe.weight_decay
        )
        self._shares = [group["lr"] / recipe.rate for group in self.optimiser.param_groups]
        self.average = Average(self.model, recipe.average)
        self._schedule = Schedule(steps=self.steps, warm_up=min(recipe.warm_up, self.steps // 5))

    def groups(self) -> list[dict[str, Any]]:
        """The learned parameters as an optimiser takes them; a group's own "lr" keeps its ratio to the rate."""
        return parameter_groups(self.model, self.plan.weight_decay)

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.step >= self.steps

    @property
    def rate_before(self) -> float:
        """The learning rate of the last step."""
        return self.plan.rate * self._schedule.factor(self.step - 1)

    @abstractmethod
    def take_step(self) -> object:
        """One batch: forward, backward, update. Every draw follows from the seed, the process and the step's number."""

    @abstractmethod
    def validate(self, log: Log | Silence, pace: Pace) -> None:
        """Score the model as it is on held-out pictures, if there are any, and write that into the log."""

    def figures(self) -> dict[str, Any]:
        """What the log is told of the steps since the last call: the means of what was counted."""
        *sums, steps = self._sums.tolist()
        self._sums.zero_()
        return {name: round(value / max(1.0, steps), 6) for name, value in zip(self._means, sums, strict=True)}

    def count(
        self,
        *values: Tensor,  # () each
    ) -> None:
        """What a step has to say of itself, in the order of the names; nothing waits for the device."""
        self._sums += torch.stack([*values, torch.ones_like(values[0])]).detach()

    def report(self, log: Log | Silence, pace: Pace) -> None:
        """After a step: write into the log what it did, and validate the averaged weights where that is due."""
        if self.step % LOG_EVERY == 0 or self.finished:
            seconds = round(pace.seconds, 2)
            log.write("step", self.step, seconds=seconds, rate=self.rate_before, **self.figures())
        if self.step % self.plan.validate_every == 0 and not self.finished:
            with self.average.applied(self.model):
                self.validate(log, pace)

    def finish(self, log: Log | Silence, pace: Pace) -> dict[str, Any]:
        """What the run leaves, the averaged weights, validated; it follows from the last step, and may be repeated."""
        with self.average.applied(self.model):
            self.validate(log, pace)
            return self.weights()

    def weights(self) -> dict[str, Any]:
        """A copy of those that the model has."""
        return {name: value.clone() for name, value in self.model.state_dict().items()}

    @abstractmethod
    def card(self, name: str, config: dict[str, Any]) -> Card:
        """What is to be known of the weights.

        Args:
            name: of the weights.
            config: what a checkpoint must agree with.
        """

    def update(
        self,
        loss: Tensor,  # ()
    ) -> Tensor:  # ()
        """One step of the optimiser and of the average, counted; gives the norm of the gradient before it was clipped.

        Raises:
            FloatingPointError: the loss or its gradient was no number in this step or one of a few before.
        """
        for group, share in zip(self.optimiser.param_groups, self._shares, strict=True):
            group["lr"] = share * self.plan.rate * self._schedule.factor(self.step)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.team.average_gradients(self.model)
        learned = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        norm = nn.utils.clip_grad_norm_(learned, self.plan.clip)
        self.optimiser.step()
        self.average.update(self.model)
        self.step += 1
        self._unread += torch.stack([loss.detach().float(), (~torch.isfinite(norm)).float()])
        if self.step % READ_EVERY == 0 or self.finished:
            self._look()
        return norm

    def check_finite(self) -> None:
        """Refuse to keep weights that are no numbers.

        Raises:
            FloatingPointError: one is not.
        """
        for state in (self.model.state_dict(), self.average.weights()):
            values = [value for value in state.values() if isinstance(value, Tensor) and value.is_floating_point()]
            norms = torch.stack(torch._foreach_norm([value.float() for value in values]))
            if not bool(norms.isfinite().all()):
                raise FloatingPointError("a weight is no longer finite")

    def progress(self, pace: Pace) -> Progress:
        """Where the run stands."""
        return Progress(
            step=self.step,
            steps=self.steps,
            loss=self.recent,
            psnr=mean_psnr(self.scores),
            seconds=pace.seconds,
            seconds_left=pace.seconds_left(self.step, self.steps),
        )

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "step": self.step,
            "scores": dict(self.scores),
            "recent": self.recent,
            "unread": self._unread,
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.state_dict(),
            **({"sums": self._sums} if self._means else {}),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave.

        Raises:
            ValueError: it holds a step or scores that this run cannot have.
        """
        step, scores = state["step"], state["scores"]
        if not is_whole(step, 0, self.steps):
            raise ValueError(f"step {step!r} is none of 0 to {self.steps}")
        if not (is_table(scores) and all(is_number(score) for score in scores.values())):
            raise ValueError("its scores are no numbers by name")
        self.step, self.scores, self.recent = step, dict(scores), float(state["recent"])
        self._unread.copy_(state["unread"])
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average.load_state_dict(state["average"])
        if self._means:
            self._sums.copy_(state["sums"])

    def _look(self) -> None:
        """Read the loss, and stop where a step had no number for a gradient."""
        total, bad = self._unread.tolist()
        count = (self.step - 1) % READ_EVERY + 1
        self._unread.zero_()
        if bad:
            raise FloatingPointError("the loss or its gradient became no number")
        mean = total / count
        self.recent = mean if math.isnan(self.recent) else 0.8 * self.recent + 0.2 * mean

    def seed(self, what: str) -> int:
        """Of what this process draws for a purpose in the next step."""
        return seed_for(self.plan.seed, self._ours(what), self.step)

    def generator(self, what: str) -> torch.Generator:
        """On the CPU; as `seed`."""
        return generator_for(self.plan.seed, self._ours(what), self.step)

    def _ours(self, what: str) -> str:
        return what if self.team.leads else f"{what} of process {self.team.rank}"


def written_scores(scores: Mapping[str, float]) -> dict[str, float]:
    """Scores on held-out pictures as a card has them, by name."""
    return {f"{_SCORE}{name}": value for name, value in scores.items()}


def read_scores(card: Card) -> dict[str, float]:
    """The scores that `written_scores` wrote down."""
    return {name.removeprefix(_SCORE): value for name, value in card.scores.items() if name.startswith(_SCORE)}


_SCORE = "held_out_psnr "
