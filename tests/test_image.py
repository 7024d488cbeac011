from __future__ import annotations

import io
import logging
import pickle
import struct
import zlib
from dataclasses import FrozenInstanceError
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms, ImageOps

from moesaic.errors import ArgumentError, LimitError, MoesaicError, OutputExistsError, PictureError, ShapeError
from moesaic.image import Picture, read_picture, to_pillow, write_picture
from moesaic.png16 import encode_png16

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)
SUFFIXES = ("png", "jpg", "webp", "avif", "tif", "bmp")
LOSSLESS = ("png", "tif", "bmp")


def random_bytes(height, width, channels, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def random_picture(channels=3, depth=8, height=11, width=7, **carried):
    top = 255 if depth == 8 else 65535
    values = np.random.default_rng(channels).integers(0, top + 1, (height, width, channels))
    return Picture(pixels=(values / top).astype(np.float32), depth=depth, **carried)


def saved(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def exif_bytes(orientation=6, *, thumbnail=False, size=None):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make] = "maker"
    if size:
        exif.get_ifd(ExifTags.IFD.Exif).update({0xA002: size[0], 0xA003: size[1], 0x9003: "2024:01:02 03:04:05"})
    data = exif.tobytes()
    if thumbnail:  # a second directory behind the first, as cameras write it, with one marked byte string in it
        body = data[6:]
        order = "<" if body.startswith(b"II") else ">"
        [start] = struct.unpack_from(order + "I", body, 4)
        [count] = struct.unpack_from(order + "H", body, start)
        link = start + 2 + 12 * count
        entry = struct.pack(order + "HHHII", 1, 0x0201, 4, 1, len(body) + 18) + struct.pack(order + "I", 0)
        body = body[:link] + struct.pack(order + "I", len(body)) + body[link + 4 :] + entry + b"THUMBNAIL"
        data = b"Exif\0\0" + body
    return data


class TestPicture:
    def test_says_what_it_is(self):
        picture = random_picture(4, height=5, width=9, icc=SRGB)
        assert (picture.width, picture.height, picture.channels, picture.has_alpha) == (9, 5, 4, True)
        assert repr(picture) == "Picture(9x5, RGB and alpha, 8 bits, icc)"
        assert not random_picture(3).has_alpha

    def test_cannot_be_rebound_and_can_be_pickled(self):
        picture = random_picture()
        with pytest.raises(FrozenInstanceError):
            picture.depth = 16
        assert pickle.loads(pickle.dumps(picture)).pixels.tolist() == picture.pixels.tolist()

    @pytest.mark.parametrize("shape", [(4, 4), (4, 4, 5), (4, 4, 0), (0, 4, 3), (4, 0, 3), (1, 4, 4, 3)])
    def test_refuses_other_shapes(self, shape):
        with pytest.raises(ShapeError):
            Picture(pixels=np.zeros(shape, np.float32))

    @pytest.mark.parametrize("value", [np.nan, np.inf, -1e-6, 1.0001])
    def test_refuses_values_outside(self, value):
        pixels = np.zeros((3, 3, 3), np.float32)
        pixels[1, 1, 1] = value
        with pytest.raises(ArgumentError, match=r"\[0, 1\]"):
            Picture(pixels=pixels)

    def test_refuses_other_types_and_depths(self):
        with pytest.raises(ArgumentError, match="float32"):
            Picture(pixels=np.zeros((2, 2, 1)))
        with pytest.raises(ArgumentError, match="depth"):
            Picture(pixels=np.zeros((2, 2, 1), np.float32), depth=10)

    def test_with_depth_and_without_metadata(self):
        picture = random_picture(depth=16, icc=SRGB, exif=exif_bytes(1), xmp=XMP)
        narrowed = picture.with_depth(8)
        assert (narrowed.depth, narrowed.icc) == (8, SRGB)
        assert narrowed.pixels is picture.pixels
        bare = picture.without_metadata()
        assert (bare.icc, bare.exif, bare.xmp, bare.depth) == (None, None, None, 16)

    def test_premultiplied_by_hand(self):
        picture = Picture(pixels=np.array([[[1, 0.5, 0.25, 0.5], [0.9, 0.8, 0.7, 0.0]]], np.float32))
        assert picture.premultiplied().tolist() == [[[0.5, 0.25, 0.125, 0.5], [0, 0, 0, 0]]]
        back = Picture.from_premultiplied(picture.premultiplied())
        assert back.pixels.tolist() == [[[1, 0.5, 0.25, 0.5], [0, 0, 0, 0]]]

    @pytest.mark.parametrize("channels", [1, 3])
    def test_premultiplied_without_alpha_is_a_copy(self, channels):
        picture = random_picture(channels)
        pixels = picture.premultiplied()
        np.testing.assert_array_equal(pixels, picture.pixels)
        assert not np.shares_memory(pixels, picture.pixels)

    @given(st.integers(0, 1000), st.sampled_from([2, 4]))
    def test_premultiplying_is_undone(self, seed, channels):
        pixels = (random_bytes(4, 5, channels, seed) / 255).astype(np.float32)
        back = Picture.from_premultiplied(Picture(pixels=pixels).premultiplied(), depth=16, icc=SRGB)
        shown = pixels[..., -1] > 0
        np.testing.assert_allclose(back.pixels[shown], pixels[shown], atol=1e-6)
        assert not back.pixels[~shown].any()
        assert (back.depth, back.icc) == (16, SRGB)

    def test_from_premultiplied_clips_and_refuses_nan(self):
        back = Picture.from_premultiplied(np.array([[[0.6, 0.5], [-0.1, 0.5], [0.5, 1.2]]]))
        assert back.pixels.tolist() == [[[1, 0.5], [0, 0.5], [0.5, 1]]]
        with pytest.raises(ArgumentError):
            Picture.from_premultiplied(np.array([[[np.nan, 1.0]]]))
        with pytest.raises(ArgumentError):
            Picture.from_premultiplied(np.array([[[0.5, np.nan]]]))
        with pytest.raises(ShapeError):
            Picture.from_premultiplied(np.zeros((3, 3)))

    def test_over_by_hand(self):
        picture = Picture(pixels=np.array([[[1, 0, 0, 0.25]]], np.float32), icc=SRGB)
        assert picture.over().pixels.tolist() == [[[1, 0.75, 0.75]]]
        assert picture.over((0, 1, 0)).pixels.tolist() == [[[0.25, 0.75, 0]]]
        assert picture.over().icc == SRGB
        opaque = random_picture(3)
        assert opaque.over(0) is opaque
        for background in ((1, 1), 2.0, np.nan):
            with pytest.raises(ArgumentError):
                picture.over(background)


class TestSources:
    def test_a_path_text_bytes_and_a_stream_are_the_same(self, tmp_path):
        pixels = random_bytes(6, 5, 3)
        path = tmp_path / "a.png"
        Image.fromarray(pixels).save(path)
        for source in (path, str(path), path.read_bytes(), bytearray(path.read_bytes()), path.open("rb")):
            picture = read_picture(source)
            np.testing.assert_array_equal(picture.pixels, (pixels / np.float32(255)).astype(np.float32))
            assert picture.depth == 8
            if hasattr(source, "close"):
                assert not source.closed
                source.close()

    def test_a_picture_is_returned(self):
        picture = random_picture()
        assert read_picture(picture) is picture

    @pytest.mark.parametrize(
        ("dtype", "depth", "top"), [(np.uint8, 8, 255), (np.uint16, 16, 65535), (">u2", 16, 65535)]
    )
    def test_integer_arrays(self, dtype, depth, top):
        picture = read_picture(np.array([[0, 1], [top - 1, top]], dtype))
        assert picture.depth == depth
        assert picture.pixels.shape == (2, 2, 1)
        np.testing.assert_array_equal(np.rint(picture.pixels[..., 0].astype(float) * top), [[0, 1], [top - 1, top]])

    def test_depth_is_not_guessed_from_values(self):
        assert read_picture(np.full((2, 2), 7, np.uint16)).depth == 16

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_float_arrays_are_copied(self, dtype):
        array = np.full((3, 4, 2), 0.5, dtype)
        picture = read_picture(array)
        array[:] = 0
        assert picture.pixels.dtype == np.float32
        assert (picture.pixels == 0.5).all()

    def test_arrays_of_any_stride(self):
        array = random_bytes(6, 4, 3)[::-1, ::2]
        picture = read_picture(array)
        assert picture.pixels.flags.c_contiguous
        np.testing.assert_array_equal(picture.pixels, (array / np.float32(255)).astype(np.float32))

    @pytest.mark.parametrize(
        "array",
        [
            np.full((2, 2), 1.5),
            np.full((2, 2), -0.1),
            np.full((2, 2), np.nan),
            np.zeros((2, 2), np.int64),
            np.zeros((2, 2), bool),
            np.zeros((2, 2), complex),
            np.array([["a"]]),
        ],
    )
    def test_refused_arrays(self, array):
        with pytest.raises(ArgumentError, match=r"\[0, 1\]"):
            read_picture(array)

    @pytest.mark.parametrize("shape", [(4,), (3, 8, 8), (2, 2, 3, 1), (0, 3), (3, 0, 1)])
    def test_arrays_of_other_shapes(self, shape):
        with pytest.raises(ShapeError):
            read_picture(np.zeros(shape, np.float32))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.uint8])
    def test_tensors_are_channels_first(self, dtype):
        tensor = torch.zeros(3, 4, 5, dtype=dtype)
        tensor[1, 2, 3] = 1
        picture = read_picture(tensor)
        assert picture.pixels.shape == (4, 5, 3)
        assert picture.pixels[2, 3, 1] == (1 / np.float32(255) if dtype == torch.uint8 else 1)
        assert picture.pixels.sum() == picture.pixels[2, 3, 1]

    def test_a_tensor_of_a_graph_and_a_flat_one(self):
        tensor = torch.full((4, 5), 0.5, requires_grad=True)
        picture = read_picture(tensor)
        assert picture.pixels.shape == (4, 5, 1)
        with torch.no_grad():
            tensor.zero_()
        assert (picture.pixels == 0.5).all()

    @pytest.mark.parametrize("shape", [(5, 4, 3), (5,), (1, 3, 4, 4), (0, 4, 4)])
    def test_tensors_of_other_shapes(self, shape):
        with pytest.raises(ShapeError):
            read_picture(torch.zeros(shape))

    def test_refused_tensors(self):
        with pytest.raises(ArgumentError):
            read_picture(torch.full((3, 2, 2), 2.0))
        with pytest.raises(ArgumentError):
            read_picture(torch.zeros((3, 2, 2), dtype=torch.int64))

    @pytest.mark.parametrize("tensor", [torch.zeros(3, 2, 2).to_sparse(), torch.zeros((3, 2, 2), device="meta")])
    def test_tensors_without_plain_numbers(self, tensor):
        with pytest.raises(ArgumentError, match="tensors are dense and hold numbers; this one is"):
            read_picture(tensor)

    @pytest.mark.parametrize("limit", [None, "a", True])
    def test_what_is_no_limit(self, limit):
        with pytest.raises(ArgumentError, match="pixel_limit is a number of pixels, not"):
            read_picture(np.zeros((2, 2)), pixel_limit=limit)
        assert read_picture(np.zeros((2, 2)), pixel_limit=np.int64(4)).width == 2

    @pytest.mark.parametrize("source", [None, 5, [1, 2], io.StringIO("text")])
    def test_other_objects(self, source):
        with pytest.raises(ArgumentError):
            read_picture(source)

    def test_a_pillow_image_with_its_metadata(self):
        image = Image.open(io.BytesIO(saved(Image.new("RGB", (4, 6)), "JPEG", exif=exif_bytes(6), icc_profile=SRGB)))
        picture = read_picture(image)
        assert (picture.width, picture.height) == (6, 4)
        assert picture.icc == SRGB
        assert image.getexif()[ExifTags.Base.Orientation] == 6  # the caller's image is as it was

    def test_a_pillow_image_that_would_lose_depth(self, tmp_path):
        write_picture(random_picture(3, 16), tmp_path / "a.png")
        with Image.open(tmp_path / "a.png") as image:
            with pytest.raises(PictureError, match="pass the path"):
                read_picture(image)
            assert read_picture(image.copy()).depth == 8

    def test_a_pillow_image_that_is_truncated(self):
        image = Image.open(io.BytesIO(saved(Image.effect_noise((64, 64), 50))[:-200]))
        with pytest.raises(PictureError):
            read_picture(image)


