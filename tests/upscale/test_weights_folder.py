"""Folders with everything, with something missing, and with something else; and names on a hub, without a network."""

from __future__ import annotations

import json
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from moesaic.errors import ArgumentError, MissingExtraError, ModelError
from moesaic.upscale.latent import LatentCodec
from moesaic.upscale.weights_folder import MIRRORS, find_folder, load_schedule, load_unet, load_vae
from tests.upscale.tiny_diffusion import save_folder, schedule, unet


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    return save_folder(tmp_path_factory.mktemp("sd") / "tiny")


@pytest.fixture
def folder(complete, tmp_path):
    """A copy to break."""
    return shutil.copytree(complete, tmp_path / "tiny")


def rewrite(folder, part, **lines):
    place = folder / part / ("scheduler_config.json" if part == "scheduler" else "config.json")
    place.write_text(json.dumps({**json.loads(place.read_text()), **lines}))


def test_all_parts_are_read(complete):
    assert find_folder(complete) == complete
    assert find_folder(str(complete)) == complete
    network = load_unet(complete, dtype=torch.float32)
    assert not network.training
    for one, two in zip(network.parameters(), unet().parameters(), strict=True):
        assert torch.equal(one, two)
        assert not one.requires_grad
    assert load_vae(complete, dtype=torch.bfloat16).dtype == torch.bfloat16


def test_the_schedule_is_that_of_stable_diffusion(complete, folder):
    told = load_schedule(complete)
    torch.testing.assert_close(told.alphas_cumprod, schedule().alphas_cumprod, rtol=1e-5, atol=1e-7)
    assert told.prediction == "epsilon"
    rewrite(folder, "scheduler", prediction_type="v_prediction", _class_name="PNDMScheduler", skip_prk_steps=True)
    assert load_schedule(folder).prediction == "v_prediction"
    rewrite(folder, "scheduler", rescale_betas_zero_snr=True)
    assert load_schedule(folder).alphas_cumprod[-1] < 1e-6


def test_a_folder_that_is_none_is_told_where_to_find_one(tmp_path):
    with pytest.raises(ModelError, match="no folder") as caught:
        find_folder(tmp_path / "none")
    assert all(mirror in str(caught.value) for mirror in MIRRORS)
    assert "OpenRAIL++-M" in str(caught.value)
    with pytest.raises(ModelError, match="no folder"):
        find_folder("./some/where")
    with pytest.raises(ArgumentError, match="not NoneType"):
        find_folder(None)
    (tmp_path / "one.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="from_single_file"):
        find_folder(tmp_path / "one.safetensors")


def test_a_name_on_the_hub_is_not_fetched_unasked(tmp_path, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=r"not in the hub's cache.*download=True.*sd2-community"):
        find_folder("someone/something")
    told = {}

    def fetch(name, **options):
        told.update(options, name=name)
        raise OSError("no connection")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    with pytest.raises(ModelError, match="cannot be fetched"):
        find_folder("someone/something", download=True, variant="fp16", revision="main")
    assert told["local_files_only"] is False
    assert told["revision"] == "main"
    assert "unet/diffusion_pytorch_model.fp16.safetensors" in told["allow_patterns"]
    assert not any(pattern.endswith((".bin", ".ckpt", ".pt", "*")) for pattern in told["allow_patterns"])
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **_: str(tmp_path / name))
    assert find_folder("someone/something") == tmp_path / "someone" / "something"


@pytest.mark.parametrize("part", ["unet", "vae", "scheduler"])
def test_a_missing_part_is_named(folder, part):
    load = {"unet": load_unet, "vae": load_vae}.get(part)
    shutil.rmtree(folder / part)
    with pytest.raises(ModelError, match=rf"has no {part}/.*sd2-community"):
        load_schedule(folder) if load is None else load(folder, dtype=torch.float32)


