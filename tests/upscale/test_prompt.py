"""The prompt's embedding: from a tiny text encoder, from the cache, and from a file."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTokenizer

from moesaic.errors import ArgumentError, ModelError, OutputExistsError
from moesaic.upscale import prompt as module
from moesaic.upscale.prompt import cache_folder, prompt_embeddings, read_embeddings, write_embeddings
from tests.upscale.tiny_diffusion import TOKENS, save_text_parts, text


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("text")
    save_text_parts(place)
    return place


def test_it_is_the_last_hidden_state(folder, tmp_path, capfd):
    made = prompt_embeddings(folder, "sharp and clean", cache=tmp_path)
    assert capfd.readouterr() == ("", "")
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder").eval()
    tokens = tokenizer("sharp and clean", padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt")
    assert tokens.input_ids.shape == (1, TOKENS)
    assert len(set(tokens.input_ids[0].tolist())) > 5
    with torch.no_grad():
        torch.testing.assert_close(made, encoder(tokens.input_ids)[0])
    assert made.shape == (1, TOKENS, 32)
    assert made.dtype == torch.float32


def test_the_second_time_it_comes_from_the_cache(folder, tmp_path, monkeypatch):
    cache = tmp_path / "new" / "cache"
    first = prompt_embeddings(folder, "a", cache=cache)
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr(module, "_compute", lambda *_: pytest.fail("computed again"))
    assert torch.equal(prompt_embeddings(folder, "a", cache=cache), first)


def test_another_text_and_other_weights_have_files_of_their_own(folder, tmp_path):
    prompt_embeddings(folder, "a", cache=tmp_path / "cache")
    prompt_embeddings(folder, "b", cache=tmp_path / "cache")
    other = tmp_path / "other"
    save_text_parts(other, seed=1)
    prompt_embeddings(other, "a", cache=tmp_path / "cache")
    kept = list((tmp_path / "cache").iterdir())
    assert len(kept) == 3
    assert len({read_embeddings(path).sum().item() for path in kept}) == 3


def test_a_damaged_file_in_the_cache_is_made_anew(folder, tmp_path, caplog):
    first = prompt_embeddings(folder, "", cache=tmp_path)
    next(tmp_path.iterdir()).write_bytes(b"damaged")
    assert torch.equal(prompt_embeddings(folder, "", cache=tmp_path), first)
    assert "anew" in caplog.text
    assert torch.equal(read_embeddings(next(tmp_path.iterdir())), first)


def test_a_cache_that_cannot_be_written_costs_nothing_else(folder, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    assert prompt_embeddings(folder, "", cache=tmp_path / "file").shape == (1, TOKENS, 32)
    assert "not kept" in caplog.text


def test_where_the_cache_is(monkeypatch, tmp_path):
    for name in ("MOESAIC_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    assert cache_folder().parts[-2:] == (".cache", "moesaic")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "moesaic"
    monkeypatch.setenv("MOESAIC_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


def test_files_go_round(tmp_path):
    place = tmp_path / "told.safetensors"
    write_embeddings(place, text(), prompt="sharp")
    assert torch.equal(read_embeddings(place), text())
    with pytest.raises(OutputExistsError):
        write_embeddings(place, text())
    save_file({"anything": text()[0].half()}, place)
    torch.testing.assert_close(read_embeddings(place), text().half().float())


@pytest.mark.parametrize(
    "held",
    [
        {"a": torch.zeros(3)},
        {"a": torch.zeros(2, 3, 4)},
        {"a": torch.zeros(1, 3, 4), "b": torch.zeros(1, 3, 4)},
        {"a": torch.zeros(1, 3, 4, dtype=torch.int64)},
        {"a": torch.full((1, 3, 4), float("nan"))},
        {"a": torch.zeros(1, 0, 4)},
    ],
)
def test_files_that_hold_something_else_are_refused(tmp_path, held):
    place = tmp_path / "told.safetensors"
    save_file(held, place)
    with pytest.raises(ModelError, match=r"told\.safetensors"):
        read_embeddings(place)


def test_what_is_missing_is_named(folder, tmp_path):
    with pytest.raises(ModelError, match="write_embeddings"):
        read_embeddings(tmp_path / "none.safetensors")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ModelError, match=r"no tokenizer.*embeddings=FILE"):
        prompt_embeddings(tmp_path / "folder", "", cache=tmp_path)
    shutil.copytree(folder / "tokenizer", tmp_path / "folder" / "tokenizer")
    with pytest.raises(ModelError, match=r"no text_encoder/config\.json"):
        prompt_embeddings(tmp_path / "folder", "", cache=tmp_path)
    with pytest.raises(ArgumentError, match="prompt is a text"):
        prompt_embeddings(folder, None, cache=tmp_path)


def test_a_damaged_text_encoder_is_told(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "folder")
    (tmp_path / "folder" / "text_encoder" / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ModelError, match="cannot be used"):
        prompt_embeddings(tmp_path / "folder", "", cache=tmp_path)


def test_weights_that_lack_a_tensor_or_are_spoiled_are_refused_and_not_kept(folder, tmp_path):
    place = shutil.copytree(folder, tmp_path / "text")
    file = place / "text_encoder" / "model.safetensors"
    held = load_file(file)
    name = next(key for key in held if key.endswith("q_proj.weight"))
    save_file({key: value for key, value in held.items() if key != name}, file, {"format": "pt"})
    with pytest.raises(ModelError, match="lack 1 tensors"):
        prompt_embeddings(place, "", cache=tmp_path / "cache")
    save_file({**held, name: torch.full_like(held[name], float("nan"))}, file, {"format": "pt"})
    with pytest.raises(ModelError, match="not finite"):
        prompt_embeddings(place, "", cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_damaged_tokenizer(folder, tmp_path):
    place = shutil.copytree(folder, tmp_path / "text")
    (place / "tokenizer" / "merges.txt").write_text("\x00 no merges")
    (place / "tokenizer" / "vocab.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be used"):
        prompt_embeddings(place, "", cache=tmp_path / "cache")
