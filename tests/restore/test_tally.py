"""What a run tells of its last steps: means by sort, and nothing of sorts that did not come up."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from moesaic.restore.tally import Tally
from moesaic.routing.record import Routing
from moesaic.training.psnr import psnrs

SORTS = ("noise", "rain", "haze")


def _pass(chosen, errors):
    """A pass that chose these experts and erred so much, over black pictures."""
    chosen = torch.tensor(chosen)[:, None, None]
    p = torch.full((len(errors), 1, 3), 1 / 3)
    routing = Routing(weights=torch.ones(len(errors), 1, 1), chosen=chosen, probabilities=p, logits=p, grid=(1, 1))
    return SimpleNamespace(
        restored=torch.tensor(errors)[:, None, None, None].expand(-1, 3, 4, 4),
        routings={"experts.0": routing},
        cost=0.25 * (1 + chosen[:, 0, 0]).float(),
    )


def _add(tally, sort, chosen, errors, loss):
    clean = torch.zeros(len(errors), 3, 4, 4)
    tally.add({"loss": torch.tensor(loss)}, torch.tensor(sort), _pass(chosen, errors), clean + 0.1, clean)


def _filled():
    tally = Tally(SORTS, torch.device("cpu"))
    _add(tally, [0, 0, 2], [0, 1, 2], [0.1, 0.01, 0.1], 1.0)
    _add(tally, [2, 2, 0], [2, 1, 0], [0.1, 0.1, 0.1], 3.0)
    return tally


def test_means_by_sort():
    told = _filled().read()
    assert told["loss"] == 2.0
    assert told["psnr"] == {"noise": pytest.approx((20 + 40 + 20) / 3, abs=1e-3), "haze": pytest.approx(20)}
    assert told["psnr_in"] == {"noise": pytest.approx(20), "haze": pytest.approx(20)}
    assert told["cost"] == pytest.approx((0.25 + 0.5 + 0.75 + 0.75 + 0.5 + 0.25) / 6)
    assert told["usage"] == {"experts.0": {"noise": [0.667, 0.333, 0.0], "haze": [0.0, 0.333, 0.667]}}


def test_reading_begins_anew():
    tally = _filled()
    tally.read()
    assert tally.read() == {"psnr": {}, "psnr_in": {}, "usage": {}}
    _add(tally, [1], [0], [0.1], 5.0)
    told = tally.read()
    assert (told["loss"], list(told["psnr"])) == (5.0, ["rain"])


def test_a_checkpoint_keeps_the_sums():
    tally, other = _filled(), Tally(SORTS, torch.device("cpu"))
    other.load_state_dict(tally.state_dict())
    for one in (tally, other):
        _add(one, [1], [0], [0.1], 5.0)
    assert other.read() == tally.read()


def test_psnr_of_clipped_pictures():
    clean = torch.ones(2, 3, 4, 4)
    values = psnrs(torch.stack([clean[0] + 7, clean[1] - 0.1]), clean)
    torch.testing.assert_close(values, torch.tensor([100.0, 20.0]))
