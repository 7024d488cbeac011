"""Stored bytes, and where a run computes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from moesaic.errors import ArgumentError, BackendError, ShapeError
from moesaic.training.device import channels_last, pick_device, precision_on
from moesaic.training.store import Store, as_input


def _store():
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (5, 3, 4, 6), generator=generator, dtype=torch.uint8)
    return Store(pictures, torch.randint(0, 3, (5, 4, 6), generator=generator, dtype=torch.uint8))


def test_bytes_become_input():
    store = _store()
    x = as_input(store.pictures)
    assert (x.dtype, tuple(x.shape)) == (torch.float32, (5, 3, 4, 6))
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal((x * 255).round().byte(), store.pictures)
    assert (len(store), store.size) == (5, (4, 6))


def test_fingerprints_see_every_pixel_and_label():
    store, other = _store(), _store()
    assert store.fingerprint() == other.fingerprint()
    other.labels[4, 3, 5] ^= 1
    assert store.fingerprint() != other.fingerprint()
    assert store.fingerprint() != Store(store.pictures.reshape(5, 3, 6, 4)).fingerprint()


def test_shapes_must_agree():
    with pytest.raises(ShapeError, match=r"pictures of a store"):
        Store(torch.zeros(2, 3, 4, 4))
    with pytest.raises(ShapeError, match=r"labels of a store are \(2, 4, 4\)"):
        Store(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(2, 4, 5, dtype=torch.uint8))


def test_devices():
    assert pick_device("cpu").type == "cpu"
    assert pick_device().type in ("cpu", "cuda")
    with pytest.raises(ArgumentError, match="device 'abacus' is unknown"):
        pick_device("abacus")
    with pytest.raises(BackendError, match="cannot be used here"):
        pick_device("cuda:99")


def test_precisions():
    layer, x = nn.Linear(4, 4), torch.rand(2, 4)
    for precision, wanted in (("auto", torch.float32), ("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        with precision_on(torch.device("cpu"), precision):
            assert layer(x).dtype == wanted
    with pytest.raises(ArgumentError, match="precision 'half'"):
        precision_on(torch.device("cpu"), "half")


def test_stacked_weights_keep_their_layout():
    model = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv3d(4, 4, 3))
    channels_last(model)
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert model[1].weight.is_contiguous()
