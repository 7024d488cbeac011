from __future__ import annotations

import copy
import importlib.util
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from moesaic.errors import ArgumentError, LimitError, ShapeError
from moesaic.routing import (
    RoutedConv2d,
    RoutedLinear,
    balance_loss,
    collect,
    recording,
    routed_layers,
    sparsify,
)


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Sequential(nn.Conv2d(8, 8, 3, padding=2, dilation=2), nn.BatchNorm2d(8)),
        nn.Conv2d(8, 4, 1),
    )


@pytest.mark.parametrize("gate", ["two_conv", "conv", "linear", "frequency", "uniform", "random", "position", "frozen"])
@pytest.mark.parametrize("grid", [1, 3, (2, 5)])
def test_the_output_is_unchanged_at_the_start(gate, grid):
    model, x = small().eval(), torch.randn(2, 3, 17, 23)
    routed = sparsify(model, "2.0", 4, 2, grid, gate=gate)
    assert torch.allclose(routed(x), model(x), atol=1e-5)
    assert isinstance(routed[2][0], RoutedConv2d)
    assert isinstance(model[2][0], nn.Conv2d)  # the model that was given is left alone


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 5, padding=2),
        nn.Conv2d(4, 6, 3, padding=4, dilation=4),
        nn.Conv2d(4, 6, 3, stride=2, padding=1),
        nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False),
        nn.Conv2d(4, 6, (2, 4), padding="same"),
        nn.Conv2d(4, 6, (4, 3), padding="same", dilation=(1, 2)),
        nn.Conv2d(4, 6, 3, padding="valid"),
        nn.Conv2d(4, 6, 3, padding=(1, 2), padding_mode="reflect"),
        nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(4, 6, 3, padding=1, padding_mode="replicate"),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:Using padding='same'")  # torch's, about its own layer
def test_every_kind_of_convolution(layer):
    x = torch.randn(2, 4, 19, 16)
    routed = sparsify(layer, "", 3, 2, 3)
    assert torch.allclose(routed(x), layer(x), atol=1e-5)


@pytest.mark.parametrize(("shape", "grid"), [((5, 6), 1), ((2, 12, 6), 3), ((2, 7, 8, 6), (3, 2))])
def test_linear_layers(shape, grid):
    layer, x = nn.Linear(6, 5), torch.randn(shape)
    routed = sparsify(layer, "", 4, 2, grid, gate="linear")
    assert isinstance(routed, RoutedLinear)
    assert torch.allclose(routed(x), layer(x), atol=1e-5)
    routed.train()(x)
    assert collect(routed)[""].places == (grid * grid if isinstance(grid, int) else 6)


def test_linear_layers_refuse_what_has_no_places():
    layer = sparsify(nn.Linear(6, 5), "", 4, 2, 3, gate="linear")
    with pytest.raises(ShapeError, match="grid of 9 patches does not fit"):
        layer(torch.randn(2, 6))
    with pytest.raises(ShapeError, match=r"\(B, C\)"):
        layer(torch.randn(6))


def test_where_takes_names_patterns_lists_and_functions():
    model = small()
    assert list(routed_layers(sparsify(model, "2.0"))) == ["2.0"]
    assert list(routed_layers(sparsify(model, "*"))) == ["0", "2.0", "3"]  # what cannot be converted is not meant
    assert list(routed_layers(sparsify(model, ["0", "3"]))) == ["0", "3"]
    dilated = sparsify(model, lambda name, layer: isinstance(layer, nn.Conv2d) and layer.dilation[0] > 1)
    assert list(routed_layers(dilated)) == ["2.0"]


def test_training_makes_the_experts_differ():
    model = sparsify(small(), "2.0", 4, 2, 3, seed=1).train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
    x, y = torch.randn(4, 3, 15, 15), torch.randn(4, 4, 15, 15)
    for _ in range(3):
        optimiser.zero_grad()
        loss = nn.functional.mse_loss(model(x), y) + balance_loss(model)
        loss.backward()
        optimiser.step()
    weight = model[2][0].experts.kernels
    assert (weight[0] - weight[1]).abs().max() > 1e-4
    gate_gradients = [p.grad.abs().max() for p in model[2][0].gate.parameters()]
    assert all(g > 0 for g in gate_gradients)


def test_one_expert_per_place_keeps_a_gradient_to_the_gate():
    model = sparsify(small(), "2.0", 4, 1, 3, initial="fresh").train()
    model(torch.randn(2, 3, 12, 12)).square().sum().backward()
    assert all(p.grad.abs().max() > 1e-4 for p in model[2][0].gate.parameters())


