"""Files from anybody: names that are only text, and heads that promise what no machine could hold."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc
import zlib

import pytest
from PIL import Image

from moesaic.app.limits import MIB, Limits
from moesaic.app.uploads import as_chosen, clean_name, look_at
from moesaic.errors import PictureError
from tests.app.calls import png

LIMITS = Limits()


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("photo.jpg", "photo"),
        ("a/b\\c/d.png", "d"),
        ("..", "picture"),
        (".hidden", "hidden"),
        ("a.tar.gz", "a.tar"),
        ("name. with a long suffix", "name. with a long suffix"),
        ('a"b%c;d.png', 'a"b%c;d'),
        ("a\r\nSet-Cookie: b.png", "aSet-Cookie: b"),
        ("\u202egnp.exe\u2066", "gnp"),
        ("\ud800x.png", "x"),
        ("\0.png", "png"),
        ("e\u0301té.png", "e\u0301té"),
        ("写真.png", "写真"),
        ("👩‍👩‍👧.png", "👩👩👧"),  # the letters that join them are of those that are not seen
        ("x" * 5000, "x" * 100),
        (" " * 500, "picture"),
        ("x" * 99 + " y.png", "x" * 99),
    ],
)
def test_names(name, kept):
    assert clean_name(name, LIMITS) == kept
    assert clean_name(kept, LIMITS) in (kept, kept.rpartition(".")[0])  # it is a result's name later


def test_what_browsers_escape():
    assert as_chosen("a%22b%0D%0Ac%20.png") == 'a"b\r\nc%20.png'


def seen(tmp_path, data: bytes):
    (tmp_path / "input").write_bytes(data)
    tracemalloc.start()
    began = time.monotonic()
    try:
        return look_at(tmp_path / "input", LIMITS)
    finally:
        assert time.monotonic() - began < 5
        assert tracemalloc.get_traced_memory()[1] < 64 * MIB
        tracemalloc.stop()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, *more: bytes) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def tiff_of(width: int, height: int) -> bytes:
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8)]
    entries += [(277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, 10)]
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4)


def webp_of(width: int, height: int) -> bytes:
    canvas = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBP" + b"VP8X" + struct.pack("<I", 10) + canvas
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bmp_of(width: int, height: int) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + head


@pytest.mark.parametrize("make", [png_of, tiff_of, webp_of, bmp_of])
def test_pictures_that_would_burst(tmp_path, make):
    with pytest.raises(PictureError, match="megapixels, which are the most"):
        seen(tmp_path, make(16_000, 16_000))


def test_an_avif_file_that_would_burst(tmp_path):
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "AVIF")
    data = file.getvalue()
    assert data.count(struct.pack(">II", 64, 64)) >= 1
    with pytest.raises(PictureError):  # either its two sizes differ, or there are too many pixels
        seen(tmp_path, data.replace(struct.pack(">II", 64, 64), struct.pack(">II", 60_000, 60_000)))


@pytest.mark.parametrize("kind", [b"iTXt", b"zTXt", b"iCCP"])
def test_texts_and_profiles_that_would_burst(tmp_path, kind):
    bomb = zlib.compress(bytes(200 * MIB), 9)
    packed = b"XML:com.adobe.xmp\0\1\0\0\0" + bomb if kind == b"iTXt" else b"name\0\0" + bomb
    try:
        found = seen(tmp_path, png_of(40, 30, chunk(kind, packed)))
    except PictureError:
        return
    assert (found["width"], found["height"]) == (40, 30)


def test_an_exif_of_many_megabytes_and_one_in_a_ring(tmp_path):
    ring = b"II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHII", 0x8769, 4, 1, 8) + struct.pack("<I", 8)
    for exif in (ring, b"MM\0*" + struct.pack(">I", 8) + bytes(8 * MIB), b"II*\0" + bytes([255]) * MIB):
        try:
            assert seen(tmp_path, png_of(40, 30, chunk(b"eXIf", exif)))["width"] == 40
        except PictureError:
            continue


def test_a_tiff_whose_pages_are_a_ring(tmp_path):
    data = tiff_of(40, 30)
    assert seen(tmp_path, data[:-4] + struct.pack("<I", 8))["width"] == 40


@pytest.mark.parametrize(
    "front", [b"<html><script>", b"GIF89a", b"%PDF-1.7", b"PK\3\4", b"<svg xmlns=", b"#!/bin/sh\n"]
)
def test_other_files_are_no_pictures_whatever_follows(tmp_path, front):
    with pytest.raises(PictureError, match="no picture that can be read here"):
        seen(tmp_path, front + png())


def test_a_page_behind_a_picture_is_a_picture(tmp_path):
    """It is never sent back as it came, and no answer of the server is a page."""
    assert seen(tmp_path, png() + b"<script>alert(1)</script>")["kind"] == "picture"


@pytest.mark.parametrize("length", [4, 8, 16, 40, 100])
@pytest.mark.parametrize("fill", [0, 0x7F, 0xFF])
def test_mixtures_with_absurd_heads(tmp_path, length, fill):
    with pytest.raises(PictureError, match="damaged or not complete"):
        seen(tmp_path, b"\x89MOE\r\n\x1a\n"[:length] + bytes([fill]) * length)


def test_an_empty_file(tmp_path):
    with pytest.raises(PictureError, match="empty"):
        seen(tmp_path, b"")


def test_looking_at_a_file_decodes_nothing(tmp_path):
    path = tmp_path / "input"
    Image.new("1", (12_000, 10_000)).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(path)
    assert look_at(path, Limits()) == {
        "bytes": path.stat().st_size,
        "width": 12_000,
        "height": 10_000,
        "kind": "picture",
    }
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    Image.new("RGB", (20, 10)).save(tmp_path / "b.jpg", exif=exif)
    assert [look_at(tmp_path / "b.jpg", Limits())[side] for side in ("width", "height")] == [10, 20]
    with pytest.raises(PictureError, match="more than 100 megapixels"):
        look_at(path, Limits(pixels=100_000_000))


def test_names_are_never_empty():
    limits = Limits()
    for name in ("", ".", "..", "/", "\\", "\0", " . ", "\u200b", "a/"):
        assert clean_name(name, limits) == "picture"
    assert clean_name("a.tar.gz", limits) == "a.tar"
    assert clean_name("Dr. Who", limits) == "Dr"
