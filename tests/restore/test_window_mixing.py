from __future__ import annotations

import pytest
import torch

from moesaic.restore.window_mixing import ComplexityExpert, WindowMixing, complexity_experts, mix_windows


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def plain(q: torch.Tensor, k: torch.Tensor, w: int) -> torch.Tensor:
    """The circular convolution within each window, product by product."""
    height, width = q.shape[2:]
    filled = torch.nn.functional.pad(torch.stack([q, k]), (0, -width % w, 0, -height % w))
    rows = []
    for top in range(0, filled.shape[3], w):
        row = []
        for left in range(0, filled.shape[4], w):
            a, b = filled[..., top : top + w, left : left + w]
            outputs = []
            for i in range(w):
                for j in range(w):
                    terms = [a[..., m, n] * b[..., (i - m) % w, (j - n) % w] for m in range(w) for n in range(w)]
                    outputs.append(torch.stack(terms).sum(0))
            row.append(torch.stack(outputs, -1).unflatten(-1, (w, w)))
        rows.append(torch.cat(row, dim=-1))
    return torch.cat(rows, dim=-2)[..., :height, :width]


class TestMixWindows:
    @pytest.mark.parametrize(("size", "window"), [((8, 8), 4), ((5, 7), 4), ((3, 2), 4), ((4, 9), 3)])
    def test_equals_the_plain_convolution_in_value_and_gradient(self, size, window):
        q, k = (random(2, 3, *size, seed=s, dtype=torch.float64).requires_grad_() for s in (0, 1))
        outward = random(2, 3, *size, seed=2, dtype=torch.float64)
        got, want = mix_windows(q, k, window), plain(q, k, window)
        assert got.shape == q.shape
        torch.testing.assert_close(got, want)
        for g, w in zip(
            torch.autograd.grad(got, (q, k), outward), torch.autograd.grad(want, (q, k), outward), strict=True
        ):
            torch.testing.assert_close(g, w)

    def test_is_a_convolution_and_no_correlation(self):
        q, k = torch.zeros(2, 1, 1, 4, 4)
        q[..., 1, 0] = 1
        k[..., 0, 1] = 1
        k[..., 3, 3] = 2
        want = torch.zeros(1, 1, 4, 4)
        want[..., 1, 1] = 1
        want[..., 0, 3] = 2  # 1 + 3 goes round to 0
        torch.testing.assert_close(mix_windows(q, k, 4), want)

    def test_windows_do_not_see_each_other(self):
        q, k = random(1, 2, 8, 8), random(1, 2, 8, 8, seed=1)
        before = mix_windows(q, k, 4)
        q[..., :4, :4] += 1
        changed = (mix_windows(q, k, 4) - before).abs() > 1e-6
        assert changed[..., :4, :4].all()
        assert not changed[..., 4:, :].any()
        assert not changed[..., 4:].any()

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_is_rounded_only_at_the_end(self, dtype):
        q, k = (8 * random(1, 1, 16, 16, seed=s).to(dtype) for s in (0, 1))
        got = mix_windows(q, k, 16)
        assert got.dtype == dtype
        assert torch.equal(got, mix_windows(q.float(), k.float(), 16).to(dtype))


class TestExpert:
    @pytest.mark.parametrize(
        ("channels", "counts"),
        [
            (128, [8976, 20000, 48192, 129152]),
            (64, [2696, 5904, 13856, 35904]),
            (32, [900, 1928, 4368, 10784]),
            (192, [18840, 42288, 103008, 279744]),
            (96, [5388, 11928, 28464, 75360]),
            (48, [1686, 3660, 8472, 21552]),
        ],
    )
    def test_parameters_are_those_of_the_reference_code(self, channels, counts):
        with torch.device("meta"):
            bank = complexity_experts(channels, 4)
        assert [sum(p.numel() for p in expert.parameters()) for expert in bank] == counts
        assert [expert.mixing.window for expert in bank] == [4, 8, 16, 32]

    def test_formula(self):
        torch.manual_seed(0)
        expert = ComplexityExpert(6, 3, 4)
        x, s = random(2, 6, 9, 8), random(2, 6, 9, 8, seed=1)
        inner = expert.mixing(expert.inward(x)) * torch.nn.functional.silu(expert.modulation(s))
        torch.testing.assert_close(expert(torch.cat([x, s], 1)), x + expert.outward(inner))

    def test_mixing_multiplies_the_normalised_convolution_with_v(self):
        torch.manual_seed(0)
        mixing, x = WindowMixing(4, 4), random(1, 4, 8, 8)
        q = mixing.near_q(mixing.mix_q(x))
        k, v = mixing.near_kv(mixing.mix_kv(x)).split(4, dim=1)
        convolved = plain(q, k, 4)
        norm = torch.nn.functional.layer_norm(convolved.movedim(1, -1), (4,)).movedim(-1, 1)
        torch.testing.assert_close(mixing(x), mixing.out(norm * v), atol=1e-5, rtol=1e-4)

    def test_under_autocast_it_stays_close(self):
        torch.manual_seed(0)
        expert, both = ComplexityExpert(8, 8, 16), random(1, 16, 16, 16)
        with torch.autocast("cpu", torch.bfloat16):
            got = expert(both)
        torch.testing.assert_close(got.float(), expert(both), atol=0.1, rtol=0.1)
