"""What a network is told of kernels: each number by its formula in plain torch, and finite whatever there is to see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from moesaic.mixture.backends import cpu, curved
from moesaic.mixture.backends.cover import cover, exact_margin
from moesaic.mixture.colours import pack
from moesaic.predict.kernels import CHANGE, CHANNELS, SHARPEST, SIX, WIDEST, begun
from moesaic.predict.stages import compared
from moesaic.predict.telling import APART, BOLD, OWN, SEEN, SHY, TAPS
from moesaic.predict.views import view
from tests.mixture.conftest import build

AROUND = (-20.0, -15.0, 70.0, 50.0)  # px: reaches beyond the canvas


def noise(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def case(kernels=30, width=50, height=33, seed=0, **options):
    """Kernels, their last change, a picture, and how the two compare."""
    packed = pack(build(kernels, width, height, seed=seed, **options).to(dtype=torch.float32))
    change = 0.2 * torch.randn(kernels, CHANGE, generator=torch.Generator().manual_seed(seed))
    picture = noise(CHANNELS, height, width, seed=seed)
    listed = cover(packed.centres, packed.geometry, width, height, exact_margin(kernels), 1)
    return packed, change, picture, curved.bent(packed, listed, picture, 1)


def newton(h, slopes, mass, damping, faint):
    """The steps -(H + D)^-1 s, one kernel after another."""
    diagonal = np.einsum("nii->ni", h)
    damped = h + np.einsum("ni,ij->nij", damping * diagonal + (faint * mass + 1e-9)[:, None], np.eye(SIX))
    return np.linalg.solve(damped, -slopes[:, :, None])[..., 0]


def windows(packed, picture, left):
    """The picture less the kernel's colour, and four times what is missing, at 5x5 places in the kernel's own frame."""
    centres = torch.from_numpy(packed.centres)
    f0, f1, f2, _ = torch.from_numpy(packed.geometry).double().T
    reach = APART * (torch.arange(TAPS, dtype=torch.float64) - TAPS // 2)
    v, u = torch.meshgrid(reach, reach, indexing="ij")
    zero = torch.zeros_like(f0)
    lower = torch.stack([f0, zero, f1, f2], dim=1).view(-1, 1, 2, 2)
    offsets = torch.linalg.solve(lower.mT, torch.stack([u, v], dim=-1).view(1, -1, 2, 1))[..., 0]
    height, width = picture.shape[1:]
    points = (centres[:, None] + offsets) / torch.tensor([width, height]) * 2 - 1
    both = torch.from_numpy(np.concatenate([picture, -4 * left])).double()
    found = F.grid_sample(both[None], points[None], align_corners=False, padding_mode="border")[0].permute(1, 2, 0)
    found[..., :CHANNELS] -= torch.from_numpy(packed.experts).double()[:, None]
    return found.flatten(1).numpy()


def by_formula(packed, change, picture, bent):
    """Everything that a view holds, in float64."""
    slopes, h = curved.downhill(packed, bent.slope).astype(np.float64), curved.blocks(bent.bends)
    mass = np.maximum(bent.bends[:, -1].astype(np.float64), 0.0)
    held = (mass + 0.05)[:, None]
    f0, f1, f2, prior = packed.geometry.astype(np.float64).T
    bold, shy = (newton(h, slopes, mass, *damping) for damping in (BOLD, SHY))
    colour = -0.5 * bent.slope[:, SIX:].astype(np.float64) / held
    last = change.double().numpy() * np.array([2.0] * SIX + [10.0] * CHANNELS)
    diagonal = np.maximum(np.einsum("nii->ni", h), 0.0)
    own = [np.log(held[:, 0] * f0 * f2), -0.5 * np.log(f0 * f2), np.log(f0 / f2), f1 / f2, prior / 3]
    own.append(0.3 * np.log(held[:, 0]))
    parts = {
        "bold": np.arcsinh(bold),
        "shy": np.arcsinh(shy),
        "last": last,
        "slopes": np.arcsinh(300 * slopes / held),
        "curvature": 0.2 * np.log(diagonal / held + 1e-6),
        "colour": np.clip(10 * colour, -3, 3),
        "own": np.stack(own, axis=1),
        "windows": windows(packed, picture, bent.left),
    }
    return parts, bold, shy, colour


class TestByFormula:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"sigmas": (0.4, 15.0), "prior": 2.0},
            {"box": AROUND, "seed": 3},
            {"kernels": 1},
            {"kernels": 200, "width": 17, "height": 5, "seed": 4},
            {"kernels": 5, "width": 1, "height": 1, "box": (-3.0, -3.0, 4.0, 4.0)},
            {"kernels": 6, "width": 1, "height": 40},
        ],
    )
    def test_everything_is_what_it_should_be(self, options):
        packed, change, picture, bent = case(**options)
        found = view(packed, change, picture, bent, 1)
        parts, bold, shy, colour = by_formula(packed, change, picture, bent)
        places = np.cumsum([0, *(part.shape[1] for part in parts.values())])
        assert (places[-2], places[-1]) == (OWN, SEEN)
        for (name, part), at in zip(parts.items(), places, strict=False):
            told = found.seen[:, at : at + part.shape[1]].numpy()
            np.testing.assert_allclose(told, part, rtol=1e-4, atol=2e-5, err_msg=name)
        np.testing.assert_allclose(found.bold.numpy(), bold, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.shy.numpy(), shy, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.colour.numpy(), colour, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("threads", [2, 3, 40])
    @pytest.mark.parametrize("kernels", [1, 7, 64])
    def test_threads_do_not_change_a_byte(self, kernels, threads):
        given = case(kernels)
        one, several = view(*given, 1), view(*given, threads)
        for name in ("seen", "bold", "shy", "colour"):
            assert torch.equal(getattr(one, name), getattr(several, name)), name

    def test_shapes_and_types(self):
        found = view(*case(7), 2)
        widths = {"seen": SEEN, "bold": SIX, "shy": SIX, "colour": CHANNELS}
        assert {name: getattr(found, name).shape for name in widths} == {name: (7, n) for name, n in widths.items()}
        assert all(getattr(found, name).dtype == torch.float32 for name in widths)
        assert not any(getattr(found, name).requires_grad for name in widths)

    def test_the_last_change_may_have_gradients(self):
        packed, change, picture, bent = case(7)
        found = view(packed, change.clone().requires_grad_(), picture, bent, 1)
        assert torch.equal(found.seen, view(packed, change, picture, bent, 1).seen)


class TestSteps:
    def test_are_none_where_the_picture_is_right(self):
        packed, change, _, _ = case()
        listed = cover(packed.centres, packed.geometry, 50, 33, exact_margin(30), 1)
        drawn, _ = cpu.forward(packed, listed, 1)
        found = view(packed, change, drawn, curved.bent(packed, listed, drawn, 1), 1)
        assert not found.bold.any()
        assert not found.shy.any()
        assert not found.colour.any()

    def test_much_damping_makes_them_shorter(self):
        found = view(*case(), 1)
        assert bool((found.shy.norm(dim=1) <= found.bold.norm(dim=1)).all())

    def test_of_a_colour_is_the_best_where_nobody_else_is(self):
        """Alone, a kernel's best colour is the mean of the picture."""
        packed, change, picture, bent = case(1)
        found = view(packed, change, picture, bent, 1)
        wanted = picture.mean((1, 2)) - packed.experts[0]
        np.testing.assert_allclose(found.colour[0].numpy(), wanted, atol=1e-4)

    def test_go_downhill(self):
        packed, change, picture, bent = case(40, seed=2)
        found, slopes = view(packed, change, picture, bent, 1), curved.downhill(packed, bent.slope)
        for step in (found.bold, found.shy):
            assert np.all((step.numpy() * slopes).sum(1) <= 0)


