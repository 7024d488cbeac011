"""Where the bits of a file go: kernels pay for all that their layers take."""

from __future__ import annotations

import numpy as np
import pytest

from moesaic.codec import Limits, decode_bytes, encode_mixture, read_info
from moesaic.codec.spent import spent
from moesaic.errors import FormatError, LimitError


@pytest.mark.parametrize(("n", "channels", "order"), [(1, 1, 0), (60, 3, 0), (1500, 3, 0), (700, 4, 1), (400, 2, 0)])
def test_kernels_pay_for_their_layers(make_mixture, tmp_path, n, channels, order):
    data = encode_mixture(make_mixture(n, channels=channels, order=order))
    found = spent(data)
    (tmp_path / "a.moe").write_bytes(data)
    info = read_info(tmp_path / "a.moe")
    assert found.whole == len(data)
    assert found.bits.shape == (n,)
    assert sum(found.kernels) == n
    assert len(found.kernels) == len(found.layer_bytes) == info.layers
    assert sum(found.layer_bytes) == info.sections["KERN"]
    assert found.bits.sum() == pytest.approx(8 * sum(found.layer_bytes))
    assert (found.bits > 0).all()


def test_layers_are_those_of_the_decoder(make_mixture):
    data = encode_mixture(make_mixture(1500))
    found = spent(data)
    assert len(found.kernels) > 2
    for layers in range(1, len(found.kernels) + 1):
        assert len(decode_bytes(data, layers=layers).mixture) == sum(found.kernels[:layers])


def test_an_unusual_kernel_costs_more(make_mixture):
    mixture = make_mixture(600)
    mixture.colours[:] = 0.5
    mixture.colours[17] = -0.9
    held = decode_bytes(data := encode_mixture(mixture))
    odd = int(held.mixture.colours[:, 0].argmin())
    bits = spent(data).bits
    assert bits[odd] > np.median(bits) + 5


def test_damaged_files_and_limits(make_mixture):
    data = encode_mixture(make_mixture(50))
    with pytest.raises(FormatError):
        spent(data[:-9])
    with pytest.raises(LimitError):
        spent(data, limits=Limits(kernels=10))
