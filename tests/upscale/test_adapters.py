"""A mixture of ranks in a model: which layers, gates for a while, merging, copies, and the loss that balances."""

from __future__ import annotations

import copy
import io
import pickle
import re

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from moesaic.errors import ArgumentError, ShapeError
from moesaic.routing.balance import choice_shares, degradation_aware
from moesaic.upscale.adapters import MixOfRanks, mix_of_ranks
from moesaic.upscale.rank_gates import Router
from moesaic.upscale.ranks import RankedConv2d, RankedLinear

S = 3
SMALL = {"shared": 1, "routed": 4, "active": 2, "zero": 1, "scores": S}


class Net(nn.Module):
    """Convolutions of several kinds, one of them used twice, and linear layers."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, padding_mode="reflect"),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, groups=width),
        )
        self.twice = nn.Conv2d(width, width, 1)
        self.again = self.twice
        self.to_q = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.again(self.twice(self.body(self.head(x))).relu())
        return self.norm(self.to_q(x.flatten(2).mT))


def net(where: object = "*", *, seed: int = 0, **options) -> MixOfRanks:
    """Ranks that say something in a network."""
    torch.manual_seed(seed)
    mix = mix_of_ranks(Net().eval(), where, **{**SMALL, **options})
    for layer in mix.layers.values():
        nn.init.normal_(layer.up, std=0.3)
        if layer.router is not None:
            nn.init.normal_(layer.router.last)
    return mix


def rand(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


X = rand(3, 3, 6, 7)
TOLD = rand(3, S, seed=2)


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ("head", ["head"]),
        ("body.*", ["body.0"]),
        ("*", ["head", "body.0", "twice", "to_q"]),
        (["to_q", "head"], ["head", "to_q"]),
        (r"^(?:to_q|body\.\d+)$", ["body.0", "to_q"]),
        (re.compile("bod"), ["body.0"]),
        (lambda name, layer: isinstance(layer, nn.Conv2d), ["head", "body.0", "twice"]),
        ("again", ["twice"]),  # a layer under two names
        ([re.compile("q$"), "head", lambda name, layer: name == "body.0"], ["head", "body.0", "to_q"]),
    ],
)
def test_where(where, names):
    mix = net(where)
    assert list(mix.layers) == names
    assert isinstance(mix.model.to_q, RankedLinear) == ("to_q" in names)
    assert isinstance(mix.model.head, RankedConv2d) == ("head" in names)
    assert mix.model.again is mix.model.twice
    kinds = {name: type(module) for name, module in mix.model.named_modules()}
    assert kinds["body.2"] is nn.Conv2d


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("body.2", r"grouped convolution \(groups=24\)"),
        ("norm", "LayerNorm"),
        ("body", "Sequential"),
        ("haed", "it has 5 that can be converted, such as 'head'"),
        ("conv*", "names no layer"),
        ("^conv", "names no convolution"),
        ("^(", "no regular expression"),
        (lambda name, layer: isinstance(layer, nn.LayerNorm), "where chose no convolution"),
        ([], "where is a layer's name"),
        (3, "where is a layer's name"),
        ([3], "where holds 3"),
    ],
)
def test_where_that_means_nothing(where, says):
    model = Net()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ArgumentError, match=says):
        mix_of_ranks(model, where, **SMALL)
    assert model.state_dict().keys() == before.keys()
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_layers_that_can_have_no_ranks():
    mix = net("head")
    with pytest.raises(ArgumentError, match="'head' cannot be converted: it has ranks already"):
        mix_of_ranks(mix.model, "head", **SMALL)
    hooked = nn.Sequential(parametrizations.weight_norm(nn.Linear(8, 8)))
    with pytest.raises(ArgumentError, match="parametris"):
        mix_of_ranks(hooked, "0", **SMALL)

    class Standardised(nn.Conv2d):
        def _conv_forward(self, x, weight, bias):
            return super()._conv_forward(x, weight - weight.mean(), bias)

    with pytest.raises(ArgumentError, match="Standardised computes its output in its own way"):
        mix_of_ranks(nn.Sequential(Standardised(8, 8, 3)), "0", **SMALL)
    attention = nn.MultiheadAttention(8, 2)
    with pytest.raises(ArgumentError, match="torch's own attention"):
        mix_of_ranks(attention, "out_proj", **SMALL)
    with pytest.raises(ArgumentError, match="model is a torch module"):
        mix_of_ranks(nn.Linear, "", **SMALL)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"ranks": 0}, "ranks is a whole number"),
        ({"scores": 0}, "scores is a whole number"),
        ({"scores": True}, "scores is a whole number"),
        ({"active": 7}, "active is 7"),
        ({"routed": -1, "active": None, "zero": None}, "routed is a whole number"),
    ],
)
def test_wrong_options(options, says):
    with pytest.raises(ArgumentError, match=says):
        mix_of_ranks(Net(), "*", **{**SMALL, **options})


def test_the_rest_is_frozen():
    mix = net(["head", "to_q"])
    learned = {name for name, parameter in mix.model.named_parameters() if parameter.requires_grad}
    assert learned == {f"{layer}.{key}" for layer in ("head", "to_q") for key in ("down", "up", "router.last")}
    assert {id(p) for p in mix.parameters()} == {id(p) for p in [*mix.factors(), *mix.routers()]}
    assert len(mix.routers()) == 2
    more = mix_of_ranks(mix.model, "body.0", **SMALL)  # a second call adds to the first
    assert list(more.layers) == ["head", "body.0", "to_q"]
    assert all(parameter.requires_grad for parameter in more.parameters())
    with pytest.raises(ArgumentError, match=f"read {S} scores"):
        mix_of_ranks(mix.model, "twice", **{**SMALL, "scores": 2})


def test_defaults_are_those_of_the_paper_in_proportion():
    mix = mix_of_ranks(nn.Sequential(nn.Conv2d(320, 320, 3), nn.Conv2d(64, 32, 3), nn.Linear(16, 3)), "*")
    plans = [(one.shared, one.routed, one.ranks.active, one.zero) for one in mix.layers.values()]
    assert plans == [(8, 32, 8, 4), (2, 6, 2, 1), (1, 1, 1, 1)]
    assert mix.scores == 7
    half = mix_of_ranks(nn.Sequential(nn.Linear(320, 320)), "*", 20).layers["0"]
    assert (half.shared, half.routed, half.ranks.active, half.zero) == (4, 16, 4, 2)


def test_plain_lora():
    mix = net(shared=3, routed=0, active=None, zero=None)
    assert mix.scores is None
    assert mix.routers() == []
    alone = mix.model(X)  # nothing depends on scores
    with mix.given(TOLD):
        assert torch.equal(mix.model(X), alone)
        assert mix.routings() == {}
        assert float(mix.balance(TOLD[:, 0])) == 0
    with mix.merged():
        assert torch.allclose(mix.model(X), alone, atol=1e-5)


def test_gates_hold_within_their_block():
    mix = net()
    with mix.given(TOLD):
        first = mix.model(X)
        with mix.given(TOLD.flip(0)):
            second = mix.model(X)
            with mix.given(TOLD):
                assert torch.equal(mix.model(X), first)
            assert torch.equal(mix.model(X), second)
        assert torch.equal(mix.model(X), first)
        with pytest.raises(RuntimeError, match="mine"), mix.given(TOLD.flip(0)):
            raise RuntimeError("mine")
        assert torch.equal(mix.model(X), first)
    assert not torch.allclose(first, second)
    with pytest.raises(ArgumentError, match="run it within"):
        mix.model(X)


def test_each_picture_has_its_own_ranks():
    mix = net()
    with mix.given(TOLD):
        together = mix.model(X)
    for row in range(3):
        with mix.given(TOLD[row : row + 1]):
            assert torch.allclose(mix.model(X[row : row + 1])[0], together[row], atol=1e-5)


@pytest.mark.parametrize(
    ("scores", "says"),
    [
        (torch.rand(3, S + 1), rf"scores are a tensor \(B, {S}\)"),
        (torch.rand(S), "scores are a tensor"),
        ([[0.1] * S], "scores are a tensor"),
        (torch.full((3, S), float("nan")), "not all finite"),
        (torch.full((3, S), float("inf")), "not all finite"),
        (torch.full((3, S), 1.01), "from 0 to 1"),
        (torch.full((3, S), -0.01), "from 0 to 1"),
        (torch.ones(3, S, dtype=torch.complex64), "not torch.complex64"),
        (torch.ones(3, S, dtype=torch.int64), "not torch.int64"),
    ],
)
def test_wrong_scores(scores, says):
    mix = net()
    with pytest.raises(ArgumentError, match=says), mix.given(scores):
        pass
    with pytest.raises(ArgumentError, match=says):
        mix.merge(scores)
    assert not mix.is_merged


def test_scores_may_be_off_by_rounding():
    mix = net()
    for value in (-5e-4, 1 + 5e-4):
        with mix.given(torch.full((1, S), value)):
            dynamic = mix.model(X)
        with mix.merged(torch.full((1, S), value)):
            assert torch.allclose(mix.model(X), dynamic, atol=1e-5)


def test_merging():
    mix = net()
    weights = {name: (layer.weight, layer.weight.clone()) for name, layer in mix.layers.items()}
    state = {name: value.clone() for name, value in mix.model.state_dict().items()}
    with mix.given(TOLD[:1]):
        dynamic = mix.model(X)
    mix.merge(TOLD[:1])
    assert mix.is_merged
    assert torch.allclose(mix.model(X), dynamic, atol=1e-5)
    for action in (lambda: mix.merge(TOLD[:1]), lambda: mix.given(TOLD).__enter__()):
        with pytest.raises(ArgumentError, match=r"call unmerge\(\) first"):
            action()
    now = mix.model.state_dict()  # as if nothing were merged, so that a file saved now is right
    assert now.keys() == state.keys()
    assert all(torch.equal(now[name], value) for name, value in state.items())
    mix.unmerge()
    assert not mix.is_merged
    for name, (own, copied) in weights.items():
        assert mix.layers[name].weight is own
        assert torch.equal(own, copied)
    with mix.given(TOLD[:1]):
        assert torch.equal(mix.model(X), dynamic)
    with pytest.raises(RuntimeError, match="mine"), mix.merged(TOLD[:1]):
        raise RuntimeError("mine")
    assert not mix.is_merged
    with pytest.raises(ShapeError, match="one picture"):
        mix.merge(TOLD)
    with pytest.raises(ArgumentError, match=rf"pass a tensor \(1, {S}\)"):
        mix.merge()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_merging_into_half_precision(dtype):
    mix = net("to_q")
    layer = mix.layers["to_q"]
    mix.model.to(dtype)
    before = layer.weight.clone()
    with mix.merged(TOLD[:1]):
        exact = layer.weight.float() + layer.delta(mix.gates(TOLD[:1])["to_q"])
        assert layer.merged.dtype == dtype
        assert torch.equal(layer.merged, exact.to(dtype))
    assert torch.equal(layer.weight, before)


def test_a_weight_that_others_share_is_not_touched():
    table = nn.Embedding(20, 24)
    model = nn.Sequential(table, nn.Linear(24, 20, bias=False))
    model[1].weight = table.weight
    mix = mix_of_ranks(model, "1", **SMALL)
    nn.init.normal_(mix.layers["1"].up)
    assert mix.layers["1"].weight is table.weight
    before = table(torch.arange(20))
    with mix.merged(TOLD[:1]):
        assert torch.equal(table(torch.arange(20)), before)


def test_copies_and_pickles():
    mix = net()
    mix.model.mix = mix  # as a network that has its ranks as an attribute
    with mix.given(TOLD):
        out = mix.model(X)
        twin = copy.deepcopy(mix.model)
        thawed = pickle.loads(pickle.dumps(mix.model))
        for other in (twin, thawed):
            assert other.mix.model is other
            assert other.mix.layers["head"] is other.head
            with pytest.raises(ArgumentError, match="run it within"):
                other(X)
            with pytest.raises(ArgumentError, match="nothing was decided"):
                other.mix.routings()
            with other.mix.given(TOLD):
                assert torch.equal(other(X), out)
    alone = copy.deepcopy(net().model)
    with MixOfRanks(alone).given(TOLD):
        assert torch.equal(alone(X), out)
    mix.merge(TOLD[:1])
    merged = copy.deepcopy(mix)
    assert merged.is_merged
    merged.unmerge()
    assert mix.is_merged
    with pytest.raises(ArgumentError, match="has no ranks"):
        MixOfRanks(Net())


def test_no_grad_and_inference_mode():
    mix = net()
    with mix.given(TOLD):
        out = mix.model(X)
    with torch.no_grad(), mix.given(TOLD):
        assert torch.equal(mix.model(X), out)
    with torch.inference_mode():
        told, severity = TOLD.clone(), TOLD[:, 0].clone()  # as an estimator may hand them over
        with mix.given(told):
            assert torch.equal(mix.model(X), out)
        mix.merge(told[:1])
    x = X.clone().requires_grad_()
    mix.model(x).sum().backward()  # merged weights are no inference tensors
    mix.unmerge()
    with mix.given(told):
        (mix.model(X).square().sum() + mix.balance(severity)).backward()
    assert all(float(p.grad.abs().max()) > 0 for p in mix.routers())


def test_checkpointed_blocks():
    mix = net()
    mix.model.train()
    with mix.given(TOLD):
        mix.model(X).square().sum().backward()
    want = [p.grad.clone() for p in mix.parameters()]
    mix.model.zero_grad()
    with mix.given(TOLD):
        out = checkpoint(mix.model, X, use_reentrant=False)
        out.square().sum().backward()
    for parameter, gradient in zip(mix.parameters(), want, strict=True):
        assert torch.allclose(parameter.grad, gradient, atol=1e-4)


def test_state_dict_holds_everything():
    mix, other = net(seed=0), net(seed=1)
    assert not torch.equal(mix.layers["head"].down, other.layers["head"].down)
    other.model.load_state_dict(mix.model.state_dict())
    with mix.given(TOLD), other.given(TOLD):
        assert torch.equal(mix.model(X), other.model(X))
    base = Net()  # weights of the network without ranks fit, as their names are the same
    missing, unexpected = other.model.load_state_dict(base.state_dict(), strict=False)
    assert not unexpected
    assert {name.split(".")[-1] for name in missing} == {"down", "up", "last", "shares"}
    assert torch.equal(other.layers["head"].weight, base.head.weight)
    buffer = io.BytesIO()
    torch.save(mix.model.state_dict(), buffer)
    buffer.seek(0)
    other.model.load_state_dict(torch.load(buffer, weights_only=True))


def test_meta_device_and_seed():
    with torch.device("meta"):
        mix = mix_of_ranks(Net(), "*", **SMALL)
    real = net()
    assert all(value.is_meta for value in mix.model.state_dict().values())
    shapes = {name: value.shape for name, value in real.model.state_dict().items()}
    assert {name: value.shape for name, value in mix.model.state_dict().items()} == shapes
    mix.model.load_state_dict(real.model.state_dict(), assign=True)
    with mix.given(TOLD), real.given(TOLD):
        assert torch.equal(mix.model.eval()(X), real.model(X))
    drawn = []
    for _ in range(2):
        torch.manual_seed(5)
        drawn.append(mix_of_ranks(Net(), "*", **SMALL).model.state_dict())
    assert all(torch.equal(drawn[0][name], drawn[1][name]) for name in drawn[0])
    down = drawn[0]["to_q.down"]
    assert 0.5 < float(down.std()) * len(down) < 1.5


def test_routers_never_become_coarse():
    router = Router(4, 2, scores=3, hidden=5)
    first = router.first.detach().clone()
    router.half()
    assert router.first.dtype == torch.float32
    assert torch.equal(router.first, first)
    assert router.double().first.dtype == torch.float64
    assert router.to("meta").last.is_meta


@pytest.mark.parametrize("norm", ["none", "topk", "real"])
def test_layers_of_a_plan_decide_as_each_alone(norm):
    mix = net(gate_norm=norm)
    with mix.given(TOLD):
        routings = mix.routings()
    assert list(routings) == list(mix.layers)
    for name, layer in mix.layers.items():
        routing = routings[name]
        assert routing.grid == (1, 1)
        with layer.router.conditioned(TOLD):
            alone = layer.router(X, (1, 1))
        assert torch.equal(routing.chosen, alone.chosen)
        assert torch.allclose(routing.probabilities, alone.probabilities)
        assert torch.allclose(routing.logits, alone.logits)
        if norm == "topk":
            assert torch.allclose(routing.weights, alone.weights)


def test_balance_is_the_mean_over_layers():
    mix, severity = net(routed=6, zero=2), TOLD[:, 0]
    with mix.given(TOLD):
        routings = mix.routings()
    even = {name: torch.full((routing.experts,), 1 / routing.experts) for name, routing in routings.items()}
    zero = {name: layer.zero for name, layer in mix.layers.items()}
    want = [degradation_aware(r, severity, zero[n], even[n]) for n, r in routings.items()]
    assert torch.allclose(mix.balance(severity), torch.stack(want).mean())
    assert torch.allclose(mix.balance(severity, alpha=0.1), torch.stack(want).mean() / 10)
    plain = [degradation_aware(r, torch.ones(3), zero[n], even[n]) for n, r in routings.items()]
    assert torch.allclose(mix.balance(severity, kind="plain"), torch.stack(plain).mean())
    assert float(mix.balance(severity, kind="none")) == 0
    with pytest.raises(ArgumentError, match="kind 'even' is unknown"):
        mix.balance(severity, kind="even")
    with pytest.raises(ShapeError, match="each of 3 rows"):
        mix.balance(severity[:2])
    with pytest.raises(ArgumentError, match="nothing was decided"):
        net().balance(severity)


def test_balance_counts_in_training_alone():
    mix, severity = net("head"), TOLD[:, 0]
    router = mix.layers["head"].router
    with mix.given(TOLD):
        mix.balance(severity)
    assert torch.equal(router.shares, torch.full_like(router.shares, 1 / len(router.shares)))
    mix.model.train()
    before = router.shares.clone()
    with mix.given(TOLD):
        (routing,) = mix.routings().values()
        loss = mix.balance(severity)
    shares = 0.99 * before + 0.01 * choice_shares(routing)
    assert torch.allclose(router.shares, shares)
    assert torch.allclose(loss, degradation_aware(routing, severity, 1, shares))
    assert router.shares.sum() == pytest.approx(1)
    loss.backward()
    assert float(router.last.grad.abs().max()) > 0


def test_balance_alone_gives_zero_experts_to_clean_pictures():
    torch.manual_seed(0)
    mix = mix_of_ranks(nn.Linear(256, 256).train(), "", shared=2, routed=16, active=4, zero=4, scores=2)
    (layer,) = mix.layers.values()
    optimiser = torch.optim.Adam(mix.routers(), lr=0.02)
    for _ in range(400):
        severity = torch.rand(16)
        with mix.given(torch.stack([severity, severity], 1)):
            loss = mix.balance(severity)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    mix.model.eval()
    severity = torch.linspace(0, 1, 11)
    with mix.given(torch.stack([severity, severity], 1)):
        (routing,) = mix.routings().values()
    picks = (routing.chosen >= layer.routed).sum((1, 2))
    assert picks[0] > picks[-1]
    assert bool((picks.diff() <= 0).all()), picks.tolist()


def test_layers_that_torch_reads_itself_are_left_alone():
    """Its encoder layer has a fast path in evaluation, in which ranks of these layers would do nothing."""
    model = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2, enable_nested_tensor=False
    )
    with pytest.raises(ArgumentError, match="names no layer"):
        mix_of_ranks(model, "*linear*", scores=4)
    with pytest.raises(ArgumentError, match="reads its weight itself"):
        mix_of_ranks(model, "layers.0.linear1", scores=4)
    own = nn.ModuleDict({"encoder": model, "mine": nn.Linear(8, 8)})
    assert list(mix_of_ranks(own, "*", scores=4).layers) == ["mine"]


def test_scores_of_every_precision_merge_as_they_are_given():
    model = nn.Sequential(nn.Linear(8, 8))
    mix = mix_of_ranks(model, "*", scores=2, ranks=2)
    with torch.no_grad():
        mix.layers["0"].up.normal_()
    x = torch.randn(1, 8)
    for kind in (torch.float64, torch.float32, torch.bfloat16):
        scores = torch.tensor([[0.25, 0.5]], dtype=kind)
        with mix.given(scores):
            dynamic = model(x)
        with mix.merged(scores):
            torch.testing.assert_close(model(x), dynamic)


def test_weights_are_not_loaded_into_merged_layers():
    model = nn.Sequential(nn.Linear(8, 8))
    mix = mix_of_ranks(model, "*", scores=2, ranks=2)
    held = model.state_dict()
    with mix.merged(torch.zeros(1, 2)), pytest.raises(ArgumentError, match="unmerge"):
        model.load_state_dict(held)
    model.load_state_dict(held)


def test_what_is_no_model_and_no_severity():
    for wrong in (None, 5, "model"):
        with pytest.raises(ArgumentError, match="model is a torch module"):
            MixOfRanks(wrong)
    mix = mix_of_ranks(nn.Sequential(nn.Linear(8, 8)), "*", scores=2)
    with mix.given(torch.zeros(1, 2)), pytest.raises(ArgumentError, match="severity"):
        mix.balance(torch.tensor([float("nan")]))
