"""Pictures as the page shows them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageCms

from moesaic.app.shown import fitting, in_srgb, resized, write_view
from moesaic.picture import Picture


def test_views_keep_the_shape():
    assert fitting(4000, 3000, 2048) == (2048, 1536)
    assert fitting(30, 20, 2048) == (30, 20)
    assert fitting(100_000, 1, 2048) == (2048, 1)
    picture = Picture(pixels=np.random.default_rng(0).random((20, 30, 4), np.float32), exif=b"Exif\0\0abc")
    small = resized(picture, (15, 10))
    assert (small.width, small.height, small.exif) == (15, 10, picture.exif)
    assert resized(picture, (30, 20)) is picture


def test_a_smaller_picture_is_the_mean_of_what_it_covers():
    stripes = np.zeros((64, 64, 3), np.float32)
    stripes[:, ::2] = 1
    assert np.allclose(resized(Picture(pixels=stripes), (8, 8)).pixels[2:-2, 2:-2], 0.5, atol=0.05)


def test_what_cannot_be_seen_colours_nothing():
    pixels = np.zeros((8, 8, 4), np.float32)
    pixels[:, :4] = (1, 0, 0, 0)  # red, and clear
    pixels[:, 4:] = (0, 0, 1, 1)
    small = resized(Picture(pixels=pixels), (4, 4)).pixels
    seen = small[small[..., 3] > 0.02]
    assert seen[:, 0].max() < 0.02


@pytest.mark.parametrize(("channels", "mode"), [(1, "RGB"), (3, "RGB"), (4, "RGBA"), (2, "RGBA")])
@pytest.mark.parametrize("depth", [8, 16])
def test_every_view_has_eight_bits_of_colour(tmp_path, channels, mode, depth):
    pixels = np.full((12, 16, channels), 0.5, np.float32)
    write_view(Picture(pixels=pixels, depth=depth), tmp_path / "view", (16, 12))
    with Image.open(tmp_path / "view") as shown:
        assert (shown.format, shown.mode, shown.size) == ("WEBP", mode, (16, 12))
        assert np.abs(np.asarray(shown, int)[6, 8, :3] - 128).max() <= 2


def test_no_view_tells_who_made_it(tmp_path):
    picture = Picture(pixels=np.full((12, 16, 3), 0.5, np.float32), exif=b"Exif\0\0a camera", xmp=b"<x:a camera/>")
    write_view(picture, tmp_path / "view", (8, 6))
    assert b"camera" not in (tmp_path / "view").read_bytes()


def test_colours_are_turned_into_those_of_the_screen():
    same = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.new("RGB", (4, 4), (100, 150, 200))
    assert in_srgb(image, same).getpixel((0, 0)) == pytest.approx((100, 150, 200), abs=2)
    assert in_srgb(image, None) is image
    for broken in (b"", b"no profile", same[:200], bytes(4000)):
        assert in_srgb(image, broken) is image
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert in_srgb(image, lab).getpixel((0, 0)) == (100, 150, 200)  # it is of no use for such pixels
