from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moesaic.routing.capacity import limited, ranked, room
from moesaic.routing.choice import choose


def by_loops(wishes, k, capacity):
    """The rule of the module in its own words: per place, the experts that act there."""
    places, experts = len(wishes), len(wishes[0])
    free = [room(places, experts, k, capacity)] * experts
    held = [[] for _ in wishes]
    lists = [sorted(range(experts), key=lambda e, wish=wish: (-wish[e], e)) for wish in wishes]
    for turn in range(experts):
        asking = [place for place in range(places) if len(held[place]) < k]
        for expert in range(experts):
            line = [place for place in asking if lists[place][turn] == expert]
            line.sort(key=lambda place, expert=expert: (-wishes[place][expert], place))
            for place in line[: free[expert]]:
                held[place].append(expert)
            free[expert] -= min(free[expert], len(line))
    return held


def actors(chosen, acting):
    return [
        {e for e, acts in zip(experts, flags, strict=True) if acts}
        for experts, flags in zip(chosen.flatten(0, 1).tolist(), acting.flatten(0, 1).tolist(), strict=True)
    ]


def test_by_hand():
    """Three places want expert 0, which has room for two: the one that wants it least gets its second wish."""
    wish = torch.tensor([[[0.6, 0.3, 0.1], [0.8, 0.1, 0.1], [0.5, 0.2, 0.3]], [[0.1, 0.8, 0.1]] * 3])
    assert room(6, 3, 1, 1.0) == 2
    chosen, acting = limited(wish, 1, 1.0)
    assert acting.all()
    # of the second picture's equal places the first two fit expert 1; the last one's second wish, 0, is full already
    assert chosen[..., 0].tolist() == [[0, 0, 2], [1, 1, 2]]


@given(
    st.integers(1, 6), st.integers(1, 12), st.integers(1, 4), st.sampled_from([1.0, 1.25, 2.0]), st.integers(0, 10**6)
)
def test_agrees_with_loops(experts, places, k, capacity, seed):
    k = min(k, experts)
    generator = torch.Generator().manual_seed(seed)
    wish = (torch.randint(0, 5, (1, places, experts), generator=generator) / 4).softmax(-1)  # with ties
    chosen, acting = limited(wish, k, capacity)
    assert actors(chosen, acting) == [set(held) for held in by_loops(wish[0].tolist(), k, capacity)]


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("capacity", [1.0, 1.5])
def test_is_respected_and_leaves_no_place_alone(k, capacity):
    wish = (torch.randn(4, 9, 4) + torch.tensor([6.0, 0, 0, 0])).softmax(-1)  # all want the first
    chosen, acting = limited(wish, k, capacity)
    took = torch.bincount(chosen[acting], minlength=4)
    assert took.max() <= room(36, 4, k, capacity)
    assert acting.any(-1).all()
    assert (chosen.sort(-1).values.diff(dim=-1) > 0).all()  # distinct, those that do not act too


def test_enough_room_is_the_plain_choice():
    wish = torch.randn(3, 9, 6).softmax(-1)
    chosen, acting = limited(wish, 2, 6.0)
    assert acting.all()
    assert torch.equal(chosen, ranked(wish)[..., :2])


def test_an_even_capacity_uses_all_experts_evenly():
    wish = (torch.randn(4, 8, 4) + torch.tensor([6.0, 3, 0, 0])).softmax(-1)
    chosen, acting = limited(wish, 1, 1.0)
    assert acting.all()
    assert torch.bincount(chosen.flatten()).tolist() == [8, 8, 8, 8]


def test_experts_that_do_not_act_have_no_weight():
    """One place, three experts, k = 2, room for one each: all is well; with equal wishes of two places one is short."""
    logits = torch.tensor([[[3.0, 2.0, 0.0], [2.9, 2.1, 0.0]]], requires_grad=True)
    weights, chosen, _ = choose(logits, 3, training=True, capacity=1.0)
    assert (weights > 0).all()  # k = E: everyone has room for everyone
    weights, chosen, _ = choose(logits, 2, training=True, capacity=1.0)
    assert room(2, 3, 2, 1.0) == 2
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 2))
    assert chosen.tolist() == [[[0, 1], [0, 1]]]


def test_a_place_without_its_second_expert():
    wish = torch.tensor([[[0.6, 0.4], [0.6, 0.4], [0.6, 0.4]]])
    chosen, acting = limited(wish, 2, 1.0)
    assert acting.all()  # room for three each
    # 5 places, 3 experts, k = 2: room for four each, twelve for ten wishes; yet who comes last holds all with room left
    logits = torch.tensor([[[2.0, 1, 0]] * 4 + [[1.0, 0, 2]]])
    weights, chosen, p = choose(logits, 2, training=True, capacity=1.0)
    assert chosen[0, :4].tolist() == [[0, 1]] * 4
    assert chosen[0, 4, 0] == 2
    assert weights[0, 4].tolist() == [1.0, 0.0]
    assert len(set(chosen[0, 4].tolist())) == 2
    assert p[0, 4, 0] > p[0, 4, 1]


def test_dropped_weights_have_finite_gradients():
    logits = torch.tensor([[[2.0, 1, 0]] * 4 + [[1.0, 0, 2]]], requires_grad=True)
    weights, _, _ = choose(logits, 2, training=True, capacity=1.0)
    weights[..., 0].sum().backward()
    assert logits.grad.isfinite().all()


def test_not_in_use():
    logits = torch.randn(2, 9, 4) + torch.tensor([5.0, 0, 0, 0])
    assert torch.equal(choose(logits, 1, capacity=1.0)[1], choose(logits, 1)[1])


def test_capacity_one_and_one_expert():
    weights, chosen, _ = choose(torch.randn(2, 3, 1), 1, training=True, capacity=1.0)
    assert (weights == 1).all()
    assert (chosen == 0).all()
