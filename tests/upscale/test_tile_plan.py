"""Where tiles lie: cores cover each cell once, shares sum to one, and what is cut can be put together again."""

from __future__ import annotations

import pytest
import torch

from moesaic.errors import ModelError
from moesaic.upscale.tile_plan import Area, TilePlan

PLANS = [
    ((64, 96), 32, 16, 8),
    ((17, 40), 16, 4, 1),
    ((8, 200), 96, 32, 8),
    ((48, 48), 36, 32, 2),
    ((30, 30), 64, 16, 2),
    ((24, 24), 4, 8, 4),
    ((20, 33), 10, 0, 1),
]


@pytest.mark.parametrize(("cells", "side", "shared", "multiple_of"), PLANS)
def test_cores_cover_each_cell_once(cells, side, shared, multiple_of):
    plan, seen = TilePlan(cells, side, shared, multiple_of, 1, 1), torch.zeros(cells)
    for place in plan.places:
        tile, core = plan.tile(place), plan.core(place)
        assert core.within(tile) == core
        assert bool(core)
        assert (tile.bottom - tile.top, tile.right - tile.left) == plan.size
        seen[core.top : core.bottom, core.left : core.right] += 1
        for border in (tile.top, tile.left, core.top, core.left):
            assert border % multiple_of == 0
        for border, end, rim in ((core.top, 0, tile.top), (core.left, 0, tile.left)):
            assert border == end or border - rim >= shared // 2 // multiple_of * multiple_of
    assert torch.equal(seen, torch.ones(cells))


@pytest.mark.parametrize("outward", [1, 3])
@pytest.mark.parametrize(("cells", "side", "shared", "multiple_of"), PLANS)
def test_what_is_cut_is_put_together_again(cells, side, shared, multiple_of, outward):
    plan = TilePlan(cells, side, shared, multiple_of, outward, outward)
    x = torch.rand(1, 2, cells[0] * outward, cells[1] * outward, dtype=torch.float64)
    canvas = torch.zeros(1, 2, *plan.output, dtype=torch.float64)
    for place in plan.places:
        plan.add(canvas, plan.cut(x, place), place)
    torch.testing.assert_close(canvas, x, rtol=0, atol=1e-14)


def test_the_rim_of_a_tile_has_no_say():
    plan = TilePlan((16, 56), 32, 16, 1, 1, 1)
    assert [plan.tile(place).left for place in plan.places] == [0, 16, 24]
    canvas = torch.zeros(1, 1, 16, 56)
    for place, value in zip(plan.places, (1.0, 10.0, 100.0), strict=True):
        plan.add(canvas, torch.full((1, 1, 16, 32), value), place)
    row = canvas[0, 0, 0]
    assert torch.equal(row[:22], torch.full((22,), 1.0))  # the second tile's outer six, 16 to 21
    assert torch.equal(row[-16:], torch.full((16,), 100.0))
    assert bool((row[22:26] > 1).all())


@pytest.mark.parametrize("count", [1, 2, 5, 6, 12, 100])
def test_some_places_are_spread_evenly(count):
    plan = TilePlan((64, 96), 16, 0, 1, 1, 1)
    chosen = plan.spread(count)
    assert 0.5 * min(count, 24) <= len(chosen) <= min(count, 24)
    assert len(set(chosen)) == len(chosen)
    assert set(chosen) <= set(plan.places)
    if count >= 6:
        assert abs(sum(row for row, _ in chosen) / len(chosen) - 1.5) <= 0.5
        assert abs(sum(column for _, column in chosen) / len(chosen) - 2.5) <= 0.5


def test_areas():
    one, two = Area(0, 4, 0, 4), Area(2, 6, 3, 9)
    assert one.within(two) == Area(2, 4, 3, 4)
    assert bool(one.within(two))
    assert not one.within(Area(4, 6, 0, 4))


def test_a_tile_of_another_size_is_refused():
    plan = TilePlan((16, 56), 32, 16, 1, 1, 2)
    with pytest.raises(ModelError, match="cannot go by tiles"):
        plan.add(torch.zeros(1, 1, 32, 112), torch.zeros(1, 1, 16, 32), plan.places[0])