class TestModes:
    """Each mode of Pillow, as an image and through a PNG or TIFF file, against what Pillow makes of it."""

    @pytest.mark.parametrize(("mode", "channels"), [("1", 1), ("L", 1), ("LA", 2), ("P", 3), ("RGB", 3), ("RGBA", 4)])
    def test_through_png(self, mode, channels):
        rgba = Image.fromarray(random_bytes(9, 8, 4))
        image = rgba.convert("RGB").convert(mode) if mode == "P" else rgba.convert(mode)
        target = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
        expected = np.atleast_3d(np.asarray(image.convert(target)))
        for source in (image, saved(image)):
            picture = read_picture(source)
            assert picture.channels == channels
            np.testing.assert_array_equal(np.rint(picture.pixels * 255), expected)

    @pytest.mark.parametrize("mode", ["La", "RGBa", "PA", "RGBX", "YCbCr"])
    def test_uncommon_modes_in_memory(self, mode):
        source = {"La": "LA", "RGBa": "RGBA", "PA": "P"}.get(mode, "RGB")
        image = Image.fromarray(random_bytes(5, 5, 4)).convert(source).convert(mode)
        target = {"La": "LA", "RGBa": "RGBA", "PA": "RGBA"}.get(mode, "RGB")
        np.testing.assert_array_equal(np.rint(read_picture(image).pixels * 255), np.asarray(image.convert(target)))

    @pytest.mark.parametrize("mode", ["I", "F", "LAB", "HSV"])
    def test_refused_modes(self, mode):
        with pytest.raises(PictureError, match=f"mode {mode} "):
            read_picture(Image.new(mode, (4, 4)))

    @pytest.mark.parametrize("mode", ["I", "F"])
    def test_32_bit_tiff_is_refused(self, mode):
        with pytest.raises(PictureError, match="32 bits"):
            read_picture(saved(Image.new(mode, (4, 4)), "TIFF"))

    def test_palette_with_transparency(self):
        image = Image.new("P", (3, 1))
        image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
        image.putdata([0, 1, 2])
        for transparency, alpha in ((1, [1, 0, 1]), (bytes([0, 255, 51]), [0, 1, 0.2])):
            picture = read_picture(saved(image, transparency=transparency))
            assert picture.pixels[0, :, :3].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
            np.testing.assert_allclose(picture.pixels[0, :, 3], alpha, atol=1e-6)

    def test_key_colours(self):
        grey = Image.fromarray(np.array([[7, 8, 9]], np.uint8))
        assert read_picture(saved(grey, transparency=8)).pixels[0, :, 1].tolist() == [1, 0, 1]
        colour = Image.fromarray(np.array([[[1, 2, 3], [1, 2, 4], [9, 9, 9]]], np.uint8))
        picture = read_picture(saved(colour, transparency=(1, 2, 4)))
        assert picture.pixels[0, :, 3].tolist() == [1, 0, 1]
        np.testing.assert_array_equal(np.rint(picture.pixels[..., :3] * 255), np.asarray(colour))

    @pytest.mark.parametrize(("bits", "packed"), [(1, 0b01000000), (2, 0b00011011), (4, 0x0F)])
    def test_key_greys_of_few_bits(self, bits, packed):  # here a pixel is 0 to 2**bits - 1, and so is the key
        def chunk(kind, body):
            return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

        data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, bits, 0, 0, 0, 0))
        key = packed >> (8 - 2 * bits) & (2**bits - 1)  # the second pixel
        data += chunk(b"tRNS", struct.pack(">H", key)) + chunk(b"IDAT", zlib.compress(bytes([0, packed])))
        picture = read_picture(data + chunk(b"IEND", b""))
        np.testing.assert_allclose(picture.pixels[0], [[0, 1], [key / (2**bits - 1), 0]])

    def test_cmyk_goes_through_its_profile_or_is_converted_roughly(self, caplog):
        image = Image.fromarray(random_bytes(4, 4, 3)).convert("CMYK")
        picture = read_picture(saved(image, "TIFF"))
        np.testing.assert_array_equal(np.rint(picture.pixels * 255), np.asarray(image.convert("RGB")))
        assert picture.icc is None
        assert "CMYK" in caplog.text
        assert read_picture(saved(image, "TIFF", icc_profile=SRGB)).icc is None  # a profile that does not fit
        assert "could not be used" in caplog.text

    def test_cmyk_with_a_profile_becomes_srgb(self, monkeypatch):
        asked = []

        def transform(image, source, target, *, outputMode):
            asked.append((image.mode, source.tobytes(), outputMode))
            return Image.new("RGB", image.size, (51, 102, 204))

        monkeypatch.setattr(ImageCms, "profileToProfile", transform)
        picture = read_picture(saved(Image.new("CMYK", (2, 2)), "JPEG", icc_profile=SRGB))
        assert asked == [("CMYK", SRGB, "RGB")]
        np.testing.assert_allclose(picture.pixels[0, 0], [0.2, 0.4, 0.8])
        assert picture.icc is None

    def test_animations_give_the_first_picture_and_a_warning(self, caplog):
        frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
        for kind in ("PNG", "WEBP", "TIFF", "AVIF"):
            caplog.clear()
            data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
            assert read_picture(data).pixels[0, 0] == pytest.approx([1, 0, 0], abs=0.05)
            assert "2 pictures" in caplog.text
        caplog.clear()
        read_picture(saved(frames[0]))
        assert not caplog.text


