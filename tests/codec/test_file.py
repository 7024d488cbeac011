from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moesaic.codec import Info, Limits, Steps, decode_bytes, encode_mixture, load, load_file, read_header, save
from moesaic.codec.file import write_plan
from moesaic.codec.plan import place, plan
from moesaic.errors import ArgumentError, FormatError, LimitError, OutputExistsError
from moesaic.mixture import reference

TENSORS = ("centres", "factors", "log_priors", "colours")


def equal(a, b) -> bool:
    names = TENSORS + (("slopes",) if a.order else ())
    same = (a.width, a.height, a.channels, a.order) == (b.width, b.height, b.channels, b.order)
    return same and all(torch.equal(getattr(a, n), getattr(b, n)) for n in names)


class TestRoundTrip:
    @given(
        n=st.integers(1, 700),
        channels=st.integers(1, 4),
        order=st.integers(0, 1),
        seed=st.integers(0, 10**6),
        scale=st.sampled_from([0.3, 1.0, 3.0]),
        canvas=st.sampled_from([(96, 64), (1, 1), (1, 500), (1999, 3)]),
        chunks=st.sampled_from([None, 1, 3, 9]),
    )
    @settings(max_examples=60)
    def test_the_file_holds_the_planned_mixture(self, make_mixture, n, channels, order, seed, scale, canvas, chunks):
        mixture = make_mixture(n, channels=channels, order=order, seed=seed, width=canvas[0], height=canvas[1])
        planned = plan(mixture, Steps().scaled(scale), chunks=chunks)
        found = decode_bytes(write_plan(planned))
        assert equal(found.mixture, planned.mixture())
        assert found.steps == planned.tables.steps
        assert sorted(planned.order.tolist()) == list(range(n))

    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    @pytest.mark.parametrize("order", [0, 1])
    def test_encode_decode_encode_is_byte_stable(self, make_mixture, channels, order):
        data = encode_mixture(make_mixture(900, channels=channels, order=order))
        assert encode_mixture(decode_bytes(data).mixture) == data

    def test_the_order_of_kernels_does_not_matter(self, make_mixture):
        mixture = make_mixture(300)
        shuffled = mixture[torch.randperm(300, generator=torch.Generator().manual_seed(1))]
        a, b = decode_bytes(encode_mixture(mixture)).mixture, decode_bytes(encode_mixture(shuffled)).mixture
        assert torch.equal(a.centres, b.centres)

    @pytest.mark.parametrize("n", [1, 2, 3])
    def test_few_kernels_on_one_pixel(self, make_mixture, n):
        data = encode_mixture(make_mixture(n, width=1, height=1))
        assert len(decode_bytes(data).mixture) == n
        assert len(data) < 150

    def test_many_equal_kernels(self, make_mixture):
        one = make_mixture(1)
        many = one[[0] * 20000]
        data = encode_mixture(many)
        assert len(decode_bytes(data).mixture) == 20000

    def test_the_picture_stays(self, make_mixture):
        mixture = make_mixture(120, channels=4)
        after = decode_bytes(encode_mixture(mixture, steps=Steps().scaled(0.25))).mixture
        a, b = (reference.render(m.to(dtype=torch.float64)) for m in (mixture, after))
        assert (a - b).abs().mean() < 0.004

    def test_float64_mixtures_are_stored(self, make_mixture):
        mixture = make_mixture(50)
        assert encode_mixture(mixture.to(dtype=torch.float64)) == encode_mixture(mixture)

    def test_gradients_do_not_matter(self, make_mixture):
        mixture = make_mixture(10)
        data = encode_mixture(mixture)
        assert encode_mixture(mixture.requires_grad_()) == data
        mixture.requires_grad_(False)

    def test_recolouring_keeps_the_geometry(self, make_mixture):
        placed = place(make_mixture(200), Steps())
        before = placed.mixture()
        recoloured = placed.recoloured(replace(before, colours=1 - before.colours))
        after = decode_bytes(write_plan(recoloured.finished())).mixture
        assert torch.equal(after.centres, before.centres)
        assert torch.equal(after.factors, before.factors)
        torch.testing.assert_close(after.colours, 1 - before.colours, atol=0.03, rtol=0)


class TestSize:
    def test_small_pictures_have_small_files(self, make_mixture):
        planned = plan(make_mixture(1), Steps())
        assert len(write_plan(planned)) <= 110

    def test_bits_per_kernel(self, make_mixture):
        mixture = make_mixture(5000, width=768, height=512)
        assert 8 * len(encode_mixture(mixture, steps=Steps().scaled(2))) / 5000 < 44

    def test_equal_priors_cost_nothing(self, make_mixture):
        mixture = make_mixture(2000)
        plain = replace(mixture, log_priors=torch.zeros(2000))
        steps = Steps(prior=256)
        assert len(encode_mixture(mixture, steps=steps)) - len(encode_mixture(plain, steps=steps)) > 2000 * 4 / 8
        assert len(encode_mixture(plain, steps=steps)) == len(encode_mixture(plain))

    def test_opaque_alpha_costs_nothing(self, make_mixture):
        mixture = make_mixture(2000, channels=3)
        opaque = replace(mixture, colours=torch.cat([mixture.colours, torch.ones(2000, 1)], 1))
        grown = len(encode_mixture(opaque)) - len(encode_mixture(mixture))
        assert grown < 2000 * 1.0 / 8


