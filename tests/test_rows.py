"""Bands of rows against the whole picture: the same pixels, metadata, and refusals, whatever file it is."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin

from moesaic import png_rows, rows
from moesaic.errors import ArgumentError, LimitError, OutputExistsError, PictureError, ShapeError
from moesaic.image import read_picture, write_picture
from moesaic.picture import Frame, Picture
from moesaic.png16 import encode_png16
from moesaic.rows import open_rows, write_rows


@pytest.fixture(autouse=True)
def few_rows(monkeypatch):
    monkeypatch.setattr(png_rows, "_STEP", 7)
    monkeypatch.setattr(png_rows, "_READ", 50)


def noise(height=90, width=23, channels=3, kind=np.uint8, seed=0):
    top = np.iinfo(kind).max
    made = np.random.default_rng(seed).integers(0, top, (height, width, channels), kind, endpoint=True)
    return made[..., 0] if channels == 1 else made


def exif(orientation):
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    tags[ExifTags.Base.Make] = "maker"
    return tags.tobytes()


def saved(path, image, **options):
    image.save(path, **options)
    return path


def deep(path, pixels, **options):
    path.write_bytes(encode_png16(np.atleast_3d(pixels), **options))
    return path


def palette(path, **options):
    return saved(path, Image.fromarray(noise()).convert("P", palette=Image.Palette.ADAPTIVE), **options)


def late(path):
    """A PNG whose metadata stand behind the pixels."""
    info = PngImagePlugin.PngInfo()
    info.add(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x/>", after_idat=True)
    Image.fromarray(noise()).save(path, pnginfo=info)
    return path


FILES = {
    "rgb.png": lambda p: saved(p, Image.fromarray(noise())),
    "grey.png": lambda p: saved(p, Image.fromarray(noise(channels=1))),
    "alpha.png": lambda p: saved(p, Image.fromarray(noise(channels=4))),
    "grey_alpha.png": lambda p: saved(p, Image.fromarray(noise(channels=2))),
    "key.png": lambda p: saved(p, Image.fromarray(noise() // 128 * 255), transparency=(255, 0, 255)),
    "grey_key.png": lambda p: saved(p, Image.fromarray(noise(channels=1) // 64), transparency=2),
    "palette.png": palette,
    "palette_key.png": lambda p: palette(p, transparency=3),
    "one_bit.png": lambda p: saved(p, Image.fromarray(noise(channels=1)).convert("1")),
    "narrow.png": lambda p: saved(p, Image.fromarray(noise(width=1))),
    "one.png": lambda p: saved(p, Image.fromarray(noise(1, 1))),
    "late.png": late,
    "turned.png": lambda p: saved(p, Image.fromarray(noise()), exif=exif(6)),
    "told.png": lambda p: saved(p, Image.fromarray(noise()), exif=exif(1), icc_profile=b"no profile at all"),
    "deep.png": lambda p: deep(p, noise(kind=np.uint16)),
    "deep_grey.png": lambda p: deep(p, noise(channels=1, kind=np.uint16), exif=exif(1), xmp=b"<x/>"),
    "deep_alpha.png": lambda p: deep(p, noise(channels=4, kind=np.uint16)),
    "deep_turned.png": lambda p: deep(p, noise(kind=np.uint16), exif=exif(8)),
    "photo.jpg": lambda p: saved(p, Image.fromarray(noise()), exif=exif(7)),
    "cmyk.jpg": lambda p: saved(p, Image.fromarray(noise(channels=4), "CMYK")),
    "photo.webp": lambda p: saved(p, Image.fromarray(noise(channels=4)), lossless=True),
    "scan.tif": lambda p: saved(p, Image.fromarray(noise(channels=1, kind=np.uint16))),
    "scan.bmp": lambda p: saved(p, Image.fromarray(noise())),
}
PLAIN = {
    "rgb",
    "grey",
    "alpha",
    "grey_alpha",
    "key",
    "grey_key",
    "narrow",
    "one",
    "late",
    "told",
    "turned",
    "deep_turned",
    "deep",
    "deep_grey",
    "deep_alpha",
}


@pytest.mark.filterwarnings("ignore:'mode' parameter:DeprecationWarning")
@pytest.mark.parametrize("name", FILES)
def test_bands_are_those_of_the_whole_picture(name, tmp_path):
    path = FILES[name](tmp_path / name)
    whole = read_picture(path)
    with open_rows(path) as source:
        assert source.frame == Frame.of(whole)
        tall, wide = source.frame.height, source.frame.width
        for top in range(0, tall, 10):
            bottom = min(tall, top + 25)
            assert np.array_equal(source.band(top, bottom), whole.pixels[top:bottom])
            assert np.array_equal(
                source.band(max(0, top - 5), bottom, wide // 3, wide // 2 + 1),
                whole.pixels[max(0, top - 5) : bottom, wide // 3 : wide // 2 + 1],
            )
        assert np.array_equal(source.band(0, tall), whole.pixels)  # far above: read anew
    with path.open("rb") as file:
        assert (png_rows.read_head(file) is not None) == (path.stem in PLAIN and path.suffix == ".png")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_every_orientation(orientation, name, tmp_path):
    path = saved(tmp_path / name, Image.fromarray(noise(20, 31)), exif=exif(orientation))
    whole = read_picture(path)
    with open_rows(path) as source:
        for top in range(0, source.frame.height, 6):
            found = source.band(top, min(top + 6, source.frame.height), 2, 11)
            assert np.array_equal(found, whole.pixels[top : top + 6, 2:11])


def interlaced(pixels):
    """A PNG whose passes are written by the book, without filters."""
    height, width, channels = pixels.shape
    raw = b""
    for x, y, dx, dy in (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ):
        part = pixels[y::dy, x::dx]
        raw += b"".join(b"\0" + row.tobytes() for row in part) if part.size else b""
    head = png_rows.head_chunks(width, height, channels, 8)
    data = bytearray(head)
    data[28] = 1
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data) + png_rows.chunk(b"IDAT", zlib.compress(raw)) + png_rows.chunk(b"IEND", b"")


def test_interlaced_files_are_decoded_as_a_whole(tmp_path):
    pixels = noise()
    path = tmp_path / "a.png"
    path.write_bytes(interlaced(pixels))
    with open_rows(path) as source:
        assert np.array_equal(source.band(10, 50), pixels[10:50] / np.float32(255))


def damaged(data, place):
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


def test_truncated_files_are_told_before_the_work(tmp_path):
    path = saved(tmp_path / "a.png", Image.fromarray(noise()))
    data = path.read_bytes()
    for length in (0, 20, 33, 60, len(data) // 2):
        path.write_bytes(data[:length])
        with pytest.raises(PictureError, match=r"a\.png"), open_rows(path):
            pass


@pytest.mark.parametrize("depth", [8, 16])
def test_damage_within_the_pixels_is_told_when_they_are_asked_for(depth, tmp_path):
    path = tmp_path / "a.png"
    write_picture(Picture(pixels=noise().astype(np.float32) / 255, depth=depth), path)
    data = path.read_bytes()
    begin = data.index(b"IDAT")
    for place in (begin + 4 + 900, begin + 5, len(data) - 16):  # in the stream, at its head, in the last checksum
        path.write_bytes(damaged(data, place))
        with open_rows(path) as source, pytest.raises(PictureError, match="damaged PNG"):
            source.band(0, 90)


def test_too_few_rows_are_damage_and_too_many_are_not(tmp_path):
    path, pixels = tmp_path / "a.png", noise()
    raw = b"".join(b"\0" + row.tobytes() for row in pixels)
    end = png_rows.chunk(b"IEND", b"")
    for more, right in ((raw[:-5], False), (raw, True), (raw + bytes(1000), True)):
        idat = png_rows.chunk(b"IDAT", zlib.compress(more))
        path.write_bytes(png_rows.head_chunks(23, 90, 3, 8) + idat + png_rows.chunk(b"IDAT", b"") + end)
        with open_rows(path) as source:
            if right:
                assert np.array_equal(source.band(0, 90), pixels / np.float32(255))
            else:
                with pytest.raises(PictureError, match="rows are missing"):
                    source.band(0, 90)
    raw = b"\7" + raw[1:]
    path.write_bytes(png_rows.head_chunks(23, 90, 3, 8) + png_rows.chunk(b"IDAT", zlib.compress(raw)) + end)
    with open_rows(path) as source, pytest.raises(PictureError, match="row filter"):
        source.band(0, 90)


def test_what_cannot_be_read_is_refused_as_the_whole_would_be(tmp_path):
    missing, wrong = tmp_path / "a.png", tmp_path / "b.png"
    wrong.write_bytes(b"no picture at all")
    path = saved(tmp_path / "c.png", Image.fromarray(noise()))
    for place, kind in ((missing, PictureError), (wrong, PictureError), (tmp_path, PictureError)):
        with pytest.raises(kind), open_rows(place):
            pass
        assert not rows.is_large(place)
    with pytest.raises(LimitError), open_rows(path, pixel_limit=100):
        pass


def test_errors_of_the_work_go_on_as_they_are(tmp_path):
    path = saved(tmp_path / "c.png", Image.fromarray(noise()))
    with pytest.raises(RuntimeError, match="own"), open_rows(path):
        raise RuntimeError("own")


def test_what_is_large(tmp_path, monkeypatch):
    path = saved(tmp_path / "c.png", Image.fromarray(noise()))
    assert not rows.is_large(path)
    assert rows.is_large(path, times=2**24)
    assert not rows.is_large(path, times=2**24, pixel_limit=100)
    monkeypatch.setattr(rows, "LARGE", 23 * 90 - 1)
    assert rows.is_large(path)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif", "a.bmp"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("metadata", ["keep", "strip"])
def test_what_is_written_in_bands_is_what_is_written_as_a_whole(name, channels, depth, metadata, tmp_path):
    pixels = np.random.default_rng(1).random((40, 17, channels), np.float32)
    picture = Picture(pixels=pixels, depth=depth, exif=exif(1), xmp=b"<x/>", icc=None)
    try:
        write_picture(picture, tmp_path / f"whole_{name}", metadata=metadata)
    except PictureError:
        with pytest.raises(PictureError), write_rows(tmp_path / name, Frame.of(picture)):
            pass
        assert not list(tmp_path.iterdir())
        return
    with write_rows(tmp_path / name, Frame.of(picture), metadata=metadata) as write:
        for top in (0, 1, 2, 20):
            write(pixels[top : {0: 1, 1: 2, 2: 20, 20: 40}[top]])
    whole, found = read_picture(tmp_path / f"whole_{name}"), read_picture(tmp_path / name)
    assert Frame.of(found) == Frame.of(whole)
    assert np.array_equal(found.pixels, whole.pixels)
    assert len(list(tmp_path.iterdir())) == 2


def copy(place, frame, bands):
    with write_rows(place, frame) as write:
        for band in bands:
            write(band)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_nothing_is_left_of_a_picture_that_is_not_whole(name, tmp_path):
    frame = Frame(width=4, height=5, channels=3)
    band = np.zeros((2, 4, 3), np.float32)

    def fails(kind, bands, place=tmp_path / name):
        with pytest.raises(kind):
            copy(place, frame, bands)

    fails(ShapeError, [band])
    fails(ShapeError, [band] * 3)
    fails(ShapeError, [band[:, :3]])
    fails(TypeError, [band, None])  # whatever the work raises
    fails(ArgumentError, [band, band, band[:1]], tmp_path / "none" / name)
    assert not list(tmp_path.iterdir())


def test_an_output_that_is_there_is_kept(tmp_path):
    frame = Frame(width=4, height=1, channels=3)
    for name in ("a.png", "a.bmp"):
        (tmp_path / name).write_bytes(b"mine")
        with pytest.raises(OutputExistsError), write_rows(tmp_path / name, frame) as write:
            write(np.zeros((1, 4, 3), np.float32))
        assert (tmp_path / name).read_bytes() == b"mine"
        with write_rows(tmp_path / name, frame, force=True) as write:
            write(np.zeros((1, 4, 3), np.float32))
        assert read_picture(tmp_path / name).width == 4


COPY = """
import sys
from pathlib import Path
from moesaic.rows import open_rows, write_rows
with open_rows(sys.argv[1]) as source, write_rows(sys.argv[2], source.frame) as write:
    for top in range(0, source.frame.height, 64):
        write(source.band(top, min(top + 64, source.frame.height)))
status = Path("/proc/self/status").read_text().splitlines()
print(next(line for line in status if line.startswith("VmHWM")).split()[1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell a process's peak")
def test_memory_does_not_grow_with_the_height(tmp_path):
    peaks = []
    for height in (1000, 9000):
        path = tmp_path / f"{height}.png"
        Image.linear_gradient("L").resize((2000, height)).convert("RGB").save(path, compress_level=1)
        ran = subprocess.run(
            [sys.executable, "-c", COPY, path, tmp_path / f"{height}.copy.png"], check=True, capture_output=True
        )
        peaks.append(int(ran.stdout) / 1024)
    assert np.array_equal(read_picture(path).pixels, read_picture(tmp_path / "9000.copy.png").pixels)
    assert peaks[1] - peaks[0] < 12, peaks  # MiB; the pixels are 46 MiB more


def test_a_band_needs_no_file_object():
    assert png_rows.read_head(io.BytesIO(b"")) is None
