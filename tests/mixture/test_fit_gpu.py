"""The fit on the GPU held against the fit on the CPU, part by part; on a device, or tiny under the interpreter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")

from moesaic.errors import ArgumentError, BackendError
from moesaic.mixture import fit_gpu, gpu_growth, gpu_start, growth, start
from moesaic.mixture import fit_many as many
from moesaic.mixture import render as module
from moesaic.mixture.backends import cpu, descent, gpu, gpu_descent, gpu_gather
from moesaic.mixture.backends.cover import cover
from moesaic.mixture.backends.gpu_canvas import canvas
from moesaic.mixture.fit import fit, fit_pixels
from moesaic.mixture.fit_many import fit_many
from moesaic.mixture.fitting import FitConfig
from moesaic.mixture.render import force_backend, render

DEVICE = torch.device("cpu" if gpu.interpreted() else "cuda")
QUICK = FitConfig(relist=2, apart=4, rounds=3, solve=1)  # with rounds, in few steps


@pytest.fixture
def crop(photo):
    """A few pixels of a photograph, (3, 14, 15)."""
    return np.ascontiguousarray(photo[20:34, 40:55].transpose(2, 0, 1))


def batch(targets, experts, *, order=0, config=QUICK, progress=None):
    return fit_gpu.Batch(targets, experts, order, 0, config, DEVICE, progress)


def begun(targets, experts, *, several=None, order=0, config=QUICK):
    """A batch whose kernels are placed, and somewhat moved, so that they are not round."""
    made = batch(targets, experts, order=order, config=config)
    made._begin(several or experts)
    random = torch.Generator().manual_seed(3)
    shear = 0.2 * torch.randn(len(made.state.geometry), generator=random)
    made.state.geometry[:, 1] = (shear * made.state.geometry[:, 0].cpu()).to(DEVICE)
    made.state.geometry[:, 3] += (0.3 * torch.randn(len(shear), generator=random)).to(DEVICE)
    if order:
        made.state.experts[:, 3:] = 0.02 * torch.randn(len(shear), 6, generator=random).to(DEVICE)
    return made


def on_cpu(made, picture=0):
    """The same kernels for the CPU backend."""
    n = made.sheet.kernels[0]
    rows = slice(picture * n, picture * n + n)
    arrays = (t[rows].cpu().numpy().copy() for t in (made.state.centres, made.state.geometry, made.state.experts))
    return cpu.Packed(*arrays, made.state.channels, made.order)


def listed(packed, target, margin):
    return cover(packed.centres, packed.geometry, target.shape[2], target.shape[1], margin, 1)


def psnr(mixture, target):
    drawn = render(mixture.to(device="cpu")).numpy().clip(0.0, 1.0)
    return -10.0 * np.log10(float(((drawn - target) ** 2).mean()))


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("shape", [(3, 70, 50), (1, 40, 3), (4, 1, 9), (3, 5, 5)])
def test_fits_begin_as_on_the_cpu(shape, order):
    target = np.random.default_rng(0).random(shape, dtype=np.float32)
    expected = start.begin(target, 30, order, np.random.default_rng(5))
    found = gpu_start.begin(torch.from_numpy(target).to(DEVICE), 30, order, np.random.default_rng(5))
    for tensor, array in zip(found, (expected.centres, expected.geometry, expected.experts), strict=True):
        np.testing.assert_allclose(tensor.cpu().numpy(), array, rtol=1e-6, atol=1e-6)
    plain = gpu_start.density(torch.zeros(shape, device=DEVICE))
    assert bool((plain == 1.0).all())


def test_other_starts_are_those_of_the_cpu(crop):
    made = batch([crop], [5], config=replace(QUICK, start="even"))
    made._begin([5])
    expected = start.begin_even(crop, 5, 0, np.random.default_rng(0))
    np.testing.assert_allclose(made.state.centres.cpu().numpy(), expected.centres)
    np.testing.assert_array_equal(made.state.geometry.cpu().numpy(), expected.geometry)
    with pytest.raises(ArgumentError, match="must be one of gradient"):
        batch([crop], [5], config=replace(QUICK, start="odd")).fit(steps=1, seconds=None)


@pytest.mark.parametrize("order", [0, 1])
def test_the_gradient_of_a_step_is_that_of_the_cpu(crop, order):
    made = begun([crop], [7], order=order)
    packed = on_cpu(made)
    errors, expected = cpu.squared_error(packed, listed(packed, crop, 30.0), crop, 1)
    kernels = made._kernels()
    lists = gpu.list_exactly(made.sheet, kernels, 30.0)
    placed = gpu.put(made.sheet, kernels, lists)
    seen = gpu.compare(made.sheet, kernels, lists, placed, made.target)
    pairs = gpu_gather.by_kernel(lists, 7)
    moments = gpu.go_back(made.sheet, kernels, lists, placed, pairs, seen.level, seen.slope, seen.base)
    found = gpu.gradient(kernels, moments).cpu().numpy()
    np.testing.assert_allclose(seen.error.cpu().numpy(), errors.ravel(), rtol=1e-4, atol=1e-6)
    for columns in np.split(np.arange(expected.shape[1]), [2, 5, 6, 9]):
        off = np.linalg.norm(found[:, columns] - expected[:, columns])
        assert off <= 1e-5 * np.linalg.norm(expected[:, columns])


@pytest.mark.parametrize("order", [0, 1])
def test_a_step_of_adam_is_that_of_the_cpu(order):
    targets = [np.zeros((3, 20, 31), np.float32), np.zeros((3, 9, 8), np.float32)]
    made = begun(targets, [6, 6], order=order)
    c, state = made.config, made.state
    made._pace(0.25)
    width = 6 + state.experts.shape[1]
    packed = [on_cpu(made, 0), on_cpu(made, 1)]
    means = [np.zeros((6, width), np.float32) for _ in range(4)]
    random = torch.Generator().manual_seed(0)
    rates = made.rates.cpu().numpy()
    for count in (1, 2, 3):
        moments = torch.randn(12, width, generator=random).to(DEVICE)
        slopes = gpu.gradient(made._kernels(), moments).cpu().numpy()
        made.count.fill_(count)
        gpu_descent.descend[(2, 1)](
            made.sheet.bounds, made.count, made.settings, made.rates, moments,
            state.centres, state.geometry, state.experts, state.first, state.second, 6,
            C=3, ORDER=order, WIDTH=gpu_descent.WIDTH, num_warps=2,
        )  # fmt: skip
        now = (rates * (0.51 + 0.49 * np.cos(np.pi * 0.25 * count))).astype(np.float32)
        for i, target in enumerate(targets):
            height, wide = target.shape[1:]
            longer = max(height, wide)
            out = c.beyond * longer
            descent.step(
                0, 6, packed[i].centres, packed[i].geometry, packed[i].experts, slopes[6 * i : 6 * i + 6],
                means[2 * i], means[2 * i + 1], now, c.decay1, c.decay2, count, c.sharpest, 2.0 / longer,
                wide + out, height + out, -out, -out, 3,
            )  # fmt: skip
    for i in (0, 1):
        after = on_cpu(made, i)
        np.testing.assert_allclose(after.centres, packed[i].centres, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(after.geometry, packed[i].geometry, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(after.experts, packed[i].experts, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("order", [0, 1])
def test_a_round_is_that_of_the_cpu(crop, order):
    made = begun([crop], [10], order=order, config=replace(QUICK, margin=20.0, moved=0.3, worth=0.0))
    random = torch.Generator().manual_seed(2)
    for means in (made.state.first, made.state.second):
        means.copy_(torch.rand(means.shape, generator=random))
    packed = on_cpu(made)
    first, second = made.state.first.cpu().numpy().copy(), made.state.second.cpu().numpy().copy()
    found = growth.survey(packed, listed(packed, crop, 20.0), crop, 1)
    kept = np.ones(10, bool)
    kept[np.argsort(found.cost, kind="stable")[:2]] = False
    parents, places = growth.moves(found, 0.3, 0.0, kept)
    assert len(parents) == 3
    growth.split(packed, parents, places, found)
    first[places], second[places] = 0.0, second[parents]
    first[parents] *= 0.5
    made._move(torch.tensor([2], device=DEVICE), 0.3)
    after = on_cpu(made)
    alive = made.state.alive.cpu().numpy()[0]
    np.testing.assert_array_equal(alive, kept)
    np.testing.assert_allclose(after.centres[kept], packed.centres[kept], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(after.geometry[kept], packed.geometry[kept], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(after.experts[kept], packed.experts[kept], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(made.state.first.cpu().numpy()[kept], first[kept])
    np.testing.assert_array_equal(made.state.second.cpu().numpy()[kept], second[kept])


class TestMoves:
    """Choices of a round, without a picture."""

    def state(self, pictures, places):
        n = pictures * places
        geometry = torch.tensor([1.0, 0.1, 0.8, 0.0]).repeat(n, 1)
        return gpu_growth.State(
            torch.arange(2.0 * n, dtype=torch.float64).view(n, 2), geometry, torch.rand(n, 3), torch.ones(n, 9),
            torch.ones(n, 9), pictures, 3,
        )  # fmt: skip

    def worth(self, cost, gain):
        n = cost.numel()
        axis = torch.tensor([[1.0, 0.0]], dtype=torch.float64).repeat(n, 1)
        return gpu_growth.Worth(cost.double(), gain.double(), axis, torch.full((n, 3), 0.1, dtype=torch.float64))

    def test_nothing_moves_where_nothing_is_gained(self):
        state = self.state(2, 8)
        before = state.centres.clone()
        found = self.worth(torch.ones(2, 8), torch.full((2, 8), 0.05))
        gpu_growth.move(state, found, torch.zeros(2, dtype=torch.int64), 0.25, 0.1)
        assert torch.equal(state.centres, before)
        assert bool(state.alive.all())
        assert torch.equal(state.first, torch.ones(16, 9))

    def test_each_picture_takes_away_its_own_number(self):
        state = self.state(2, 8)
        cost = torch.stack([torch.arange(8.0), torch.arange(8.0).flip(0)])
        gpu_growth.move(state, self.worth(cost, torch.zeros(2, 8)), torch.tensor([3, 1]), 0.25, 0.1)
        assert state.alive.tolist() == [[False] * 3 + [True] * 5, [True] * 7 + [False]]

    def test_the_dead_take_no_part(self):
        state = self.state(1, 8)
        state.geometry[:5, 3] = gpu_growth.GONE
        before = state.centres.clone()
        found = self.worth(torch.zeros(1, 8), torch.ones(1, 8))
        gpu_growth.move(state, found, torch.tensor([0]), 0.5, 0.0)
        assert state.alive.tolist() == [[False] * 5 + [True] * 3]
        assert torch.equal(state.centres[:5], before[:5])
        assert int((state.centres[5:] != before[5:]).any(dim=1).sum()) == 2  # one split, one given up for it


class TestFits:
    def test_a_short_fit_reaches_what_the_cpu_reaches(self, crop):
        slow = fit_pixels(crop, experts=6, steps=17, threads=1, config=QUICK, device="cpu")
        (quick,) = batch([crop], [6]).fit(steps=17, seconds=None)
        assert len(quick) == 6
        assert psnr(quick, crop) == pytest.approx(psnr(slow, crop), abs=0.3)

    def test_together_as_alone(self, crop):
        tall = np.ascontiguousarray(crop[:, :, :9])
        pictures, experts = [crop, tall], [4, 3]
        together = batch(pictures, experts).fit(steps=3, seconds=None)
        for picture, number, mixture in zip(pictures, experts, together, strict=True):
            (alone,) = batch([picture], [number]).fit(steps=3, seconds=None)
            assert len(alone) == len(mixture) == number
            assert (mixture.width, mixture.height) == (picture.shape[2], picture.shape[1])
            torch.testing.assert_close(mixture.centres, alone.centres, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(mixture.colours, alone.colours, rtol=1e-3, atol=1e-3)

    def test_lists_cut_short_are_made_good(self, crop, monkeypatch):
        (usual,) = batch([crop], [4]).fit(steps=3, seconds=None)
        real, rooms = fit_gpu.Batch._make_room, []

        def narrow(self, needed):
            real(self, needed)
            rooms.append(self.room)
            if len(rooms) == 1:
                self.room = (2,) * len(self.room)

        monkeypatch.setattr(fit_gpu.Batch, "_make_room", narrow)
        (again,) = batch([crop], [4]).fit(steps=3, seconds=None)
        assert len(rooms) > 1
        assert torch.equal(usual.centres, again.centres)
        assert torch.equal(usual.colours, again.colours)

    def test_seconds_and_stops(self, crop):
        told = []
        (mixture,) = batch([crop], [3], progress=lambda p: told.append(p) or len(told) == 2).fit(steps=40, seconds=None)
        assert len(mixture) == 3
        assert [p.step for p in told] == [2, 4]
        assert told[0].psnr < 60.0
        (mixture,) = batch([crop], [3]).fit(steps=None, seconds=0.5)
        assert len(mixture) == 3
        assert bool(torch.isfinite(mixture.centres).all())


def test_canvases_of_many_pictures():
    sheet = canvas(((40, 20), (17, 33)), (5, 5), torch.device("cpu"))
    assert [level.side for level in sheet.levels] == [64, 32, 16]
    tiles = sheet.tiles
    assert len(tiles) == 3 * 2 + 2 * 3
    assert tiles[:, 5].tolist() == [0] * 6 + [800] * 6
    for above, below in zip(sheet.levels[:-1], sheet.levels[1:], strict=True):
        parents = above.cells[below.cells[:, 4].long()]
        assert bool(((below.cells[:, :2] - parents[:, :2]) < above.side).all())
        assert torch.equal(parents[:, 5], below.cells[:, 5])


class TestPublic:
    def test_fit_takes_the_gpu(self, crop):
        with force_backend("gpu"):
            mixture = fit(crop.transpose(1, 2, 0), experts=2, steps=1, config=QUICK)
        (expected,) = batch([crop], [2]).fit(steps=1, seconds=None)
        assert mixture.device.type == "cpu"
        assert torch.equal(mixture.colours, expected.colours.cpu())

    @pytest.mark.parametrize("one", [np.zeros((8, 8, 3), np.float32), "street.jpg", None])
    def test_many_takes_a_list(self, one):
        with pytest.raises(ArgumentError, match="list"):
            fit_many(one)

    @pytest.mark.parametrize("device", [None, 5, ["cpu"]])
    def test_a_device_is_a_name(self, device, crop):
        with pytest.raises(ArgumentError, match="device"):
            fit(crop.transpose(1, 2, 0), experts=2, steps=1, device=device)

    def test_many_pictures_keep_their_order(self, crop):
        grey = crop[:1, :9, :7].transpose(1, 2, 0)
        pictures = [crop.transpose(1, 2, 0), grey, crop.transpose(1, 2, 0)[:8]]
        with force_backend("gpu"):
            mixtures = fit_many(pictures, experts=[3, 1, 2], steps=1, config=QUICK)
        assert [(len(m), m.channels, m.width, m.height) for m in mixtures] == [
            (3, 3, 15, 14), (1, 1, 7, 9), (2, 3, 15, 8)
        ]  # fmt: skip

    def test_many_pictures_on_the_cpu_are_single_fits(self, crop):
        picture = crop.transpose(1, 2, 0)
        mixtures = fit_many([picture, picture[:8]], steps=3, device="cpu", threads=1)
        for mixture, source in zip(mixtures, (picture, picture[:8]), strict=True):
            alone = fit(source, steps=3, device="cpu", threads=1)
            assert torch.equal(mixture.centres, alone.centres)
            assert torch.equal(mixture.colours, alone.colours)

    def test_groups_are_bounded(self, crop, monkeypatch):
        monkeypatch.setattr(many, "TOGETHER", 600)
        assert list(many._groups([crop, crop, crop[:1], crop])) == [[2], [0, 1], [3]]

    def test_devices_that_cannot_be_used(self, crop, monkeypatch):
        picture = crop.transpose(1, 2, 0)
        with pytest.raises(ArgumentError, match="'metal' is unknown"):
            fit(picture, experts=3, steps=1, device="metal")
        with pytest.raises(ArgumentError, match="cannot search for a psnr"):
            fit(picture, psnr=20.0, device="cuda")
        monkeypatch.setattr(module, "gpu_problem", lambda: "RuntimeError: no C compiler")
        with pytest.raises(BackendError, match=r"cannot fit on cuda \(RuntimeError: no C compiler\)"):
            fit(picture, experts=3, steps=1, device="cuda")
        monkeypatch.setattr(module, "gpu_problem", lambda: None)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        with pytest.raises(BackendError, match="there are 1 CUDA devices"):
            fit(picture, experts=3, steps=1, device="cuda:3")

    @pytest.mark.parametrize("wrong", [{"experts": [1]}, {"experts": 1.5}, {"experts": 0}, {"steps": 0}, {"order": 2}])
    def test_numbers_are_checked(self, crop, wrong):
        with pytest.raises(ArgumentError):
            fit_many([crop.transpose(1, 2, 0)] * 2, **wrong)
