"""The bytes of a mixture for the page: taken apart again they are the mixture, and nothing unsound is written."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from moesaic.app.kernels import HEADER, MAGIC, VERSION, kernel_bytes, size_of
from moesaic.errors import ArgumentError, ShapeError
from moesaic.mixture.model import Mixture


def mixture(kernels=5, channels=3, order=0, dtype=torch.float32):
    made = torch.Generator().manual_seed(1)
    draw = lambda *shape: torch.rand(*shape, generator=made).to(dtype)  # noqa: E731
    return Mixture(
        centres=draw(kernels, 2) * 40,
        factors=draw(kernels, 3) + 0.1,
        log_priors=draw(kernels),
        colours=draw(kernels, channels),
        slopes=draw(kernels, channels, 2) if order else None,
        width=40,
        height=30,
    )


def taken_apart(data: bytes) -> tuple[tuple[int, ...], dict[str, np.ndarray]]:
    magic, *header, spare = HEADER.unpack_from(data)
    assert (magic, spare) == (MAGIC, 0)
    _, n, c, order, _, _ = header
    shapes = {"centres": (n, 2), "factors": (n, 3), "log_priors": (n,), "colours": (n, c)}
    shapes |= {"slopes": (n, c, 2)} if order else {}
    arrays, at = {}, HEADER.size
    for name, shape in shapes.items():
        kind = np.dtype("<f8" if name == "centres" else "<f4")
        arrays[name] = np.frombuffer(data, kind, int(np.prod(shape)), at).reshape(shape)
        at += arrays[name].nbytes
    assert at == len(data)
    return tuple(header), arrays


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("order", [0, 1])
def test_the_bytes_hold_the_mixture(channels, order):
    given = mixture(channels=channels, order=order)
    data = kernel_bytes(given)
    assert len(data) == size_of(5, channels, order)
    header, arrays = taken_apart(data)
    assert header == (VERSION, 5, channels, order, 40, 30)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, getattr(given, name).numpy())


def test_centres_keep_all_their_digits():
    given = mixture(dtype=torch.float64)
    _, arrays = taken_apart(kernel_bytes(given))
    np.testing.assert_array_equal(arrays["centres"], given.centres.numpy())


def test_a_mixture_with_gradients_and_of_any_strides_can_be_written():
    given = mixture(kernels=8)
    strided = dataclasses.replace(given, centres=given.centres.T.contiguous().T).requires_grad_()
    assert kernel_bytes(strided) == kernel_bytes(given)


def test_what_no_one_can_draw_is_refused():
    given = mixture()
    with pytest.raises(ShapeError):
        kernel_bytes(given[:0])
    with pytest.raises(ArgumentError):
        kernel_bytes(dataclasses.replace(given, log_priors=given.log_priors * torch.nan))
