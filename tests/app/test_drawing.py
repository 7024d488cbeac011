"""Tiles drawn for browsers that cannot, also of mixtures that are made to hurt."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import moesaic
from moesaic.app.drawing import Tile, Tiles
from moesaic.app.limits import MIB, Limits
from moesaic.codec.file import encode_mixture, load_file
from moesaic.errors import LimitError, MoesaicError
from moesaic.mixture.model import Mixture

LIMITS = Limits(tile_bytes=900 * MIB, tile_seconds=10, tiles=3)
WAIT = 60  # s


@pytest.fixture(scope="module")
def tiles() -> Iterator[Tiles]:
    made = Tiles(LIMITS, 1)
    yield made
    made.stop()


@pytest.fixture
def mixture(tmp_path, photo) -> Path:
    path = tmp_path / "a.moe"
    moesaic.encode(moesaic.Picture(pixels=photo[:36, :48].copy()), path, experts=40, fast=True)
    return path


def drawn(tiles: Tiles, tile: Tile) -> Any:
    future = tiles.drawn(tile)
    assert future is not None
    return Image.open(io.BytesIO(future.result(WAIT)))


def test_a_tile_is_as_decoded(tiles, mixture):
    region = (4.5, 3.0, 20.5, 15.0)
    found = np.asarray(drawn(tiles, Tile(mixture, region, (64, 48))), int)
    wanted = moesaic.decode(io.BytesIO(mixture.read_bytes()), region=region, size=(64, 48))
    assert np.abs(found - np.rint(wanted.pixels * 255)).max() <= 1


def test_what_cannot_be_drawn_is_a_sentence(tiles, mixture, tmp_path):
    (tmp_path / "b.moe").write_bytes(mixture.read_bytes()[:60])
    for path, region in (
        (tmp_path / "b.moe", (0, 0, 9, 9)),
        (mixture, (0, 0, 1e-9, 9)),
        (mixture, (-1e300, 0, 1e300, 9)),
    ):
        with pytest.raises(MoesaicError):
            drawn(tiles, Tile(path, region, (9, 9)))
    with pytest.raises(MoesaicError, match="not by your doing"):
        drawn(tiles, Tile(tmp_path / "none.moe", (0.0, 0.0, 9.0, 9.0), (9, 9)))


def test_one_that_takes_all_memory_is_ended_and_not_tried_again(tiles, tmp_path, mixture):
    """A few kilobytes of kernels that all reach everywhere: the lists of which kernel is where take gigabytes."""
    count = 20_000
    everywhere = Mixture(
        centres=torch.rand(count, 2) * 8,
        factors=torch.tensor([1e-3, 0, 1e-3]).repeat(count, 1),
        log_priors=torch.zeros(count),
        colours=torch.rand(count, 3),
        width=8,
        height=8,
    )
    held = load_file(mixture)
    path = tmp_path / "bomb.moe"
    path.write_bytes(encode_mixture(everywhere, steps=held.steps, info=replace(held.info), depth=8))
    tile = Tile(path, (0.0, 0.0, 8.0, 8.0), (1400, 1400))
    with pytest.raises(LimitError, match="has WebGL2"):
        drawn(tiles, tile)
    began = time.monotonic()
    with pytest.raises(LimitError, match="has WebGL2"):
        drawn(tiles, tile)
    assert time.monotonic() - began < 0.5
    assert drawn(tiles, Tile(mixture, (0.0, 0.0, 9.0, 9.0), (9, 9))).size == (9, 9)


def test_only_so_many_wait(tiles, mixture):
    tile = Tile(mixture, (0.0, 0.0, 48.0, 36.0), (1000, 750))
    futures = [tiles.drawn(tile) for _ in range(20)]
    assert sum(future is not None for future in futures) < 20
    for future in futures:
        if future is not None:
            future.result(WAIT)
    assert drawn(tiles, tile).size == (1000, 750)
