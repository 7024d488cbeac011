"""How well an estimator tells damage on held-out pictures: by ranks, for each sort by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from moesaic.training.seeds import generator_for
from moesaic.training.store import as_input
from moesaic.upscale.estimator_inputs import SHRINKS, draw_inputs
from moesaic.upscale.rank_correlation import rank_correlation
from moesaic.upscale.typical import POINTS, Typical

if TYPE_CHECKING:
    from torch import Tensor

    from moesaic.training.bank import Bank
    from moesaic.upscale.estimator_inputs import Inputs
    from moesaic.upscale.severity_net import SeverityNet

SORTS = ("noise", "blur", "jpeg", "resolution")
_MOST = 36  # pictures
_ROUNDS = 3  # strengths of each damage that each picture is shown at
_SEED = 20  # of the damage: the same for all runs, whatever their own seed


class Validation:
    """The middles of a few held-out pictures, damaged once in every way and at several strengths.

    Args:
        bank: the pictures that are held out; at most 36 are taken.
        crop: side of what an estimator is shown, px.
        device: where to compute.
    """

    def __init__(self, bank: Bank, crop: int, device: torch.device) -> None:
        self.sets: dict[str, list[Inputs]] = {}
        for sort in (*SORTS, "wild"):
            self.sets[sort] = [
                _drawn(bank, crop, shrink, {sort: 1.0}, f"{sort} {turn}", device)
                for turn in range(_ROUNDS)
                for shrink in SHRINKS[turn % 2 :: 2]
            ]

    @torch.inference_mode()
    def scores(self, model: SeverityNet) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
        """Rank correlations with truth: of each score where that damage is alone, and of the severity of chains.

        Returns:
            The correlations; and for a log those of all scores within chains, and how far off they are on average.
        """
        training = model.training
        model.eval()
        said = {
            sort: torch.cat([model(inputs.pictures) for inputs in sets]).cpu().double()
            for sort, sets in self.sets.items()
        }
        model.train(training)
        true = {sort: torch.cat([_truth(inputs) for inputs in sets]).double() for sort, sets in self.sets.items()}
        places = {name: place for place, name in enumerate(model.names)}
        found = {sort: _rho(said[sort], true[sort], places[sort]) for sort in SORTS if sort in places}
        found["severity"] = _rho(said["wild"], true["wild"], -1)
        within = {name: _rho(said["wild"], true["wild"], place) for name, place in places.items()}
        errors = {sort: round(float((said[sort] - true[sort]).abs().mean()), 4) for sort in self.sets}
        return found, {"within_chains": within, "error": errors}


@torch.inference_mode()
def typical_of(model: SeverityNet, bank: Bank, crop: int, device: torch.device) -> Typical:
    """What a network says of chains of each severity, on average over pictures and shrinks; of clean ones at 0."""
    training = model.training
    model.eval()
    values, severities = [], []
    for point in range(POINTS):
        severity = point / (POINTS - 1)
        for shrink in SHRINKS:
            sort = {"wild" if point else "clean": 1.0}
            inputs = _drawn(bank, crop, shrink, sort, f"typical {point} {shrink}", device, strength=severity)
            values.append(model(inputs.pictures)[:, :-1].cpu().double())
            severities += [severity] * len(inputs.pictures)
    model.train(training)
    return Typical.measured(model.names, severities, torch.cat(values).numpy())


def _drawn(
    bank: Bank,
    crop: int,
    shrink: int,
    mix: dict[str, float],
    what: str,
    device: torch.device,
    strength: float | None = None,
) -> Inputs:
    clean = as_input(bank.centres(crop * shrink)[:_MOST].to(device))
    strengths = None if strength is None else torch.full((len(clean),), strength)
    return draw_inputs(clean, generator_for(_SEED, f"validation of {what}"), shrink, mix, strengths)


def _truth(inputs: Inputs) -> Tensor:
    return torch.cat([inputs.truth.values, inputs.truth.severity[:, None]], 1)


def _rho(said: Tensor, true: Tensor, place: int) -> float:
    return round(rank_correlation(said[:, place].numpy(), true[:, place].numpy()), 4)