class TestLayers:
    def test_each_leading_chunk_is_a_mixture_of_the_largest_kernels(self, make_mixture):
        mixture = make_mixture(3000)
        data = encode_mixture(mixture)
        whole = decode_bytes(data)
        assert whole.header.chunks >= 4
        previous = 0
        for layers in range(1, whole.header.chunks + 1):
            part = decode_bytes(data, layers=layers)
            n = len(part.mixture)
            assert previous < n
            assert part.layers == layers
            assert equal(part.mixture, whole.mixture[:n])
            area = -whole.mixture.factors[:, [0, 2]].log().sum(1)
            assert n == 3000 or area[:n].min() >= area[n:].max() - 1e-5
            previous = n
        assert previous == 3000

    def test_more_layers_than_there_are_is_all(self, make_mixture):
        data = encode_mixture(make_mixture(100))
        assert len(decode_bytes(data, layers=50).mixture) == 100

    def test_a_truncated_file_still_gives_its_whole_layers(self, make_mixture):
        data = encode_mixture(make_mixture(3000))
        assert len(decode_bytes(data[: len(data) // 2], layers=2).mixture) > 100
        with pytest.raises(FormatError):
            decode_bytes(data[: len(data) // 2])

    @pytest.mark.parametrize("layers", [0, -1])
    def test_no_layers(self, make_mixture, layers):
        with pytest.raises(ArgumentError, match="layers"):
            decode_bytes(encode_mixture(make_mixture(10)), layers=layers)


INFO = {"icc": b"profile", "exif": b"Exif\0\0camera", "xmp": b"<x/>", "text": {"a": "b"}}


class TestOnDisk:
    def test_save_and_load(self, make_mixture, tmp_path):
        path, mixture = tmp_path / "a.moe", make_mixture(80, channels=4)
        size = save(mixture, path, depth=16, **INFO)
        assert size == path.stat().st_size
        found = load_file(path)
        assert found.info == Info(**INFO)
        assert found.header.depth == 16
        assert equal(load(path), found.mixture)
        assert encode_mixture(mixture) == encode_mixture(found.mixture)

    def test_the_header_is_read_alone(self, make_mixture, tmp_path):
        path = tmp_path / "a.moe"
        save(make_mixture(800), path, **INFO)
        path.write_bytes(path.read_bytes()[:200])
        header, info = read_header(path)
        assert (header.width, header.height, header.channels, header.kernels) == (96, 64, 3, 800)
        assert info == Info(**INFO)

    def test_an_existing_file_is_kept(self, make_mixture, tmp_path):
        path = tmp_path / "a.moe"
        path.write_bytes(b"mine")
        with pytest.raises(OutputExistsError):
            save(make_mixture(5), path)
        assert path.read_bytes() == b"mine"
        save(make_mixture(5), path, force=True)
        assert len(load(path)) == 5
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("name", ["missing.moe", ".", "a\0b"])
    def test_paths_that_cannot_be_read(self, tmp_path, name):
        for reader in (load, load_file, read_header):
            with pytest.raises(ArgumentError, match="cannot read"):
                reader(tmp_path / name)

    def test_a_stream(self, make_mixture):
        data = encode_mixture(make_mixture(9))
        assert equal(decode_bytes(BytesIO(data)).mixture, decode_bytes(data).mixture)


def test_an_empty_mixture_is_refused(make_mixture):
    with pytest.raises(ArgumentError, match="without kernels"):
        encode_mixture(make_mixture(3)[:0])


def test_limits_hold(make_mixture):
    data = encode_mixture(make_mixture(500))
    with pytest.raises(LimitError, match="kernels: 500"):
        decode_bytes(data, limits=Limits(kernels=499))
    with pytest.raises(LimitError, match="canvas_pixels"):
        decode_bytes(data, limits=Limits(canvas_pixels=1000))
    assert len(decode_bytes(data, limits=Limits(kernels=500)).mixture) == 500


def test_integers_alone_decide_how_symbols_decode(make_mixture, monkeypatch):
    """Decoding gives the same integers when every transcendental function of the machine is a little off."""
    data = encode_mixture(make_mixture(1500))
    expected = plan(decode_bytes(data).mixture, Steps()).kernels
    exact = np.exp2
    monkeypatch.setattr(np, "exp2", lambda values: exact(values) * (1 + 2e-7))
    found = plan(decode_bytes(data).mixture, Steps()).kernels
    for name in ("size", "aspect", "shear", "prior", "colours", "x", "y"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