def test_fresh_experts_differ_and_jitter_spares_the_first():
    model = small()
    old = model[2][0].weight
    fresh = sparsify(model, "2.0", 4, initial="fresh")[2][0].experts.kernels
    assert all((fresh[i] - fresh[j]).abs().max() > 0.01 for i in range(4) for j in range(i))
    shaken = sparsify(model, "2.0", 4, jitter=0.1)[2][0].experts.kernels
    assert torch.equal(shaken[0], old)
    assert 0.05 < (shaken[1] - old).std() / old.std() < 0.15


def test_the_seed_decides_and_the_global_generator_is_left_alone():
    def gate_of(seed):
        return sparsify(model, "2.0", seed=seed)[2][0].gate.first

    model = small()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again, other = gate_of(1), gate_of(1), gate_of(2)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_modes_freezing_and_dtype_are_kept():
    model = small().eval().double()
    model[2][0].weight.requires_grad_(False)
    layer = sparsify(model, "2.0")[2][0]
    assert not layer.training
    assert not layer.experts.weight.requires_grad
    assert layer.experts.bias.requires_grad
    assert layer.experts.weight.dtype == torch.float64
    x = torch.randn(1, 3, 9, 9, dtype=torch.float64)
    assert torch.allclose(sparsify(model, "2.0")(x), model(x), atol=1e-6)


def test_a_layer_used_twice_stays_one_layer():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Conv2d(3, 3, 3, padding=1)
            self.b = self.a

        def forward(self, x):
            return self.b(self.a(x))

    model, x = Twice(), torch.randn(1, 3, 9, 9)
    routed = sparsify(model, "a")
    assert routed.a is routed.b
    assert torch.allclose(routed(x), model(x), atol=1e-5)


def test_in_place():
    model = small()
    assert sparsify(model, "0", inplace=True) is model
    assert isinstance(model[0], RoutedConv2d)


def test_state_dicts_copies_and_pickles():
    model, x = sparsify(small(), "2.0"), torch.randn(1, 3, 9, 9)
    model.train()(x)  # a recorded routing holds a graph, which cannot be copied
    model.eval()
    twin = sparsify(small(), "2.0", seed=9).eval()
    twin.load_state_dict(model.state_dict())
    for other in (twin, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(x), model(x))
    assert copy.deepcopy(model)[2][0].routing is None


def test_recording():
    model, x = sparsify(small(), ["0", "2.0"]).eval(), torch.randn(1, 3, 9, 9)
    model(x)
    with pytest.raises(ArgumentError, match="'0' has recorded nothing"):
        collect(model)
    with recording(model):
        model(x)
    assert list(collect(model)) == ["0", "2.0"]
    expected = sum(layer.balance(layer.routing) for layer in routed_layers(model).values())
    assert torch.allclose(balance_loss(model), expected)
    assert balance_loss(small()) == 0


BAD = [
    ({"where": "2.1"}, "cannot be converted: it is a BatchNorm2d"),
    ({"where": "nothing"}, "names no layer of this model; it has 3 that can be converted, such as"),
    ({"where": "2.00"}, "'2.0'"),
    ({"where": []}, "where is a layer's name"),
    ({"where": 3}, "where is a layer's name"),
    ({"where": lambda name, layer: False}, "where chose no layer"),
    ({"k": 9}, "k is 9, but there are 8 experts"),
    ({"k": 0}, "k is a whole number"),
    ({"experts": 0}, "experts is a whole number"),
    ({"grid": 0}, "grid 0 has no places"),
    ({"gate": "three_conv"}, "gate 'three_conv' is unknown"),
    ({"gate_options": {"noize": 1}}, "no option 'noize'"),
    ({"balance": "switched"}, "balance"),
    ({"initial": "old"}, "initial is 'copy' or 'fresh'"),
    ({"jitter": -1}, "jitter"),
    ({"how": "fast"}, "how is"),
]


@pytest.mark.parametrize(("change", "message"), BAD, ids=[m for _, m in BAD])
def test_bad_input_is_refused_and_changes_nothing(change, message):
    model = small()
    before = list(model.named_modules())
    with pytest.raises(ArgumentError, match=message.replace("(", r"\(")):
        sparsify(model, **{"where": "2.0", "inplace": True, **change})
    assert list(model.named_modules()) == before