class TestSixteenBits:
    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    def test_png_round_trip_is_exact(self, tmp_path, channels):
        picture = random_picture(channels, 16, icc=SRGB, exif=exif_bytes(1), xmp=XMP.replace(b'"6"', b'"1"'))
        write_picture(picture, tmp_path / "a.png")
        back = read_picture(tmp_path / "a.png")
        assert back.depth == 16
        np.testing.assert_array_equal(back.pixels, picture.pixels)
        assert (back.icc, back.exif, back.xmp) == (picture.icc, picture.exif, picture.xmp)

    @pytest.mark.parametrize("order", ["<u2", ">u2"])
    def test_grey_tiff(self, order):
        values = np.array([[0, 1, 256], [300, 65534, 65535]], order)
        image = Image.frombytes("I;16" if order == "<u2" else "I;16B", (3, 2), values.tobytes())
        for source in (image, saved(image, "TIFF")):
            picture = read_picture(source)
            assert picture.depth == 16
            np.testing.assert_array_equal(np.rint(picture.pixels[..., 0] * np.float32(65535)), values)

    def test_grey_tiff_where_white_is_zero(self):
        image = Image.fromarray(np.array([[0, 100, 65535]], np.uint16))
        data = saved(image, "TIFF", tiffinfo={262: 0})
        assert Image.open(io.BytesIO(data)).tag_v2[262] == 0
        expected = [1, 1 - 100 / 65535, 0]
        np.testing.assert_allclose(read_picture(data).pixels[0, :, 0], expected, atol=1e-6)

    def test_dark_pictures_stay_16_bit(self, tmp_path):
        dark = read_picture(np.full((4, 4, 3), 3, np.uint16))
        write_picture(dark, tmp_path / "a.png")
        assert read_picture(tmp_path / "a.png").pixels.max() == np.float32(3 / 65535)

    @pytest.mark.parametrize("suffix", ["jpg", "webp", "avif", "bmp"])
    def test_narrowing_is_explicit(self, tmp_path, suffix):
        picture = random_picture(3, 16)
        path = tmp_path / f"a.{suffix}"
        with pytest.raises(PictureError, match=r"with_depth\(8\)"):
            write_picture(picture, path)
        assert not path.exists()
        write_picture(picture.with_depth(8), path)
        assert read_picture(path).depth == 8

    def test_narrowing_rounds(self, tmp_path):
        picture = read_picture(np.array([[128, 129, 65535]], np.uint16)).with_depth(8)  # 0.498 and 0.502 of 255ths
        write_picture(picture, tmp_path / "a.png")
        assert np.asarray(Image.open(tmp_path / "a.png")).tolist() == [[0, 1, 255]]

    def test_orientation_and_late_metadata_of_16_bit_files(self):
        values = np.arange(6, dtype=np.uint16).reshape(2, 3, 1).repeat(3, axis=2)
        data = encode_png16(values, exif=exif_bytes(6))
        start = data.index(b"eXIf") - 4
        length = 12 + struct.unpack_from(">I", data, start)[0]
        moved = data[:start] + data[start + length : -12] + data[start : start + length] + data[-12:]
        for variant in (data, moved):
            picture = read_picture(variant)
            shown = np.rint(picture.pixels[..., 0] * 65535).astype(int).tolist()
            assert shown == [[3, 0], [4, 1], [5, 2]]  # turned clockwise