def test_other_kinds_of_model_are_named(folder):
    rewrite(folder, "unet", _class_name="FluxTransformer2DModel")
    with pytest.raises(ModelError, match="FluxTransformer2DModel, not the UNet2DConditionModel"):
        load_unet(folder, dtype=torch.float32)
    rewrite(folder, "vae", _class_name="AutoencoderDC")
    with pytest.raises(ModelError, match="AutoencoderDC, not the AutoencoderKL"):
        load_vae(folder, dtype=torch.float32)
    rewrite(folder, "unet", _class_name="UNet2DConditionModel", addition_embed_type="text_time")
    with pytest.raises(ModelError, match="SDXL"):
        load_unet(folder, dtype=torch.float32)
    rewrite(folder, "unet", addition_embed_type=None, in_channels=9)
    with pytest.raises(ModelError, match="inpainting"):
        load_unet(folder, dtype=torch.float32)
    (folder / "scheduler" / "scheduler_config.json").write_text('{"_class_name": "FlowMatchEulerDiscreteScheduler"}')
    with pytest.raises(ModelError, match="flow matching"):
        load_schedule(folder)
    (folder / "transformer").mkdir()
    shutil.rmtree(folder / "unet")
    with pytest.raises(ModelError, match="transformer"):
        load_unet(folder, dtype=torch.float32)


def test_pickled_weights_are_not_read(folder):
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(ModelError, match="pickled weights can run code"):
        load_unet(folder, dtype=torch.float32)
    weights.with_suffix(".bin").rename(weights.with_name("diffusion_pytorch_model.fp16.safetensors"))
    with pytest.raises(ModelError, match="variant='fp16'"):
        load_unet(folder, dtype=torch.float32)
    assert load_unet(folder, dtype=torch.float32, variant="fp16").dtype == torch.float32


def test_damage_is_told_in_one_line(folder):
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    held = weights.read_bytes()
    weights.write_bytes(held[: len(held) // 2])
    with pytest.raises(ModelError, match="cannot be read") as caught:
        load_unet(folder, dtype=torch.float32)
    assert "\n" not in str(caught.value)
    weights.write_bytes(held)
    tensors = load_file(weights)
    del tensors["conv_in.weight"]
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"conv_in\.weight"):
        load_unet(folder, dtype=torch.float32)
    rewrite(folder, "unet", block_out_channels=[32, 96])
    with pytest.raises(ModelError, match="cannot be read"):
        load_unet(folder, dtype=torch.float32)
    for text in ("{", "[]"):
        (folder / "vae" / "config.json").write_text(text)
        with pytest.raises(ModelError, match="JSON"):
            load_vae(folder, dtype=torch.float32)
    rewrite(folder, "scheduler", beta_schedule="none such")
    with pytest.raises(ModelError, match="cannot be used"):
        load_schedule(folder)


def test_without_diffusers_the_extra_is_named(complete, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(MissingExtraError, match=r"moesaic\[diffusion\]"):
        load_unet(complete, dtype=torch.float32)
    with pytest.raises(MissingExtraError, match=r"moesaic\[diffusion\]"):
        load_schedule(complete)


def test_spoiled_weights_and_numbers(folder):
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    held = load_file(file)
    name = min(held)
    save_file({**held, name: torch.full_like(held[name], float("nan"))}, file, {"format": "pt"})
    with pytest.raises(ModelError, match="not finite"):
        load_unet(folder, dtype=torch.float32)
    for line in ({"beta_start": -1}, {"num_train_timesteps": "x"}):  # torch tells of the second in many lines
        rewrite(folder, "scheduler", **line)
        with pytest.raises(ModelError, match="cannot be used") as caught:
            load_schedule(folder)
        assert "\n" not in str(caught.value)
    rewrite(folder, "vae", scaling_factor="x")
    with pytest.raises(ModelError, match="scaling_factor"):
        LatentCodec(load_vae(folder, dtype=torch.float32))
