from __future__ import annotations

import torch
from torch.nn.functional import gelu, layer_norm

from moesaic.restore.blocks import (
    ChannelAttention,
    ChannelNorm,
    CrossChannelAttention,
    DenseBlock,
    GatedFeedForward,
    attend,
)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_norm_is_layer_norm_over_channels():
    norm, x = ChannelNorm(5).double(), 3 + 2 * random(2, 5, 4, 3)
    with torch.no_grad():
        norm.weight.copy_(random(5))
        norm.bias.copy_(random(5, seed=1))
    want = layer_norm(x.movedim(1, -1), (5,), norm.weight, norm.bias).movedim(-1, 1)
    torch.testing.assert_close(norm(x), want)
    half = norm.float()(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), want, atol=0.05, rtol=0.05)


def test_norm_keeps_the_maps_type_and_memory_format_and_takes_another_epsilon():
    norm, x = ChannelNorm(5), random(2, 5, 4, 3).float()
    for layout in (torch.contiguous_format, torch.channels_last):
        y = norm(x.contiguous(memory_format=layout))
        assert y.is_contiguous(memory_format=layout)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.testing.assert_close(norm(x.contiguous(memory_format=layout)), y, atol=0, rtol=0)
    small = 1e-3 * x  # of a variance of about 1e-6
    torch.testing.assert_close(
        ChannelNorm(5, epsilon=1e-6)(small).movedim(1, -1), layer_norm(small.movedim(1, -1), (5,), eps=1e-6)
    )
    assert (ChannelNorm(5, epsilon=1e-6)(small) - norm(small)).abs().max() > 0.1
    assert set(norm.state_dict()) == {"weight", "bias"}


def test_attention_is_the_softmax_of_cosines_between_channels():
    q, k, v = (random(2, 6, 3, 4, seed=s) for s in range(3))
    temperature = torch.tensor([1.5, 0.5], dtype=torch.float64)
    got = attend(q, k, v, temperature)
    for b in range(2):
        for head in range(2):
            own = range(3 * head, 3 * head + 3)
            for i in own:
                cosines = torch.stack([(q[b, i] * k[b, j]).sum() / q[b, i].norm() / k[b, j].norm() for j in own])
                share = (cosines * temperature[head]).softmax(0)
                want = sum(share[n] * v[b, j] for n, j in enumerate(own))
                torch.testing.assert_close(got[b, i], want)


def test_attention_of_a_blank_map_is_finite():
    blank = torch.zeros(1, 4, 3, 3)
    assert attend(blank, blank, blank, torch.ones(2)).isfinite().all()


def test_feed_forward():
    torch.manual_seed(0)
    feed, x = GatedFeedForward(3, bias=True).double(), random(1, 3, 5, 4)
    a, b = feed.near(feed.up(x)).split(6, dim=1)
    torch.testing.assert_close(feed(x), feed.down(gelu(a) * b))


def test_cross_attention_asks_with_the_first_map_and_answers_with_the_second():
    torch.manual_seed(0)
    merge = CrossChannelAttention(4, 2).double()
    x, other = random(1, 4, 5, 5), random(1, 4, 5, 5, seed=1)
    assert not torch.equal(merge(x, other), merge(other, x))
    assert merge(x, torch.zeros_like(other)).abs().max() == 0  # no v, nothing to say


def test_biases_and_counts():
    def count(module: torch.nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    C, heads = 8, 2
    plain, full = (ChannelAttention(C, heads, bias=b) for b in (False, True))
    assert count(plain) == 4 * C * C + 27 * C + heads
    assert count(full) - count(plain) == 7 * C
    assert count(GatedFeedForward(C, bias=False)) == 6 * C * C + 36 * C
    assert count(CrossChannelAttention(C, heads)) == 4 * C * C + 107 * C + heads
    assert count(DenseBlock(C, heads)) == 10 * C * C + 83 * C + heads


def test_gradients_of_a_block():
    torch.manual_seed(0)
    block = DenseBlock(4, 2).double()
    assert torch.autograd.gradcheck(block, random(1, 4, 3, 3).requires_grad_())