def test_layers_with_a_life_of_their_own_are_refused():
    class Own(nn.Conv2d):
        def forward(self, x):
            return super().forward(x) * 2

    hooked = nn.Conv2d(3, 3, 1)
    hooked.register_forward_hook(lambda *_: None)
    for layer, reason in (
        (Own(3, 3, 1), "in its own way"),
        (hooked, "hooks"),
        (parametrizations.weight_norm(nn.Conv2d(3, 3, 1)), "parametris"),
        (nn.LazyConv2d(3, 1), "first input"),
        (nn.ConvTranspose2d(3, 3, 2), "ConvTranspose2d"),
        (sparsify(nn.Conv2d(3, 3, 1), ""), "routed already"),
    ):
        with pytest.raises(ArgumentError, match=reason):
            sparsify(nn.Sequential(layer), "0")


@pytest.mark.parametrize("training", [True, False])
def test_no_graph_breaks(training):
    model = sparsify(small(), ["0", "2.0"], 4, 2).train(training)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 3, 13, 12)
    want = copy.deepcopy(model)(x)
    got = compiled(x)
    assert torch.allclose(got, want, atol=1e-5)
    if training:
        (got.sum() + balance_loss(model)).backward()
        assert model[0].gate.first.grad is not None
    torch.compiler.reset()


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="onnx, onnxscript and onnxruntime are not installed",
)
@pytest.mark.filterwarnings("ignore")  # the exporter's own
@pytest.mark.parametrize("gate", ["two_conv", "conv", "linear", "frequency", "uniform", "position"])
def test_onnx_with_dynamic_sizes(tmp_path, gate):
    import onnxruntime

    model = sparsify(small(), ["0", "2.0"], 4, 2, gate=gate).eval()
    dynamic = torch.export.Dim.DYNAMIC
    program = torch.onnx.export(
        model, (torch.randn(2, 3, 20, 31),), dynamo=True, dynamic_shapes=({2: dynamic, 3: dynamic},), verbose=False
    )
    program.save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for size in ((20, 31), (9, 9), (40, 17)):
        x = torch.randn(2, 3, *size)
        (got,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        with torch.no_grad():
            assert abs(got - model(x).numpy()).max() < 1e-4


def test_channels_last_models_stay_so():
    model, x = small().eval(), torch.randn(2, 3, 12, 15).to(memory_format=torch.channels_last)
    want = model(x)
    routed = sparsify(model, "2.0", 4, 2, 3).to(memory_format=torch.channels_last)
    with torch.no_grad():
        y = routed[2][0](routed[1](routed[0](x)))
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(routed(x), want, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"gate_options": {"grid": 3}}, "gate_options holds grid, which the layer decides"),
        ({"gate_options": {"channels": 3, "k": 2}}, "gate_options holds k, channels"),
        ({"gate_options": 5}, "gate_options is a table of names"),
        ({"gate_options": {1: 2}}, "gate_options is a table of names"),
        ({"gate_options": {"activation": []}}, r"activation \[\] is unknown"),
        ({"gate": []}, r"gate \[\] is unknown"),
        ({"experts": "8"}, "experts is a whole number from 1 up, not '8'"),
        ({"experts": True}, "experts is a whole number"),
        ({"experts": -3}, "experts is a whole number"),
        ({"experts": 10**9}, "experts is a whole number from 1 to 4096, not 1000000000"),
        ({"grid": (True, 2)}, "grid"),
        ({"jitter": "x"}, "jitter is a share from 0 up, not 'x'"),
        ({"seed": "x"}, "seed is a whole number of at most 64 bits, not 'x'"),
        ({"seed": 2**70}, "seed"),
    ],
)
def test_values_of_another_kind(change, says):
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    with pytest.raises(ArgumentError, match=says) as caught:
        sparsify(model, "0", inplace=True, **change)
    assert "\n" not in str(caught.value)
    assert isinstance(model[0], nn.Conv2d)  # nothing was half converted


def test_gates_beyond_memory():
    with pytest.raises(LimitError, match="not enough memory for the gate 'two_conv' with 8 experts, hidden 1000000000"):
        sparsify(nn.Conv2d(3, 4, 3), "", gate_options={"hidden": 10**15})


def test_what_is_no_model():
    with pytest.raises(ArgumentError, match="model is a torch module, not int"):
        sparsify(5, "0")


def test_layers_that_torch_reads_itself_are_left_alone():
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    model = nn.Sequential(nn.TransformerEncoder(layer, 1, enable_nested_tensor=False), nn.Linear(16, 16))
    assert [name for name, one in sparsify(model, "*", experts=2, k=1).named_modules() if hasattr(one, "gate")] == ["1"]
    with pytest.raises(ArgumentError, match="reads its weight itself"):
        sparsify(model, "0.layers.0.linear1", experts=2, k=1)