class TestOrientation:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
    def test_is_applied_once(self, tmp_path, orientation, kind):
        blocks = np.zeros((16, 24, 3), np.uint8)
        blocks[:8, :8], blocks[8:, 16:] = 255, 128
        options = {} if kind in ("PNG", "TIFF") else {"quality": 95}
        data = saved(Image.fromarray(blocks), kind, exif=exif_bytes(orientation), **options)
        with Image.open(io.BytesIO(data)) as image:
            expected = np.asarray(ImageOps.exif_transpose(image)) / 255
        picture = read_picture(data)
        np.testing.assert_allclose(picture.pixels, expected, atol=1e-6)
        write_picture(picture, tmp_path / "again.png")
        again = read_picture(tmp_path / "again.png")
        np.testing.assert_array_equal(again.pixels, np.rint(picture.pixels * 255).astype(np.float32) / np.float32(255))
        exif = Image.Exif()
        exif.load(again.exif)
        assert exif[ExifTags.Base.Make] == "maker"
        assert exif.get(ExifTags.Base.Orientation, 1) == 1

    @pytest.mark.parametrize("orientation", [0, 9, 77])
    def test_nonsense_is_ignored(self, orientation):
        data = saved(Image.new("RGB", (4, 6)), "JPEG", exif=exif_bytes(orientation))
        assert read_picture(data).height == 6

    def test_in_xmp_only(self):
        picture = read_picture(saved(Image.new("RGB", (4, 6)), "JPEG", xmp=XMP))
        assert (picture.width, picture.height) == (6, 4)
        assert b'tiff:Orientation="1"' in picture.xmp
        assert picture.exif is None

    def test_the_other_spelling_in_xmp(self):
        xmp = b"<rdf:li><tiff:Orientation>3</tiff:Orientation></rdf:li>"
        picture = read_picture(saved(Image.new("RGB", (4, 6)), "WEBP", xmp=xmp))
        assert picture.xmp == xmp.replace(b"3", b"1")


