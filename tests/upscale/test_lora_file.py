"""Ranks as files: their own, and plain LoRA that other programs load."""

from __future__ import annotations

import copy
import json
import logging
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from moesaic.errors import ArgumentError, LimitError, ModelError, OutputExistsError
from moesaic.upscale.adapters import MixOfRanks, mix_of_ranks
from moesaic.upscale.lora_file import export_lora, load_ranks, save_ranks, typical_of
from moesaic.upscale.typical import Typical
from moesaic.weights_file import Card, WeightLimits, read_card, read_weights, write_weights

S = 3
SMALL = {"shared": 1, "routed": 4, "active": 2, "zero": 2, "scores": S}
WHO = "severity-net 1 0123abcd"


class Net(nn.Module):
    """Convolutions and linear layers, narrow and wide, some whose names end alike."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 24, 3, padding=1, stride=2)
        self.inner = nn.Sequential()
        self.inner.conv = nn.Conv2d(24, 24, 1)
        self.inner.to_q = nn.Linear(24, 32)
        self.to_q = nn.Linear(32, 24)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.inner.conv(self.conv(x).relu())
        return self.to_q(self.inner.to_q(x.flatten(2).mT))


WHERE = ["conv", "to_q", "inner.to_q"]  # not inner.conv, whose name ends like the first


def base() -> nn.Module:
    torch.manual_seed(0)
    return Net().eval()


def trained(model: nn.Module, where: object = WHERE, seed: int = 1, **options) -> MixOfRanks:
    torch.manual_seed(seed)
    mix = mix_of_ranks(model, where, **{**SMALL, **options})
    for layer in mix.layers.values():
        nn.init.normal_(layer.up, std=0.3)
        if layer.router is not None:
            nn.init.normal_(layer.router.last)
            nn.init.uniform_(layer.router.shares)
    return mix


def rand(*shape: int, seed: int = 2) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


X, TOLD = rand(2, 3, 8, 6), rand(1, S, seed=3)


@pytest.mark.parametrize("options", [{}, {"hidden": 5, "gate_norm": "real", "expert_rank": 2}, {"routed": 0}])
def test_saving_and_loading(tmp_path, options):
    if options.get("routed") == 0:
        options = {**options, "active": 0, "zero": 0, "shared": 4}
    mix = trained(base(), **options)
    written = mix.save(tmp_path / "ranks.safetensors", estimator=WHO, card=Card(name="mine", architecture="", task=""))
    assert written.name == "mine"
    assert written.parameters == sum(parameter.numel() for parameter in mix.parameters())
    model, state = base(), torch.get_rng_state()
    loaded = load_ranks(model, tmp_path / "ranks.safetensors", estimator=WHO)
    assert torch.equal(torch.get_rng_state(), state)
    assert loaded.card == written == read_card(tmp_path / "ranks.safetensors")
    assert list(loaded.layers) == list(mix.layers)
    for name, layer in mix.layers.items():
        other = loaded.layers[name]
        assert other.ranks == layer.ranks
        assert torch.equal(other.down, layer.down.half().float())
        assert torch.equal(other.up, layer.up.half().float())
        if layer.router is not None:  # to the bit, so that it decides the same
            own = layer.router.state_dict()
            assert all(torch.equal(value, own[key]) for key, value in other.router.state_dict().items())
    with mix.given(TOLD), loaded.given(TOLD):
        assert torch.allclose(loaded.model(X), mix.model(X), atol=5e-3)


def test_a_layer_that_is_the_model(tmp_path):
    mix = trained(nn.Linear(24, 24), "")
    save_ranks(mix, tmp_path / "one.safetensors", estimator=WHO)
    loaded = load_ranks(nn.Linear(24, 24), tmp_path / "one.safetensors", estimator=None)
    assert torch.equal(loaded.layers[""].router.last, mix.layers[""].router.last)
    with pytest.raises(ArgumentError, match="single layer"):
        export_lora(mix, TOLD, tmp_path / "lora")


def test_another_estimator_is_refused(tmp_path):
    file = tmp_path / "ranks.safetensors"
    trained(base()).save(file, estimator=WHO)
    model = base()
    before = model.state_dict().keys()
    with pytest.raises(ModelError, match=f"scores of the estimator {WHO}, and those of oracle"):
        load_ranks(model, file, estimator="oracle")
    assert model.state_dict().keys() == before
    load_ranks(model, file, estimator=None)
    for wrong in ("", None, 3):
        with pytest.raises(ArgumentError, match="identity"):
            trained(base()).save(tmp_path / "x.safetensors", estimator=wrong)


def test_typical_scores(tmp_path):
    table = Typical(("a", "b", "c"), tuple((i / 10, i / 20, 0.5) for i in range(11)))
    card = trained(base()).save(tmp_path / "ranks.safetensors", estimator=WHO, typical=table)
    assert typical_of(card) == table == typical_of(read_card(tmp_path / "ranks.safetensors"))
    assert typical_of(Card(name="x", architecture="", task="")) is None
    with pytest.raises(ModelError, match="damaged"):
        typical_of(Card(name="x", architecture="", task="", options={"typical": {"names": ["a"]}}))


def test_damaged_and_foreign_files(tmp_path):
    file = tmp_path / "ranks.safetensors"
    mix = trained(base())
    mix.save(file, estimator=WHO)
    with pytest.raises(OutputExistsError):
        mix.save(file, estimator=WHO)
    mix.save(file, estimator=WHO, force=True)
    with pytest.raises(LimitError):
        load_ranks(base(), file, estimator=WHO, limits=WeightLimits(file_bytes=100))
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(data)
    model = base()
    with pytest.raises(ModelError, match="damaged"):
        load_ranks(model, broken, estimator=WHO)
    network = tmp_path / "network.safetensors"
    write_weights(network, {"a": torch.ones(2)}, Card(name="a", architecture="unet", task="segment"))
    with pytest.raises(ModelError, match="holds a unet, not ranks"):
        load_ranks(model, network, estimator=WHO)
    contradictory = {"conv": {"shared": 1, "routed": 0, "active": 3, "zero": 0}}
    for layers in (None, {}, {"conv": 3}, {"conv": {"shared": 1}}, contradictory):
        options = {"estimator": WHO, "scores": S, "layers": layers}
        card = Card(name="a", architecture="mix_of_ranks", task="upscale", options=options)
        write_weights(network, {"a": torch.ones(2)}, card, force=True)
        with pytest.raises(ModelError, match="does not say what ranks"):
            load_ranks(model, network, estimator=WHO)
    assert not any(key.endswith("down") for key in model.state_dict())


def test_another_network_is_refused(tmp_path):
    file = tmp_path / "ranks.safetensors"
    trained(base()).save(file, estimator=WHO)
    other = base()
    del other.to_q
    with pytest.raises(ModelError, match="'to_q': the model has no such layer"):
        load_ranks(other, file, estimator=WHO)
    wider = base()
    wider.to_q = nn.Linear(32, 28)
    with pytest.raises(ModelError, match=r"to_q.up are \(24, 5\), not \(28, 5\)"):
        load_ranks(wider, file, estimator=WHO)
    again = trained(base()).model
    with pytest.raises(ModelError, match="has ranks already"):
        load_ranks(again, file, estimator=WHO)
    assert not any("down" in key for model in (other, wider) for key in model.state_dict())


def applied(weights: dict[str, torch.Tensor], names: dict[str, str], a: str, b: str) -> torch.Tensor:
    """What the network makes once the LoRA of a file is added by hand."""
    model = base()
    with torch.no_grad():
        for name, key in names.items():
            down, up = weights[f"{key}.{a}.weight"], weights[f"{key}.{b}.weight"]
            assert up.ndim == down.ndim
            weight = model.get_submodule(name).weight
            weight += (up.flatten(1) @ down.flatten(1)).view(weight.shape)
    return model(X)


@pytest.mark.parametrize("merged", [False, True])
def test_exports_by_hand(tmp_path, merged):
    mix = trained(base())
    with mix.given(TOLD):
        want = mix.model(X)
    if merged:
        mix.merge(TOLD)
    mix.export_lora(TOLD, tmp_path / "peft")
    weights = load_file(tmp_path / "peft" / "adapter_model.safetensors")
    config = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    on = max(int(gate.count_nonzero()) for gate in mix.gates(TOLD).values())
    assert config["r"] == config["lora_alpha"] == on
    assert {value.shape[0] for key, value in weights.items() if "lora_A" in key} == {on}  # one rank for all
    names = {name: f"base_model.model.{name}" for name in WHERE}
    assert len(weights) == 2 * len(WHERE)
    assert torch.allclose(applied(weights, names, "lora_A", "lora_B"), want, atol=1e-5)
    mix.export_lora(TOLD, tmp_path / "a.safetensors", layout="diffusers", prefix="net")
    weights = load_file(tmp_path / "a.safetensors")
    names = {name: f"net.{name}" for name in WHERE}
    assert torch.allclose(applied(weights, names, "lora_A", "lora_B"), want, atol=1e-5)
    mix.export_lora(TOLD, tmp_path / "b.safetensors", layout="kohya")
    weights = load_file(tmp_path / "b.safetensors")
    names = {name: "lora_unet_" + name.replace(".", "_") for name in WHERE}
    assert torch.allclose(applied(weights, names, "lora_down", "lora_up"), want, atol=1e-5)
    assert all(float(weights[f"{key}.alpha"]) == on for key in names.values())


def test_export_dtypes_and_prefixes(tmp_path):
    mix = trained(base())
    export_lora(mix, TOLD, tmp_path / "a.safetensors", layout="diffusers", prefix="", dtype=torch.float16)
    weights = load_file(tmp_path / "a.safetensors")
    assert set(weights) == {f"{name}.{key}.weight" for name in WHERE for key in ("lora_A", "lora_B")}
    assert {value.dtype for value in weights.values()} == {torch.float16}
    nn.init.constant_(mix.layers["conv"].up, 1e6)
    with pytest.raises(ArgumentError, match=r"too large for torch\.float16; export them as torch\.float32"):
        export_lora(mix, TOLD, tmp_path / "b.safetensors", layout="diffusers", dtype=torch.float16)
    assert not (tmp_path / "b.safetensors").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"layout": "a1111"}, "layout is 'peft'"),
        ({"layout": "diffusers"}, "ends in .safetensors"),
        ({"dtype": torch.int8}, "dtype is torch.float32"),
        ({"prefix": "unet"}, "its own prefix"),
    ],
)
def test_wrong_exports(tmp_path, options, says):
    with pytest.raises(ArgumentError, match=says):
        export_lora(trained(base()), TOLD, tmp_path / "lora", **options)
    assert not list(tmp_path.iterdir())


def test_exports_overwrite_only_when_told(tmp_path):
    mix = trained(base())
    for name, layout in (("folder", "peft"), ("a.safetensors", "kohya")):
        mix.export_lora(TOLD, tmp_path / name, layout=layout)
        with pytest.raises(OutputExistsError):
            mix.export_lora(TOLD, tmp_path / name, layout=layout)
        mix.export_lora(TOLD, tmp_path / name, layout=layout, force=True)
    with pytest.raises(ArgumentError, match="cannot"):
        mix.export_lora(TOLD, tmp_path / "a.safetensors", layout="peft")
    with pytest.raises(ArgumentError, match="cannot make the folder"):
        mix.export_lora(TOLD, tmp_path / "no" / "such", layout="peft")
    same = nn.ModuleDict({"a": nn.ModuleDict({"b": nn.Linear(24, 24)}), "a_b": nn.Linear(24, 24)})
    with pytest.raises(ArgumentError, match="two layers are called lora_unet_a_b"):
        trained(same, "*").export_lora(TOLD, tmp_path / "c.safetensors", layout="kohya")


def test_convolutions_that_peft_does_not_follow(tmp_path, caplog):
    model = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"), nn.Conv2d(8, 8, 3))
    with caplog.at_level(logging.WARNING):
        trained(model, "*").export_lora(TOLD, tmp_path / "lora")
    assert "1 exported convolutions" in caplog.text
    assert "(the first is 0)" in caplog.text


@pytest.mark.filterwarnings("ignore")  # of other packages, about each other
def test_peft_loads_it(tmp_path):
    peft = pytest.importorskip("peft")
    mix = trained(base())
    with mix.given(TOLD):
        want = mix.model(X)
    mix.export_lora(TOLD, tmp_path / "lora")
    theirs = peft.PeftModel.from_pretrained(base(), str(tmp_path / "lora"))
    assert torch.allclose(theirs(X), want, atol=1e-5)
    assert type(theirs.base_model.model.inner.conv) is nn.Conv2d
    assert torch.allclose(theirs.merge_and_unload()(X), want, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_peft_merges_what_it_does_not_follow(tmp_path):
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 24, 3, padding=2, dilation=2, padding_mode="reflect"), nn.Conv2d(24, 8, 3))
    mix = trained(copy.deepcopy(model), "0")
    with mix.given(TOLD):
        want = mix.model(X)
    mix.export_lora(TOLD, tmp_path / "lora")
    theirs = peft.PeftModel.from_pretrained(model, str(tmp_path / "lora")).merge_and_unload()
    assert torch.allclose(theirs(X), want, atol=1e-5)


def tiny_unet():
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    return diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=8,
        norm_num_groups=8,
    ).eval()


TARGETS = (
    r"^(.+\.)?(to_q|to_k|to_v|to_out\.0|conv|conv1|conv2|conv_in|conv_out|conv_shortcut|proj_in|proj_out"
    r"|ff\.net\.0\.proj|ff\.net\.2)$"
)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("layout", ["diffusers", "kohya"])
def test_diffusers_loads_it(tmp_path, layout):
    pytest.importorskip("peft")
    unet = tiny_unet()
    from diffusers import StableDiffusionPipeline

    # of kohya's names diffusers translates those of attention, but not all of those of convolutions
    mix = trained(copy.deepcopy(unet), TARGETS if layout == "diffusers" else r"^.+\.attn\d\.to_(q|k|v|out\.0)$")
    assert len(mix.layers) > 15
    with torch.no_grad():
        for layer in mix.layers.values():
            layer.up.mul_(0.1)  # outputs of about 1, as 1e-5 is meant
    inputs = (rand(1, 4, 8, 8), 7, rand(1, 5, 16))
    with torch.no_grad(), mix.given(TOLD):
        want = mix.model(*inputs).sample
        assert (want - unet(*inputs).sample).abs().max() > 0.01
    file = tmp_path / "lora.safetensors"
    mix.export_lora(TOLD, file, layout=layout)
    weights, alphas = StableDiffusionPipeline.lora_state_dict(str(file))
    theirs = copy.deepcopy(unet)
    StableDiffusionPipeline.load_lora_into_unet(weights, alphas, theirs)
    with torch.no_grad():
        assert torch.allclose(theirs(*inputs).sample, want, atol=1e-5)
    if layout == "diffusers":
        unet.load_lora_adapter(str(file), prefix="unet")
        with torch.no_grad():
            assert torch.allclose(unet(*inputs).sample, want, atol=1e-5)


class Upscaler(nn.Module):
    """Named as a `DiffusionUpscaler` is."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet
        self.vae = nn.ModuleDict({"encoder": nn.ModuleDict({"conv_in": nn.Conv2d(3, 8, 3)})})


