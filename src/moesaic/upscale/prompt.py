"""The text that a diffusion model is told: always the same one, so its embedding is computed once and kept."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from moesaic.errors import ArgumentError, ModelError
from moesaic.files import atomic_write
from moesaic.upscale.extra import diffusion_extra
from moesaic.values import is_a

if TYPE_CHECKING:
    from torch import Tensor

_log = logging.getLogger(__name__)

_NAME = "prompt_embeds"  # of the tensor in a file


def cache_folder() -> Path:
    """Where embeddings are kept unless another folder is given: MOESAIC_CACHE, or the system's place for such files."""
    if told := os.environ.get("MOESAIC_CACHE"):
        return Path(told)
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(base) if base else Path.home() / ".cache") / "moesaic"


def prompt_embeddings(
    folder: Path,
    prompt: str = "",
    *,
    cache: str | os.PathLike[str] | None = None,
    variant: str | None = None,
) -> Tensor:  # (1, N, D), float32, N tokens
    """The embedding of a text by the folder's own tokenizer and text encoder, from the cache where it lies there.

    Its file is named by a hash of the text and of all files that decide the embedding, so other weights or another
    text never meet an old one. It is safetensors, and `read_embeddings` takes it where there is no text encoder.

    Args:
        folder: in the layout of diffusers, with `tokenizer` and `text_encoder`.
        prompt: the text; the empty one is that of training without text.
        cache: folder to keep it in; `cache_folder()` unless given.
        variant: as in `moesaic.upscale.weights_folder.find_folder`.

    Raises:
        ModelError: a part is missing, damaged or of another kind.
        ArgumentError: the prompt is no text.
        MissingExtraError: transformers is not installed.
    """
    if not is_a(prompt, str):
        raise ArgumentError(f"prompt is a text, not {type(prompt).__name__}")
    key = _key(folder, prompt, variant)
    kept = (cache_folder() if cache is None else Path(cache)) / f"prompt_{key[:32]}.safetensors"
    if kept.is_file():
        try:
            return read_embeddings(kept)
        except ModelError as error:
            _log.warning("computing a prompt's embedding anew: %s", error)
    embedding = _compute(folder, prompt, variant)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_embeddings(kept, embedding, prompt=prompt, force=True)
    except (OSError, ArgumentError) as error:  # a folder that cannot be written to costs time and nothing else
        _log.warning("the prompt's embedding is not kept: %s", error)
    return embedding


def write_embeddings(
    path: str | os.PathLike[str],
    embedding: Tensor,  # (1, N, D)
    *,
    prompt: str = "",
    force: bool = False,
) -> None:
    """Keep an embedding as a file that `read_embeddings` reads.

    Raises:
        OutputExistsError: the file is there and `force` is False.
        ArgumentError: it cannot be written there.
    """
    from safetensors.torch import save

    data = save({_NAME: embedding.float().cpu().contiguous()}, metadata={"prompt": prompt})
    atomic_write(path, data, force=force)


def read_embeddings(path: str | os.PathLike[str]) -> Tensor:  # (1, N, D), float32
    """A text's embedding from a safetensors file that holds it alone, (N, D) or (1, N, D), under any name.

    Raises:
        ModelError: the file is missing or damaged, or holds something else.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        held = load_file(path)
    except (OSError, ValueError, SafetensorError) as cause:
        raise ModelError(
            f"{path} is no safetensors file with a prompt's embedding ({cause});"
            " moesaic.upscale.prompt.write_embeddings makes one"
        ) from cause
    embedding = held.get(_NAME) if len(held) != 1 else next(iter(held.values()))
    if embedding is not None and embedding.ndim == 2:
        embedding = embedding[None]
    if embedding is None or embedding.ndim != 3 or len(embedding) != 1 or not embedding.is_floating_point():
        shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in list(held.items())[:4])
        raise ModelError(f"{path} holds {shapes or 'nothing'}; expected was one embedding (1, tokens, features)")
    if not embedding.numel() or not bool(embedding.isfinite().all()):
        raise ModelError(f"the embedding in {path} is empty, or holds values that are not finite")
    return embedding.float()


def _key(folder: Path, prompt: str, variant: str | None) -> str:
    """A hash of the text and of every file that decides its embedding.

    Raises:
        ModelError: there is no tokenizer or no text encoder.
    """
    between = "" if variant is None else f".{variant}"
    weights = folder / "text_encoder" / f"model{between}.safetensors"
    words = sorted(path for path in (folder / "tokenizer").glob("*") if path.suffix in {".json", ".txt"})
    config = folder / "text_encoder" / "config.json"
    if not words or not config.is_file() or not weights.is_file():
        lacking = "tokenizer" if not words else f"text_encoder/{config.name if not config.is_file() else weights.name}"
        raise ModelError(
            f"{folder} has no {lacking}, so no text can be turned into an embedding; take a whole folder, or pass"
            " a file with an embedding of these weights' own text encoder (embeddings=FILE)"
        )
    total = hashlib.sha256(prompt.encode())
    try:
        for path in (*words, config, weights):
            with path.open("rb") as file:
                total.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    except OSError as cause:
        raise ModelError(f"{folder} cannot be read: {cause}") from cause
    return total.hexdigest()


def _compute(folder: Path, prompt: str, variant: str | None) -> Tensor:  # (1, N, D)
    """The last hidden state of the text encoder.

    Raises:
        ModelError: a part is damaged or of another kind.
    """
    transformers: Any = diffusion_extra("transformers")
    try:
        tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        with _quiet(transformers.utils.logging):
            encoder, report = transformers.CLIPTextModel.from_pretrained(
                folder / "text_encoder",
                local_files_only=True,
                use_safetensors=True,
                variant=variant,
                output_loading_info=True,
            )
        if missing := report["missing_keys"]:  # they would be drawn at random
            raise ModelError(
                f"the weights in {folder / 'text_encoder'} lack {len(missing)} tensors, such as {min(missing)}"
            )
        encoder = encoder.float().eval()
        longest = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)
        tokens = tokenizer(prompt, padding="max_length", max_length=longest, truncation=True, return_tensors="pt")
        with torch.no_grad():
            embedding: Tensor = encoder(tokens.input_ids).last_hidden_state
    except ModelError:
        raise
    except Exception as cause:  # the tokenizers library raises plain ones
        first = next(iter(str(cause).splitlines()), "")
        raise ModelError(
            f"the tokenizer and text_encoder in {folder} cannot be used ({type(cause).__name__}: {first}); expected"
            " were a CLIPTokenizer and a CLIPTextModel"
        ) from cause
    if not bool(embedding.isfinite().all()):
        raise ModelError(f"the text_encoder in {folder} makes an embedding that is not finite; its weights are damaged")
    return embedding.float()


@contextmanager
def _quiet(logging_of: Any) -> Iterator[None]:
    """Within this transformers draws no progress bars, which a program without a terminal has no use for."""
    drawn = logging_of.is_progress_bar_enabled()
    logging_of.disable_progress_bar()
    try:
        yield
    finally:
        if drawn:
            logging_of.enable_progress_bar()