class TestMetadata:
    @pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "avif", "tif"])
    def test_is_carried_or_stripped(self, tmp_path, suffix):
        picture = random_picture(3, icc=SRGB, exif=exif_bytes(1), xmp=b"<x:xmpmeta/>")
        write_picture(picture, tmp_path / f"a.{suffix}")
        back = read_picture(tmp_path / f"a.{suffix}")
        assert back.icc == SRGB
        assert back.xmp == b"<x:xmpmeta/>"
        exif = Image.Exif()
        exif.load(back.exif)
        assert exif[ExifTags.Base.Make] == "maker"
        write_picture(picture, tmp_path / f"b.{suffix}", metadata="strip")
        bare = read_picture(tmp_path / f"b.{suffix}")
        assert (bare.icc, bare.exif, bare.xmp) == (None, None, None)
        with Image.open(tmp_path / f"b.{suffix}") as image:
            assert not {"icc_profile", "exif", "xmp"} & set(image.info)

    def test_from_one_format_to_another_and_back(self, tmp_path):
        exif = exif_bytes(1, size=(7, 11))
        write_picture(random_picture(3, exif=exif, xmp=XMP, icc=SRGB), tmp_path / "0.jpg")
        for number, suffix in enumerate(("tif", "png", "webp", "tif", "avif", "jpg"), 1):
            [previous] = tmp_path.glob(f"{number - 1}.*")
            write_picture(read_picture(previous), tmp_path / f"{number}.{suffix}")
        picture = read_picture(tmp_path / "6.jpg")
        tags = Image.Exif()
        tags.load(picture.exif)
        assert set(tags) <= {ExifTags.Base.Make, ExifTags.Base.Orientation, ExifTags.IFD.Exif}  # nothing of the TIFF's
        assert tags.get_ifd(ExifTags.IFD.Exif)[0x9003] == "2024:01:02 03:04:05"
        assert picture.icc == SRGB

    def test_thumbnails_are_dropped(self):
        exif = exif_bytes(1, thumbnail=True)
        assert b"THUMBNAIL" in exif
        data = saved(Image.new("RGB", (8, 8)), "JPEG", exif=exif)
        with Image.open(io.BytesIO(data)) as image:
            assert image.getexif().get_ifd(ExifTags.IFD.IFD1)
        picture = read_picture(data)
        assert b"THUMBNAIL" not in picture.exif
        tags = Image.Exif()
        tags.load(picture.exif)
        assert not tags.get_ifd(ExifTags.IFD.IFD1)
        assert tags[ExifTags.Base.Make] == "maker"

    @pytest.mark.parametrize("depth", [8, 16])
    def test_size_tags_are_renewed(self, tmp_path, depth):
        picture = random_picture(3, depth, height=5, width=9, exif=exif_bytes(1, size=(4000, 3000)))
        write_picture(picture, tmp_path / "a.png")
        tags = Image.Exif()
        tags.load(read_picture(tmp_path / "a.png").exif)
        details = tags.get_ifd(ExifTags.IFD.Exif)
        assert (details[0xA002], details[0xA003]) == (9, 5)
        write_picture(random_picture(3, depth, exif=exif_bytes(1)), tmp_path / "b.png")  # and none are invented
        tags = Image.Exif()
        tags.load(read_picture(tmp_path / "b.png").exif)
        assert not tags.get_ifd(ExifTags.IFD.Exif)

    def test_damaged_exif_costs_no_picture(self, caplog):
        data = saved(Image.new("RGB", (8, 8)), "JPEG", exif=b"Exif\0\0no directory at all")
        picture = read_picture(data)
        assert picture.exif is None
        assert "EXIF" in caplog.text

    def test_what_a_format_cannot_carry_is_logged(self, tmp_path, caplog):
        write_picture(random_picture(3, icc=SRGB, xmp=XMP), tmp_path / "a.bmp")
        assert "BMP cannot carry the picture's icc and xmp" in caplog.text
        caplog.clear()
        write_picture(random_picture(3, xmp=b" " * 70000), tmp_path / "a.jpg")
        assert "xmp" in caplog.text
        caplog.clear()
        write_picture(random_picture(3, xmp=b" " * 65000), tmp_path / "b.jpg")
        assert not caplog.text
        assert len(read_picture(tmp_path / "b.jpg").xmp) == 65000

    def test_large_profiles_fit_into_jpeg(self, tmp_path):
        profile = SRGB + bytes(200_000)
        write_picture(random_picture(3, icc=profile), tmp_path / "a.jpg")
        assert read_picture(tmp_path / "a.jpg").icc == profile