@pytest.mark.filterwarnings("ignore")
def test_a_whole_upscaler_exports_what_a_unet_loads(tmp_path, caplog):
    pytest.importorskip("peft")

    unet = tiny_unet()
    mix = trained(Upscaler(copy.deepcopy(unet)), TARGETS)
    with torch.no_grad():
        for layer in mix.layers.values():
            layer.up.mul_(0.1)
    inputs = (rand(1, 4, 8, 8), 7, rand(1, 5, 16))
    with torch.no_grad(), mix.given(TOLD):
        want = mix.model.unet(*inputs).sample
    with caplog.at_level(logging.WARNING):
        mix.export_lora(TOLD, tmp_path / "a.safetensors", layout="diffusers")
    assert "1 layers of the vae" in caplog.text
    names = set(load_file(tmp_path / "a.safetensors"))
    assert all(name.startswith(("unet.", "vae.encoder.")) and "unet.unet" not in name for name in names)
    unet.load_lora_adapter(str(tmp_path / "a.safetensors"), prefix="unet")
    with torch.no_grad():
        assert torch.allclose(unet(*inputs).sample, want, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_a_whole_upscaler_in_the_names_of_kohya(tmp_path, caplog):
    """Diffusers takes nothing from a file in which one name is none of kohya's."""
    pytest.importorskip("peft")
    unet = tiny_unet()
    from diffusers import StableDiffusionPipeline

    mix = trained(Upscaler(copy.deepcopy(unet)), [r"^unet\..+\.attn\d\.to_(q|k|v|out\.0)$", "vae.encoder.conv_in"])
    with torch.no_grad():
        for layer in mix.layers.values():
            layer.up.mul_(0.1)
    inputs = (rand(1, 4, 8, 8), 7, rand(1, 5, 16))
    with torch.no_grad(), mix.given(TOLD):
        want = mix.model.unet(*inputs).sample
    file = tmp_path / "lora.safetensors"
    mix.export_lora(TOLD, file, layout="kohya")
    assert "1 layers of the vae are left out" in caplog.text
    weights, alphas = StableDiffusionPipeline.lora_state_dict(str(file))
    StableDiffusionPipeline.load_lora_into_unet(weights, alphas, unet)
    with torch.no_grad():
        assert torch.allclose(unet(*inputs).sample, want, atol=1e-5)
    mix.export_lora(TOLD, file, layout="kohya", prefix="mine", force=True)
    assert any(name.startswith("mine_vae_encoder_conv_in.") for name in load_file(file))
    alone = trained(Upscaler(nn.Identity()), "vae.*")
    with pytest.raises(ArgumentError, match="pass a prefix"):
        alone.export_lora(TOLD, tmp_path / "none.safetensors", layout="kohya")
    assert not (tmp_path / "none.safetensors").exists()


@pytest.mark.parametrize("scores", ["x", 4.0, [4], {}])
def test_a_card_with_other_scores_than_a_count(tmp_path, scores):
    mix = trained(base())
    mix.save(tmp_path / "a.safetensors", estimator="toy")
    weights, card = read_weights(tmp_path / "a.safetensors")
    damaged = replace(card, options={**card.options, "scores": scores})
    write_weights(tmp_path / "b.safetensors", weights, damaged)
    with pytest.raises(ModelError, match="no whole number"):
        load_ranks(base(), tmp_path / "b.safetensors", estimator="toy")


def test_a_card_that_names_fewer_layers_than_there_are(tmp_path):
    mix = trained(base())
    mix.save(tmp_path / "a.safetensors", estimator="toy")
    weights, card = read_weights(tmp_path / "a.safetensors")
    fewer = dict(list(card.options["layers"].items())[1:])
    write_weights(tmp_path / "b.safetensors", weights, replace(card, options={**card.options, "layers": fewer}))
    with pytest.raises(ModelError, match="of no layer that its card names"):
        load_ranks(base(), tmp_path / "b.safetensors", estimator="toy")


def test_options_of_other_kinds(tmp_path):
    mix = trained(base())
    with pytest.raises(ArgumentError, match="prefix is a text"):
        mix.export_lora(TOLD, tmp_path / "a.safetensors", layout="kohya", prefix=5)
    for wrong in ({"card": 5}, {"typical": 5}):
        with pytest.raises(ArgumentError, match=f"{next(iter(wrong))} is a"):
            mix.save(tmp_path / "a.safetensors", estimator="toy", **wrong)
    with pytest.raises(ArgumentError, match="model is a torch module"):
        load_ranks(None, tmp_path / "a.safetensors", estimator="toy")


@pytest.mark.parametrize("part", ["up", "down", "router.last"])
def test_numbers_that_cannot_be_exported(tmp_path, part):
    mix = trained(base())
    spoiled = next(iter(mix.layers.values())).get_parameter(part)
    with torch.no_grad():
        spoiled.fill_(float("nan"))
    with pytest.raises(ArgumentError, match="load or train them anew"):
        mix.export_lora(TOLD, tmp_path / "a.safetensors", layout="kohya", dtype=torch.float16)
