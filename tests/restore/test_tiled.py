"""Pictures of any size under one decision, with a small network that was never trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from moesaic.errors import LimitError
from moesaic.restore import tiled
from moesaic.restore.network import MoceLite
from moesaic.restore.tiled import decide, restore_tiled
from moesaic.restore.use import restore


def tiny(seed: int = 0) -> MoceLite:
    """A small network that changes every picture by a few hundredths, and decides by what it sees."""
    torch.manual_seed(seed)
    network = MoceLite(width=8, encoder=(1, 1, 1), middle=1)
    with torch.no_grad():
        nn.init.normal_(network.head.weight, std=0.01)
        for layer in (network.film, network.tone):
            nn.init.normal_(layer.weight, std=0.02)
        for gate in network.gates():
            nn.init.normal_(gate.last.weight, std=2.0)
    return network.eval()


@pytest.fixture(scope="module")
def network():
    return tiny()


def as_tensor(pixels: np.ndarray) -> torch.Tensor:  # (1, C, H, W)
    return torch.from_numpy(np.moveaxis(pixels, 2, 0).copy())[None]


def waves(height: int, width: int) -> np.ndarray:
    """A picture with something to see everywhere, (H, W, 3)."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    bands = [np.sin(rows * a + columns * b) for a, b in ((0.05, 0.31), (0.4, 0.02), (0.11, -0.2))]
    return 0.5 + 0.4 * np.stack(bands, axis=2).astype(np.float32)


def test_tiles_equal_the_whole_and_decide_alike(network):
    pixels = waves(250, 410)
    whole, told = restore(pixels, network), []
    parts = restore(pixels, network, tile=200, progress=lambda *now: told.append(now))
    assert told[-1] == (told[-1][1], len(told))
    assert len(told) > 4
    assert parts.experts == whole.experts
    assert parts.detected == pytest.approx(whole.detected, abs=1e-6)
    assert abs(parts.picture.pixels - whole.picture.pixels).max() < 1 / 255


def test_without_one_decision_they_would_not(network):
    x = as_tensor(waves(256, 416))
    x[..., 208:] *= 0.1
    decision = network.look([x])
    with torch.no_grad():
        told = network(x[..., :208], decision)
        alone = network(x[..., :208])
    assert abs(told - alone).max() > 1 / 255


def test_a_large_picture_is_looked_at_in_pieces(network, monkeypatch):
    monkeypatch.setattr(tiled, "WHOLE", 300 * 300)
    monkeypatch.setattr(tiled, "TILE", 256)
    looked, sizes, look = [], [], network.look

    def remembered(pieces):
        looked.append([tuple(piece.shape[-2:]) for piece in pieces])
        return look(pieces)

    monkeypatch.setattr(network, "look", remembered)
    hook = network.register_forward_hook(lambda _, inputs, made: sizes.append(inputs[0].shape[-2:]))
    found = restore(waves(400, 700), network)
    hook.remove()
    assert looked == [[(320, 320)] * 6]
    assert {tuple(size) for size in sizes} == {(256, 256)}
    assert found.picture.pixels.shape == (400, 700, 3)
    assert found.experts == restore(waves(400, 700), network, tile=700).experts


@pytest.mark.parametrize("size", [(3000, 4000), (2000, 1000), (30_000, 64), (64, 30_000), (330, 9_000), (321, 16)])
def test_pieces_lie_within_the_picture_and_apart(size):
    x = torch.arange(size[0] * size[1], dtype=torch.float64).reshape(1, 1, *size)
    pieces = [x[..., top:bottom, left:right] for top, bottom, left, right in tiled._spread(size, 16)]
    assert 1 <= len(pieces) <= tiled.PIECES
    assert {tuple(piece.shape[-2:]) for piece in pieces} == {tuple(min(side, tiled.PIECE) for side in size)}
    corners = {divmod(int(piece[0, 0, 0, 0]), size[1]) for piece in pieces}
    assert len(corners) == len(pieces)
    assert all(top % 16 == left % 16 == 0 for top, left in corners)
    if size == (3000, 4000):
        assert len({top for top, _ in corners}) == 3
        assert len({left for _, left in corners}) == 5


def test_a_small_picture_is_encoded_once(network, monkeypatch):
    passes, encode = [], network._encode
    monkeypatch.setattr(network, "_encode", lambda x: passes.append(x.shape) or encode(x))
    restore(waves(40, 50), network)
    assert len(passes) == 1


def test_memory_that_runs_out_means_pieces_and_tiles(monkeypatch, caplog):
    network, encode = tiny(), MoceLite._encode

    def greedy(self, x):
        if x.shape[-1] > 400:
            raise MemoryError
        return encode(self, x)

    pixels = waves(320, 700)
    whole = restore(pixels, network)
    monkeypatch.setattr(MoceLite, "_encode", greedy)
    parts = restore(pixels, network)
    assert "trying again" in caplog.text
    assert parts.experts == whole.experts
    assert abs(parts.picture.pixels - whole.picture.pixels).mean() < 1 / 255
    monkeypatch.setattr(MoceLite, "_encode", lambda self, x: bytearray(2**62))
    with pytest.raises(LimitError, match="not enough memory"):
        restore(pixels, network)
    with pytest.raises(LimitError, match="not enough memory"):
        restore(pixels, network, strength=0)


def test_other_errors_are_not_taken_for_memory(network, monkeypatch):
    monkeypatch.setattr(network, "look", lambda pieces: (_ for _ in ()).throw(RuntimeError("other")))
    with pytest.raises(RuntimeError, match="other"):
        decide(network, as_tensor(waves(20, 20)))


def test_a_tensor_of_any_size(network):
    x = as_tensor(waves(33, 47))
    made, decision = restore_tiled(network, x)
    with torch.no_grad():
        torch.testing.assert_close(made, network(x), atol=1e-5, rtol=0)
    assert float(decision.cost) == pytest.approx(float(network.look([x]).cost))