class TestWriting:
    @pytest.mark.parametrize("suffix", LOSSLESS)
    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    def test_lossless_formats_keep_every_bit(self, tmp_path, suffix, channels):
        picture = random_picture(channels)
        path = tmp_path / f"a.{suffix}"
        if suffix == "bmp" and picture.has_alpha:
            with pytest.raises(PictureError, match="alpha"):
                write_picture(picture, path)
            return
        write_picture(picture, path)
        np.testing.assert_array_equal(read_picture(path).pixels, picture.pixels)

    @pytest.mark.parametrize("suffix", ["jpg", "webp", "avif"])
    def test_lossy_formats_stay_close(self, tmp_path, photo, suffix):
        picture = read_picture(photo)
        write_picture(picture, tmp_path / f"a.{suffix}")
        back = read_picture(tmp_path / f"a.{suffix}")
        assert np.abs(back.pixels - photo).mean() < 0.02
        write_picture(picture, tmp_path / f"b.{suffix}", quality=20)
        assert (tmp_path / f"b.{suffix}").stat().st_size < (tmp_path / f"a.{suffix}").stat().st_size / 2

    @pytest.mark.parametrize("suffix", ["webp", "avif", "png", "tif"])
    def test_alpha_is_kept(self, tmp_path, photo, suffix):
        alpha = np.tile(np.linspace(0, 1, photo.shape[1], dtype=np.float32), (photo.shape[0], 1))[..., None]
        write_picture(read_picture(np.concatenate([photo, alpha], axis=2)), tmp_path / f"a.{suffix}")
        back = read_picture(tmp_path / f"a.{suffix}")
        assert back.channels == 4
        np.testing.assert_allclose(back.pixels[..., 3:], alpha, atol=0.03)

    @pytest.mark.parametrize("channels", [2, 4])
    def test_alpha_is_never_dropped(self, tmp_path, channels):
        with pytest.raises(PictureError, match=r"over\("):
            write_picture(random_picture(channels), tmp_path / "a.jpg")
        assert not list(tmp_path.iterdir())
        write_picture(random_picture(channels).over(1.0), tmp_path / "a.jpg")

    @pytest.mark.parametrize("name", ["a.gif", "a", "a.moe", "a.png.txt"])
    def test_unknown_suffixes_list_the_known(self, tmp_path, name):
        with pytest.raises(PictureError, match=r"\.png.*\.avif.*\.tif"):
            write_picture(random_picture(), tmp_path / name)

    def test_format_overrules_the_suffix(self, tmp_path):
        for name, head in (("PNG", b"\x89PNG"), ("jpeg", b"\xff\xd8"), ("WebP", b"RIFF"), ("jpg", b"\xff\xd8")):
            write_picture(random_picture(), tmp_path / "a.dat", format=name, force=True)
            assert (tmp_path / "a.dat").read_bytes().startswith(head)
        with pytest.raises(PictureError, match="'gif'"):
            write_picture(random_picture(), tmp_path / "b.png", format="gif")

    def test_what_is_no_picture_is_told_how_to_become_one(self, tmp_path, photo):
        holder = SimpleNamespace(picture=random_picture())
        with pytest.raises(ArgumentError, match=r"takes a Picture, not a SimpleNamespace; pass its \.picture"):
            write_picture(holder, tmp_path / "a.png")
        for value in (photo, "a.png", None):
            with pytest.raises(ArgumentError, match=f"type {type(value).__name__}; moesaic.read_picture makes"):
                write_picture(value, tmp_path / "a.png")
        assert not list(tmp_path.iterdir())

    def test_upper_case_suffixes(self, tmp_path):
        write_picture(random_picture(), tmp_path / "A.PNG")
        assert read_picture(tmp_path / "A.PNG").channels == 3

    def test_existing_files_are_kept_unless_forced(self, tmp_path):
        path = tmp_path / "a.png"
        path.write_bytes(b"precious")
        with pytest.raises(OutputExistsError):
            write_picture(random_picture(), path)
        assert path.read_bytes() == b"precious"
        write_picture(random_picture(), path, force=True)
        assert read_picture(path).channels == 3

    @pytest.mark.parametrize(
        "options", [{"quality": 0}, {"quality": 101}, {"quality": 50.5}, {"metadata": "some"}, {"metadata": True}]
    )
    def test_refused_options(self, tmp_path, options):
        with pytest.raises(ArgumentError):
            write_picture(random_picture(), tmp_path / "a.jpg", **options)
        assert not list(tmp_path.iterdir())

    def test_quality_is_refused_where_it_means_nothing(self, tmp_path):
        with pytest.raises(ArgumentError, match="quality"):
            write_picture(random_picture(), tmp_path / "a.png", quality=90)

    @pytest.mark.parametrize("suffix", ["jpg", "webp", "avif"])
    def test_sides_beyond_the_format(self, tmp_path, suffix):
        with pytest.raises(PictureError, match="cannot be written"):
            write_picture(read_picture(np.zeros((1, 66000), np.uint8)), tmp_path / f"a.{suffix}")
        assert not list(tmp_path.iterdir())

    def test_a_failing_encoder_leaves_nothing(self, tmp_path, monkeypatch):
        def fail(self, file, *arguments, **options):
            file.write(b"half")
            raise KeyboardInterrupt

        monkeypatch.setattr(Image.Image, "save", fail)
        with pytest.raises(KeyboardInterrupt):
            write_picture(random_picture(), tmp_path / "a.png")
        assert not list(tmp_path.iterdir())

    def test_colours_under_zero_alpha_survive_in_png(self, tmp_path):
        pixels = np.array([[[1, 0.2, 0.4, 0]]], np.float32)
        write_picture(Picture(pixels=pixels), tmp_path / "a.png")
        np.testing.assert_allclose(read_picture(tmp_path / "a.png").pixels, pixels, atol=1e-6)


