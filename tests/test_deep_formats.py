from __future__ import annotations

import io
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from moesaic.deep_formats import avif_bits, read_deep_avif, read_deep_tiff
from moesaic.errors import LimitError, MissingExtraError, PictureError
from moesaic.image import Picture, read_picture, write_picture

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def random_values(channels, bits=16, height=9, width=6):
    return np.random.default_rng(bits).integers(0, 2**bits, (height, width, channels), dtype=np.uint16)


def tiff(values, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, values, photometric="rgb", **options)
    return file.getvalue()


def avif(bits=8):
    """An AVIF file, with a header that states `bits`; only the pixels of the 8-bit one can be decoded."""
    file = io.BytesIO()
    Image.new("RGB", (16, 8), "red").save(file, "AVIF")
    data = bytearray(file.getvalue())
    data[data.index(b"av1C\x81") + 6] |= {8: 0, 10: 0x40, 12: 0x60}[bits]
    channels = data.index(b"pixi") + 8
    data[channels + 1 : channels + 1 + data[channels]] = bytes([bits] * data[channels])
    return bytes(data)


@pytest.fixture
def without(monkeypatch):
    """Make modules look as if they were not installed."""
    return lambda *names: [monkeypatch.setitem(sys.modules, name, None) for name in names]


class TestTiff:
    @pytest.mark.parametrize("channels", [3, 4])
    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("planar", ["contig", "separate"])
    def test_16_bits_are_exact(self, channels, order, planar):
        values = random_values(channels)
        stored = values if planar == "contig" else np.moveaxis(values, -1, 0)
        extra = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
        picture = read_picture(tiff(stored, byteorder=order, planarconfig=planar, **extra))
        assert picture.depth == 16
        np.testing.assert_array_equal(np.rint(picture.pixels * np.float32(65535)), values)

    def test_orientation_and_profile(self):
        values = random_values(3)
        picture = read_picture(tiff(values, iccprofile=SRGB, extratags=[(274, 3, 1, 6, True)]))
        np.testing.assert_array_equal(np.rint(picture.pixels * np.float32(65535)), np.rot90(values, -1))
        assert picture.icc == SRGB

    def test_premultiplied_alpha_is_undone(self):
        values = np.array([[[10000, 20000, 0, 40000], [0, 0, 0, 0]]], np.uint16)
        picture = read_picture(tiff(values, extrasamples=["assocalpha"]))
        expected = [[[0.25, 0.5, 0, 40000 / 65535], [0, 0, 0, 0]]]
        np.testing.assert_allclose(picture.pixels, expected, atol=1e-6)

    @pytest.mark.parametrize("channels", [3, 4])
    def test_what_is_written_is_read_back(self, tmp_path, channels):
        pixels = (random_values(channels) / 65535).astype(np.float32)
        picture = Picture(pixels=pixels, depth=16, icc=SRGB, xmp=b"<x:xmpmeta/>")
        write_picture(picture, tmp_path / "a.tif")
        back = read_picture(tmp_path / "a.tif")
        np.testing.assert_array_equal(back.pixels, pixels)
        assert (back.depth, back.icc, back.xmp) == (16, SRGB, b"<x:xmpmeta/>")

    def test_exif_is_left_out_with_a_warning(self, tmp_path, caplog):
        exif = Image.Exif()
        exif[271] = "maker"
        pixels = (random_values(3) / 65535).astype(np.float32)
        write_picture(Picture(pixels=pixels, depth=16, exif=exif.tobytes()), tmp_path / "a.tif")
        assert "exif" in caplog.text

    def test_grey_with_alpha_goes_to_png(self, tmp_path):
        pixels = (random_values(2) / 65535).astype(np.float32)
        with pytest.raises(PictureError, match="PNG"):
            write_picture(Picture(pixels=pixels, depth=16), tmp_path / "a.tif")

    def test_other_samples_are_refused(self):
        with pytest.raises(PictureError, match="float32"):
            read_deep_tiff(tiff(np.zeros((4, 4, 3), np.float32)))
        with pytest.raises(PictureError):
            read_picture(tiff(np.zeros((4, 4, 3), np.float32)))
        with pytest.raises(PictureError):
            read_picture(tiff(random_values(3))[:200])

    def test_the_pixel_limit_comes_before_the_pixels(self):
        data = tiff(random_values(3))
        assert read_deep_tiff(data, pixel_limit=54).shape == (9, 6, 3)
        with pytest.raises(LimitError, match="6x9"):
            read_deep_tiff(data, pixel_limit=53)

    def test_without_the_extra(self, without, tmp_path):
        data = tiff(random_values(3))
        without("tifffile")
        with pytest.raises(MissingExtraError, match=r"moesaic\[formats\]"):
            read_picture(data)
        picture = Picture(pixels=np.zeros((2, 2, 3), np.float32), depth=16)
        with pytest.raises(MissingExtraError, match=r"moesaic\[formats\]"):
            write_picture(picture, tmp_path / "a.tif")
        assert not list(tmp_path.iterdir())
        write_picture(picture.with_depth(8), tmp_path / "a.tif")
        assert read_picture(tmp_path / "a.tif").depth == 8


class TestAvif:
    @pytest.mark.parametrize("bits", [8, 10, 12])
    def test_bits_are_read_from_the_header(self, bits):
        assert avif_bits(avif(bits)) == bits

    def test_bits_of_no_avif(self):
        assert avif_bits(b"") == 8
        assert avif_bits(b"av1C\x81") == 8

    def test_8_bits_need_no_extra(self, without):
        without("imagecodecs")
        assert read_picture(avif()).depth == 8

    @pytest.mark.parametrize("bits", [10, 12])
    def test_without_the_extra(self, without, bits):
        without("imagecodecs")
        with pytest.raises(MissingExtraError, match=rf"{bits} bits.*moesaic\[formats\]"):
            read_picture(avif(bits))

    @pytest.mark.parametrize("channels", [1, 3, 4])
    @pytest.mark.parametrize("bits", [10, 12])
    def test_deep_pictures(self, bits, channels):
        codecs = pytest.importorskip("imagecodecs", reason="the extra `formats` is not installed")
        values = random_values(channels, bits, 32, 24)
        values = values[..., 0] if channels == 1 else values
        data = codecs.avif_encode(values, level=100, bitspersample=bits, pixelformat=None if channels == 1 else "444")
        np.testing.assert_allclose(np.squeeze(read_deep_avif(data)), values / (2**bits - 1), atol=0.01)
        picture = read_picture(data)
        assert (picture.depth, picture.height, picture.width) == (16, 32, 24)
