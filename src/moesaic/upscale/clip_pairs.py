"""CLIP as an estimator: is a picture nearer to "a noisy photo" or to "a noise-free photo"?

Nothing is trained for it. For each score a positive and a negative text are held against pieces of the picture, and
the score is the share of the negative one in a softmax over both (Wang et al. 2023, "Exploring CLIP for assessing the
look and feel of images"). The seven pairs are our own choice. MoR-DASR (He et al. 2025, arXiv 2511.16024) has seven as
well, which it does not print, and leaves out the temperature: cosines of CLIP differ by hundredths, so that without one
every score is about 0.5. It shrinks pictures to CLIP's 224 px; noise and blur do not survive that, so here squares of
that side are cut out at the picture's own resolution, and their scores averaged.

Weights are the user's: a folder, or a model of the local cache by its name on the hub.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from moesaic.degrade.batched.filters import reflect
from moesaic.errors import ArgumentError, MissingExtraError, ModelError
from moesaic.files import atomic_write
from moesaic.training.device import pick_device
from moesaic.upscale.pieces import checked, crops
from moesaic.upscale.scores import Scores
from moesaic.upscale.typical import POINTS, Typical
from moesaic.values import is_number, is_table, is_whole

_log = logging.getLogger(__name__)

PAIRS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "quality": ("a photo of high quality", "a photo of low quality"),
        "blur": ("a sharp photo", "a blurry photo"),
        "noise": ("a noise-free photo", "a noisy photo"),
        "resolution": ("a high resolution photo", "a low resolution photo"),
        "edges": ("a photo with sharp edges", "a photo with blurry edges"),
        "detail": ("a photo full of fine detail", "a photo without fine detail"),
        "jpeg": ("an uncompressed photo", "a photo with JPEG compression artifacts"),
    }
)
"""A positive and a negative text for each score."""

CALIBRATION = "moesaic_clip_pairs.json"
"""The file of quantiles that is looked for in a folder of weights."""

_MEAN, _SPREAD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of CLIP's training
_SAMPLE = 64  # numbers of each weight that its hash is made of
_VERSION = 1  # of the file of quantiles


class ClipPairs:
    """Scores of pairs of texts by CLIP.

    Args:
        model: a folder that transformers' `save_pretrained` wrote, or a name on the hub, such as
            "openai/clip-vit-base-patch32".
        pairs: by score, a positive and a negative text.
        temperature: what cosines are multiplied by, 20 to 100; CLIP's own is 100.
        pieces: how many squares of CLIP's input size are looked at, at most.
        device: "auto", "cpu", "cuda", ...
        download: fetch the model from the hub if it is not there; otherwise nothing is ever fetched.
        calibration: the file of quantiles that `calibrate` wrote; unless given, `moesaic_clip_pairs.json` in the
            folder if it is there. Without one, scores are as they come out of the softmax.

    Raises:
        MissingExtraError: transformers is not installed.
        ModelError: there are no such weights here, or they are not those of CLIP.
        ArgumentError: an option is outside its values, or the calibration is damaged or of other texts.
        BackendError: the device cannot be used here.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        pairs: Mapping[str, tuple[str, str]] = PAIRS,
        temperature: float = 50.0,
        pieces: int = 9,
        device: str = "cpu",
        download: bool = False,
        calibration: str | os.PathLike[str] | None = None,
    ) -> None:
        if not (is_number(temperature) and 20 <= temperature <= 100):
            raise ArgumentError(f"temperature {temperature!r} must be a number from 20 to 100")
        if not is_whole(pieces, 1, 64):
            raise ArgumentError(f"pieces {pieces!r} must be a whole number from 1 to 64")
        if not (is_table(pairs) and pairs):
            raise ArgumentError("pairs give each score a positive and a negative text")
        self._pairs = {name: (str(positive), str(negative)) for name, (positive, negative) in pairs.items()}
        self.temperature, self.pieces, self.device = float(temperature), pieces, pick_device(device)
        place = os.fspath(model)
        self._model, tokenizer = _loaded(place, download)
        self._model.to(self.device)
        self.side = int(self._model.config.vision_config.image_size)
        texts = [text for pair in self._pairs.values() for text in pair]
        self._texts = self._read_texts(tokenizer, texts).view(len(self._pairs), 2, -1)  # (S, 2, D), of length 1
        self._base = f"clip:{Path(place).name}:{_digest(self._model, self._pairs, self.temperature, self.pieces)[:12]}"
        self._low, self._high = torch.zeros(len(self._pairs)), torch.ones(len(self._pairs))
        self._calibrated = ""
        found = Path(place, CALIBRATION)
        if calibration is not None or found.is_file():
            self._read_calibration(Path(found if calibration is None else calibration))

    @property
    def names(self) -> tuple[str, ...]:
        """What is scored, in the order of the values."""
        return tuple(self._pairs)

    @property
    def identity(self) -> str:
        """The model's name, and a hash of its weights, the texts, the temperature, and the quantiles if there are."""
        return f"{self._base}{self._calibrated}"

    def __call__(
        self,
        pictures: Tensor,  # (B, 3, H, W), float32 in [0, 1]
    ) -> Scores:
        """The scores of pictures, on their device; the severity is their mean.

        Raises:
            ShapeError: another shape than (B, 3, H, W), or sides below 8 px.
            ArgumentError: no tensor of floats, or values that are no finite numbers.
        """
        x = checked(pictures)
        spread = (self._high - self._low).clamp_min(1e-6)
        values = ((self._raw(x).cpu() - self._low) / spread).clamp(0, 1).to(x.device)
        return Scores(names=self.names, values=values, severity=values.mean(1))

    def at(self, severity: float) -> Scores:
        """That severity as every score: they are normalised one by one, and their mean is the severity; B is 1.

        Raises:
            ArgumentError: the severity is no number in [0, 1].
        """
        rows = tuple((place / (POINTS - 1),) * len(self.names) for place in range(POINTS))
        return Typical(self.names, rows).at(severity)

    def calibrate(self, pictures: Iterable[Tensor], path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Spread each score over [0, 1]: from now on its 1 % quantile over some pictures is 0 and its 99 % one is 1.

        Args:
            pictures: each (B, 3, H, W), from clean to as degraded as is to be expected.
            path: of the small JSON file to keep the quantiles in; as `moesaic_clip_pairs.json` in the model's folder it
                is found by itself.
            force: replace a file that is there.

        Raises:
            ArgumentError: fewer than two pictures, or as from a call.
            OutputExistsError: the file is there and `force` is False.
        """
        raw = [self._raw(checked(some)).cpu() for some in pictures]
        if sum(map(len, raw)) < 2:
            raise ArgumentError("a calibration needs at least two pictures, better hundreds of all severities")
        low, high = np.quantile(torch.cat(raw).double().numpy(), (0.01, 0.99), axis=0).round(6).tolist()
        table = {"version": _VERSION, "of": self._base, "low": dict(zip(self.names, low, strict=True))}
        table["high"] = dict(zip(self.names, high, strict=True))
        atomic_write(path, (json.dumps(table, indent=2) + "\n").encode(), force=force)
        self._read_calibration(Path(path))

    @torch.no_grad()
    def _raw(
        self,
        x: Tensor,  # (B, 3, H, W)
    ) -> Tensor:  # (B, S), the share of the negative text
        mean, spread = (torch.tensor(each, device=self.device).view(1, 3, 1, 1) for each in (_MEAN, _SPREAD))
        cut = crops(self._wide(x), self.side, self.pieces)
        scores = torch.zeros(len(x), len(self._pairs), device=self.device)
        for piece in cut:
            seen = _features(self._model.get_image_features(pixel_values=(piece.to(self.device) - mean) / spread))
            cosines = torch.einsum("bd,spd->bsp", seen, self._texts)  # (B, S, 2)
            scores += (self.temperature * cosines).softmax(2)[..., 1]
        return scores / len(cut)

    def _wide(self, x: Tensor) -> Tensor:
        """A picture that is smaller than a square among its mirror images: enlarged, it would be another one."""
        height, width = x.shape[2:]
        if min(height, width) >= self.side:
            return x
        reach = math.ceil((self.side - min(height, width)) / 2)
        rows, columns = max(height, self.side), max(width, self.side)
        x = reflect(x, reach)
        top, left = (x.shape[2] - rows) // 2, (x.shape[3] - columns) // 2
        return x[..., top : top + rows, left : left + columns]

    @torch.no_grad()
    def _read_texts(self, tokenizer: Any, texts: list[str]) -> Tensor:  # (2 S, D), of length 1
        held = tokenizer(texts, padding=True, truncation=True, return_tensors="pt").to(self.device)
        return _features(
            self._model.get_text_features(input_ids=held["input_ids"], attention_mask=held["attention_mask"])
        )

    def _read_calibration(self, path: Path) -> None:
        try:
            data = path.read_bytes()
            held = json.loads(data)
            low, high = ([float(held[end][name]) for name in self.names] for end in ("low", "high"))
            of = str(held["of"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as cause:
            raise ArgumentError(f"{path}: this is no calibration of these pairs: {cause}") from cause
        if of != self._base:
            raise ArgumentError(f"{path}: these are quantiles of {of}, not of {self._base}; calibrate anew")
        if not all(0 <= a <= b <= 1 for a, b in zip(low, high, strict=True)):
            raise ArgumentError(f"{path}: quantiles are numbers from 0 to 1, the low one first")
        self._low, self._high = torch.tensor(low), torch.tensor(high)
        self._calibrated = f":{hashlib.sha256(data).hexdigest()[:12]}"


def _loaded(place: str, download: bool) -> tuple[Any, Any]:
    """CLIP and its tokenizer.

    Raises:
        MissingExtraError: transformers is not installed.
        ModelError: there are no such weights, or they are of something else.
    """
    try:
        from transformers import AutoTokenizer, CLIPModel
    except ImportError as cause:
        raise MissingExtraError("CLIP needs transformers: pip install 'moesaic[diffusion]'") from cause
    try:
        model: nn.Module = CLIPModel.from_pretrained(place, local_files_only=not download)
        model = model.float().eval()
        tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=not download)
        if any(not bool(value.isfinite().all()) for value in model.parameters()):
            raise ValueError("a weight is not finite")
    except Exception as cause:  # transformers, tokenizers, safetensors and the hub raise a dozen kinds
        reason = " ".join(str(cause).split())[:200] or type(cause).__name__
        raise ModelError(
            f"{place}: no CLIP model can be loaded from there ({reason}); name a folder that holds one, fetch one with "
            "`hf download NAME`, or pass download=True"
        ) from cause
    return model, tokenizer


def _features(said: Any) -> Tensor:  # (n, D), of length 1
    """What CLIP says of pictures or texts; transformers 5 wraps it into an object."""
    found = said if isinstance(said, Tensor) else said.pooler_output
    return nn.functional.normalize(found.float(), dim=-1)


def _digest(model: nn.Module, *settings: object) -> str:
    """A hash of some numbers of every weight, and of what else decides the scores."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name, value in sorted(model.state_dict().items()):
        some = value.detach().flatten()[:_SAMPLE].float().cpu().numpy()
        digest.update(f"\n{name} {tuple(value.shape)}\n".encode() + some.tobytes())
    return digest.hexdigest()