class TestToPillow:
    @pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")])
    def test_round_trip(self, channels, mode):
        picture = random_picture(channels, icc=SRGB, exif=exif_bytes(1), xmp=b"<x/>")
        image = to_pillow(picture)
        assert (image.mode, image.size) == (mode, (picture.width, picture.height))
        assert image.info == {"icc_profile": SRGB, "exif": picture.exif, "xmp": b"<x/>"}
        back = read_picture(image)
        np.testing.assert_array_equal(back.pixels, picture.pixels)
        assert (back.icc, back.exif, back.xmp) == (picture.icc, picture.exif, picture.xmp)

    def test_16_bits(self):
        picture = random_picture(1, 16)
        image = to_pillow(picture)
        assert image.mode == "I;16"
        np.testing.assert_array_equal(read_picture(image).pixels, picture.pixels)
        with pytest.raises(PictureError, match=r"with_depth\(8\)"):
            to_pillow(random_picture(3, 16))
        assert to_pillow(random_picture(3, 16).with_depth(8)).mode == "RGB"


@pytest.fixture(scope="module")
def files(photo):
    image = Image.fromarray((photo * 255).astype(np.uint8))
    kinds = {"PNG": {}, "JPEG": {}, "WEBP": {}, "AVIF": {}, "TIFF": {}, "BMP": {}}
    files = {kind: saved(image, kind, **options) for kind, options in kinds.items()}
    files["TIFF, packed"] = saved(image, "TIFF", compression="tiff_adobe_deflate")
    files["PNG, 16 bits"] = encode_png16((photo * 65535).astype(np.uint16))
    return files


