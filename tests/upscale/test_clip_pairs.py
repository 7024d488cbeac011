"""CLIP by pairs of texts: with a tiny random model in the files that transformers writes, and no network."""

from __future__ import annotations

import builtins
import json
from types import SimpleNamespace

import pytest
import torch

from moesaic.errors import ArgumentError, MissingExtraError, ModelError, OutputExistsError, ShapeError
from moesaic.upscale.clip_pairs import CALIBRATION, PAIRS, ClipPairs, _features
from moesaic.upscale.estimators import make_estimator

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A CLIP of 32 px with a vocabulary of bytes."""
    place = tmp_path_factory.mktemp("models") / "tiny-clip"
    place.mkdir()
    letters = [chr(code) for code in range(33, 127)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    (place / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (place / "merges.txt").write_text("#version: 0.2\n")
    (place / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 77})
    )
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        text_config={
            **sizes,
            "vocab_size": len(words),
            "max_position_embeddings": 77,
            "bos_token_id": 0,
            "eos_token_id": 1,
        },
        vision_config={**sizes, "image_size": 32, "patch_size": 8},
        projection_dim=12,
    )
    torch.manual_seed(0)
    transformers.CLIPModel(config).save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def clip(folder):
    return ClipPairs(folder)


@pytest.mark.parametrize("size", [(32, 32), (8, 9), (20, 100), (70, 90)])
def test_scores_of_any_size(clip, size):
    said = clip(torch.rand(2, 3, *size))
    assert (said.names, said.values.shape, said.severity.shape) == (tuple(PAIRS), (2, 7), (2,))
    assert bool(((said.values >= 0) & (said.values <= 1)).all())
    torch.testing.assert_close(said.severity, said.values.mean(1))
    assert not said.values.requires_grad


def test_the_score_is_the_share_of_the_negative_text(clip, folder):
    x = torch.rand(1, 3, 32, 32)
    model = transformers.CLIPModel.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
    spread = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)
    with torch.no_grad():
        for name, texts in PAIRS.items():
            held = tokenizer(list(texts), padding=True, return_tensors="pt")
            both = model(**held, pixel_values=(x - mean) / spread)
            cosines = both.image_embeds @ both.text_embeds.T
            want = (50 * cosines).softmax(1)[0, 1]
            torch.testing.assert_close(clip(x).values[0, list(PAIRS).index(name)], want, atol=1e-4, rtol=0)


def test_pieces_are_cut_and_never_shrunk(clip, monkeypatch):
    seen = []

    def look(pixel_values):
        seen.append(pixel_values)
        return torch.ones(len(pixel_values), 12)

    monkeypatch.setattr(clip._model, "get_image_features", look)
    x = torch.rand(1, 3, 100, 100)
    clip(x)
    assert len(seen) == 9
    assert {tuple(piece.shape) for piece in seen} == {(1, 3, 32, 32)}
    shown = seen[0] * torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)
    shown = shown + torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
    torch.testing.assert_close(shown, x[..., 11:43, 11:43])


def test_old_and_new_transformers_are_understood():
    some = torch.rand(2, 5)
    torch.testing.assert_close(_features(some), _features(SimpleNamespace(pooler_output=some)))
    torch.testing.assert_close(_features(some).norm(dim=1), torch.ones(2))


def test_calibration_spreads_scores_and_is_found_again(folder, tmp_path):
    clip = ClipPairs(folder)
    before = clip.identity
    pictures = [torch.rand(4, 3, 32, 32) * level for level in (0.1, 0.4, 0.7, 1.0)]
    raw = torch.cat([clip(some).values for some in pictures])
    clip.calibrate(pictures, tmp_path / "quantiles.json")
    after = torch.cat([clip(some).values for some in pictures])
    assert bool((after.amax(0) > 0.95).all())
    assert bool((after.amin(0) < 0.05).all())
    assert bool((after.amax(0) - after.amin(0) >= raw.amax(0) - raw.amin(0)).all())
    assert clip.identity != before
    again = ClipPairs(folder, calibration=tmp_path / "quantiles.json")
    assert again.identity == clip.identity
    torch.testing.assert_close(again(pictures[0]).values, after[:4])
    with pytest.raises(OutputExistsError):
        clip.calibrate(pictures, tmp_path / "quantiles.json")
    with pytest.raises(ArgumentError, match="at least two pictures"):
        clip.calibrate([pictures[0][:1]], tmp_path / "other.json")
    with pytest.raises(ArgumentError, match="calibrate anew"):
        ClipPairs(folder, temperature=100, calibration=tmp_path / "quantiles.json")
    (folder / CALIBRATION).write_bytes((tmp_path / "quantiles.json").read_bytes())
    try:
        assert ClipPairs(folder).identity == clip.identity
    finally:
        (folder / CALIBRATION).unlink()
    for damaged in ("{}", "no json", '{"of": 1, "low": {}, "high": {}}'):
        (tmp_path / "bad.json").write_text(damaged)
        with pytest.raises(ArgumentError, match="no calibration"):
            ClipPairs(folder, calibration=tmp_path / "bad.json")


def test_names_say_what_decides(folder, clip):
    assert clip.identity.startswith("clip:tiny-clip:")
    assert ClipPairs(folder).identity == clip.identity == make_estimator(f"clip:{folder}").identity
    assert ClipPairs(folder, temperature=100).identity != clip.identity
    assert ClipPairs(folder, pairs={"blur": PAIRS["blur"]}).names == ("blur",)
    assert clip.at(0.3).values.tolist()[0] == pytest.approx([0.3] * 7)
    with pytest.raises(ArgumentError, match="severity"):
        clip.at(2)


@pytest.mark.parametrize(
    ("options", "says"),
    [({"temperature": 1}, "from 20 to 100"), ({"pieces": 0}, "pieces"), ({"pairs": {}}, "positive and a negative")],
)
def test_options_that_cannot_be(folder, options, says):
    with pytest.raises(ArgumentError, match=says):
        ClipPairs(folder, **options)


def test_without_weights_one_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "none"))
    for place in (tmp_path / "nowhere", "nobody/clip-that-is-not-there"):
        with pytest.raises(ModelError, match=r"no CLIP model .*`hf download NAME`.* download=True"):
            ClipPairs(place)
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    (tmp_path / "model.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}")
    with pytest.raises(ModelError, match="no CLIP model"):
        ClipPairs(tmp_path)


def test_without_transformers(folder, monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest, **options):
        if name == "transformers":
            raise ImportError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtraError, match=r"pip install 'moesaic\[diffusion\]'"):
        ClipPairs(folder)


def test_what_is_no_picture(clip):
    with pytest.raises(ShapeError, match="too small"):
        clip(torch.rand(1, 3, 1, 1))
