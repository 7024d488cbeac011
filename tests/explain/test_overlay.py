"""Maps over a picture: each place has the colour of what it says, and the legend says it in words."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from moesaic.explain.colours import AMOUNT, ERROR
from moesaic.explain.overlay import MAP_PIXELS, of_change, of_owners, of_patches
from moesaic.explain.owners import owners
from moesaic.routing.record import Routing
from moesaic.segment.routing_picture import COLOURS


def drawn(overlay):
    return np.asarray(overlay.draw()).astype(int)


@pytest.mark.parametrize("size", [(90, 70), (900, 700), (2048, 3), (1, 50)])
def test_owners_have_the_shape_of_the_picture(make_mixture, size):
    laid = drawn(of_owners(make_mixture(20, width=90, height=70), size))
    assert laid.shape[2] == 4
    assert laid.shape[0] * laid.shape[1] <= MAP_PIXELS
    assert max(laid.shape) <= 2048
    assert laid.shape[1] / laid.shape[0] == pytest.approx(size[0] / size[1], rel=0.05)


def test_small_cells_are_bright_and_large_ones_dark(make_mixture):
    mixture = make_mixture(60, width=90, height=70)
    overlay = of_owners(mixture, (90, 70))
    laid = drawn(overlay)
    own = owners(mixture, size=(laid.shape[1], laid.shape[0]))
    cells = np.bincount(own.ravel(), minlength=60)
    light = laid[..., :3].sum(axis=2)
    inside = np.ones_like(own, bool)  # away from lines
    inside[:, :-1] &= own[:, :-1] == own[:, 1:]
    inside[:-1] &= own[:-1] == own[1:]
    order = [int(cell) for cell in np.argsort(cells) if (inside & (own == cell)).any()]
    lights = [light[inside & (own == cell)] for cell in order]
    assert all(one.min() == one.max() for one in lights)
    assert lights[0][0] > lights[-1][0]
    assert np.corrcoef([one[0] for one in lights], -np.log(cells[order]))[0, 1] > 0.9
    legend = json.loads(json.dumps(overlay.legend(), allow_nan=False))
    assert "60 pieces" in legend["told"]
    assert legend["scale"]["colours"][0] == [*AMOUNT[0], 255]
    numbers = [float(tick["label"].split()[0].replace(",", "")) for tick in legend["scale"]["ticks"]]
    assert numbers == sorted(numbers, reverse=True)


@pytest.mark.parametrize("kernels", [1, 2, 3000])
def test_few_and_many_pieces(make_mixture, kernels):
    overlay = of_owners(make_mixture(kernels, width=40, height=30), (40, 30))
    assert drawn(overlay)[..., 3].min() == 255
    assert ("only piece" in overlay.told) == (kernels == 1)
    json.dumps(overlay.legend(), allow_nan=False)


def test_patches_have_the_colour_of_whoever_leads():
    none = torch.zeros(1, 2, 5)
    routing = Routing(
        weights=torch.tensor([[[0.25, 0.75], [0.6, 0.4]]]),
        chosen=torch.tensor([[[0, 3], [1, 3]]]),
        probabilities=none,
        logits=none,
        grid=(1, 2),
    )
    overlay = of_patches(routing, (240, 120))
    laid = drawn(overlay)
    assert laid.shape == (512, 1024, 4)
    assert laid[5, 5].tolist() == [*COLOURS[3], 255]
    assert laid[5, -5].tolist() == [*COLOURS[1], 255]
    assert "2 of 5 experts work" in overlay.told
    keys = [(key["colour"], key["label"]) for key in overlay.legend()["keys"]]
    assert (list(COLOURS[3]), "expert 3: leads in 1 of 2 patches") in keys
    assert len(keys) == 2
    assert overlay.notes == ("Not needed for this picture: 2 of 5 experts.",)


def test_a_change_is_seen_where_it_was_and_as_much_as_it_was():
    before = np.full((20, 30, 3), 100, np.uint8)
    after = before.copy()
    after[:10, :10] += 64
    after[10:, 20:] += 4
    overlay = of_change(before, after, told="Bright is more.")
    laid = drawn(overlay)
    assert laid.shape == (20, 30, 4)
    assert laid[0, 0].tolist() == [*ERROR[-1], 255]
    assert laid[0, 29, 3] == 0
    assert 0 < laid[19, 29, 3] < 255
    scale = overlay.legend()["scale"]
    assert scale["ticks"][-1] == {"at": 1.0, "label": "64 or more"}
    assert (scale["colours"][0][3], scale["colours"][-1]) == (0, [*ERROR[-1], 255])
    same = of_change(before, before, told="Bright is more.")
    assert drawn(same)[..., 3].max() == 0
    assert same.told == "Nothing was changed in this picture."
