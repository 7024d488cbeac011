"""What the tests of the command line share: a call of it, and a stand-in for the encoder that can be made to fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import moesaic
from moesaic.cli import main
from moesaic.files import atomic_write
from moesaic.mixture.fitting import Progress


@dataclass
class Ran:
    """How a command ended and what it told."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        return self.err.splitlines()

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def moe(capsys, monkeypatch, tmp_path) -> Callable[..., Ran]:
    """Run the command in this process, in an empty folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MOESAIC_DEBUG", raising=False)

    def run(*arguments: str | Path) -> Ran:
        code = main([str(argument) for argument in arguments])
        told = capsys.readouterr()
        return Ran(code, told.out, told.err)

    return run


@pytest.fixture
def picture(tmp_path) -> Callable[..., Path]:
    """Make a small picture file; by default a smooth RGB one."""

    def make(name: str, *, size: tuple[int, int] = (32, 24), mode: str = "RGB", seed: int = 0) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        width, height = size
        rows, columns = np.mgrid[:height, :width]
        waves = [np.sin((columns * (c + 1) + rows + seed) / 9) * 100 + 128 for c in range(len(mode))]
        pixels = np.stack(waves, axis=2).astype(np.uint8)
        Image.fromarray(pixels[..., 0] if mode == "L" else pixels, mode).save(path)
        return path

    return make


@dataclass
class StandIn:
    """Takes the place of `moesaic.encode`: writes a few bytes at once, or does what a test wants in their stead."""

    calls: list[dict[str, Any]] = field(default_factory=list)
    instead: Callable[[int], None] = lambda number: None  # told the number of the call, from 1
    progress: list[Progress] = field(default_factory=list)

    def __call__(self, picture, path=None, *, progress=None, force=False, **options) -> SimpleNamespace:
        self.calls.append({"path": path, "force": force, **options})
        self.instead(len(self.calls))
        for news in self.progress:
            progress(news)
        data = b"stand-in"
        atomic_write(path, data, force=force)
        return SimpleNamespace(data=data, mixture=_Seven(options["order"]), psnr=30.5, ssim=0.9, bpp=0.25)


@dataclass
class _Seven:
    order: int

    def __len__(self) -> int:
        return 7


@pytest.fixture
def encoder(monkeypatch) -> StandIn:
    """The stand-in, in place."""
    stand_in = StandIn()
    monkeypatch.setattr(moesaic, "encode", stand_in, raising=False)
    return stand_in