class TestBadFiles:
    def refused(self, source, kind=PictureError, match=None):
        with pytest.raises(kind, match=match) as caught:
            read_picture(source)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def test_missing_folder_empty_and_text(self, tmp_path):
        assert "no such file" in self.refused(tmp_path / "none.png")
        assert str(tmp_path) in self.refused(tmp_path, match="folder")
        (tmp_path / "empty.png").touch()
        self.refused(tmp_path / "empty.png", match="empty")
        (tmp_path / "text.png").write_text("this is no picture\n" * 100)
        self.refused(tmp_path / "text.png", match=r"text\.png is no picture of a kind .*PNG, JPEG")
        self.refused(b"", match="empty")
        self.refused(tmp_path / "null\0character.png")
        self.refused(tmp_path / ("n" * 300))

    def test_a_file_that_may_not_be_read(self, tmp_path, monkeypatch):
        path = tmp_path / "a.png"
        write_picture(random_picture(), path)

        def refuse(self, *arguments):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", refuse)
        self.refused(path, match="permission denied")

    def test_a_disk_that_fails_is_not_taken_for_a_damaged_picture(self, tmp_path, monkeypatch):
        path = tmp_path / "a.png"
        write_picture(random_picture(), path)

        def fail(self, *arguments):
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(Path, "open", fail)
        assert self.refused(path, match="cannot be read: Input/output error")
        monkeypatch.undo()
        path.write_bytes(path.read_bytes()[:-30])
        self.refused(path, match="damaged or cut off")

    def test_other_formats_are_not_even_tried(self):
        self.refused(saved(Image.new("L", (2, 2)), "GIF"), match="no picture of a kind")
        self.refused(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", match="no picture of a kind")

    @pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9, 0.99])
    def test_truncated(self, files, share):
        for kind, data in files.items():
            message = self.refused(data[: int(len(data) * share)])
            assert message, kind

    def test_mutations_end_in_a_picture_or_an_error_of_ours(self, files):
        random, seen = np.random.default_rng(0), []
        for data in files.values():
            for _ in range(40):
                broken = bytearray(data)
                for place in random.integers(0, min(len(data), 600), random.integers(1, 8)):
                    broken[place] = random.integers(256)
                try:
                    picture = read_picture(bytes(broken), pixel_limit=2**20)
                except MoesaicError as error:
                    seen.append(str(error))
                else:
                    assert picture.width * picture.height <= 2**20
        assert len(seen) > 50
        assert not any("\n" in message for message in seen)


class TestPixelLimit:
    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP"])
    def test_is_checked_before_decoding(self, kind, monkeypatch):
        data = saved(Image.new("RGB", (40, 30)), kind)
        assert read_picture(data, pixel_limit=1200).width == 40
        monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
        with pytest.raises(LimitError, match="40x30 exceeds the limit of 1199"):
            read_picture(data, pixel_limit=1199)

    @pytest.mark.parametrize("options", [{}, {"lossless": True}, {"exif": exif_bytes()}])
    def test_webp_is_checked_before_its_decoder_is_made(self, options, monkeypatch):
        data = saved(Image.new("RGB", (300, 70)), "WEBP", **options)
        assert data[12:16] == (b"VP8X" if "exif" in options else b"VP8L" if options else b"VP8 ")
        monkeypatch.setattr("moesaic.picture_files._DECODERS", {})
        with pytest.raises(LimitError, match="300x70"):
            read_picture(data, pixel_limit=100)

    def test_holds_for_every_source(self):
        for source in (np.zeros((10, 10)), torch.zeros(1, 10, 10), random_picture(1), Image.new("L", (10, 10))):
            with pytest.raises(LimitError):
                read_picture(source, pixel_limit=60)

    def test_a_header_that_lies_costs_no_memory(self):
        header = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0)
        chunk = b"IHDR" + header
        data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + bytes(50)
        with pytest.raises(MoesaicError):
            read_picture(data)

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP"])
    def test_the_limit_of_pillow_does_not_leak(self, kind, monkeypatch, recwarn):
        data = saved(Image.new("RGB", (40, 30)), kind)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)  # 1200 pixels would be warned about
        assert read_picture(data).width == 40
        assert not recwarn.list
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # and now refused
        if kind == "WEBP":  # whose own decoder checks it
            with pytest.raises(LimitError, match="MAX_IMAGE_PIXELS"):
                read_picture(data)
        else:
            assert read_picture(data).width == 40

    def test_turned_tiff_under_the_limit_of_pillow(self, monkeypatch):
        data = saved(Image.new("RGB", (40, 30)), "TIFF", exif=exif_bytes(6))
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        assert read_picture(data).width == 30


def test_nothing_is_logged_for_an_ordinary_picture(tmp_path, caplog, photo):
    caplog.set_level(logging.WARNING)
    for suffix in SUFFIXES:
        write_picture(read_picture(photo), tmp_path / f"a.{suffix}")
        read_picture(tmp_path / f"a.{suffix}")
    assert not caplog.text