def given(centres, geometry, colours=None):
    """Kernels by hand."""
    geometry = np.array(geometry, np.float32)
    experts = noise(len(geometry), CHANNELS) if colours is None else np.array(colours, np.float32)
    return cpu.Packed(np.array(centres, np.float64), geometry, experts, CHANNELS, 0)


HARD = {
    "one": given([[3.0, 2.0]], [[0.5, 0.1, 0.5, 0.0]]),
    "sharpest": given([[3.0, 2.0], [900.0, -900.0]], [[SHARPEST, 0, SHARPEST, 0]] * 2),
    "widest": given([[3.0, 2.0], [4.0, 4.0]], [[WIDEST, 0, WIDEST, 0], [WIDEST, 1, SHARPEST, 3]]),
    "far outside": given([[1e6, -1e6], [-1e7, 3.0], [2.0, 2.0]], [[1, 0, 1, 0], [2, 1, 1, 5], [0.1, 0, 0.1, 0]]),
    "all far outside": given([[1e5, -1e5], [-1e5, 3.0]], [[1, 0, 1, 0], [2, 1, 1, 5]]),
    "huge priors": given([[3.0, 2.0], [9.0, 4.0]], [[5, 0, 5, 1e4], [0.1, 0, 0.1, -1e4]]),
    "wild colours": given([[3.0, 2.0], [9.0, 4.0]], [[0.3, 0, 0.3, 0]] * 2, [[1e4] * 3, [-1e4] * 3]),
    "one on the other": given([[3.0, 2.0]] * 3, [[0.3, 0.1, 0.3, 0.0]] * 3, [[0.5] * 3] * 3),
    "leaning": given([[3.0, 2.0], [9.0, 4.0]], [[5, 1e3, 1e-3, 0], [1e-3, -1e3, 5, 0]]),
}


class TestNasty:
    @pytest.mark.parametrize("name", HARD)
    @pytest.mark.parametrize("size", [(1, 1), (1, 30), (30, 1), (33, 50)])
    @pytest.mark.parametrize("flat", [False, True])
    def test_all_is_finite(self, name, size, flat):
        picture = np.full((CHANNELS, *size), 0.5, np.float32) if flat else noise(CHANNELS, *size)
        packed = HARD[name]
        listed = cover(packed.centres, packed.geometry, size[1], size[0], 8.0, 1)
        found = view(
            packed, torch.ones(len(packed.centres), CHANGE), picture, curved.bent(packed, listed, picture, 1), 1
        )
        for part in ("seen", "bold", "shy", "colour"):
            assert bool(getattr(found, part).isfinite().all()), part

    def test_windows_show_the_rim_beyond_it(self):
        packed = given([[1e6, -1e6], [20.0, 20.0]], [[1, 0, 1, 0], [0.01, 0, 0.01, 0]], [[0.0] * 3] * 2)
        picture = noise(CHANNELS, 33, 50)
        listed = cover(packed.centres, packed.geometry, 50, 33, 8.0, 1)
        found = view(packed, torch.zeros(2, CHANGE), picture, curved.bent(packed, listed, picture, 1), 1)
        told = found.seen[0, OWN:].view(TAPS * TAPS, 2, CHANNELS)[:, 0]
        assert torch.equal(told, torch.from_numpy(picture[:, 0, -1]).expand_as(told))

    def test_stages_see_the_same_with_any_threads(self):
        picture = noise(CHANNELS, 40, 60)
        kernels = begun(picture, 50, np.random.default_rng(0))
        told = []
        for threads in (1, 4):
            bent = compared(kernels, picture, threads)
            told.append(view(kernels.packed(), kernels.change, picture, bent, threads).seen)
        assert torch.equal(*told)
