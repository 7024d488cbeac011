from __future__ import annotations

import pickle
import threading
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from moesaic.codec import Limits, decode, encode_mixture, save
from moesaic.codec.pillow import DamagedMoeError, register_moe_opener
from moesaic.errors import ArgumentError, FormatError, LimitError
from moesaic.picture import to_integers

ICC, EXIF = b"a profile", Image.Exif()
EXIF[0x010F] = "Zeiss"


@pytest.fixture(autouse=True)
def _registered():
    register_moe_opener()
    yield
    register_moe_opener()


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")])
def test_open_and_load(make_mixture, tmp_path, channels, mode):
    path = tmp_path / "a.moe"
    save(make_mixture(40, channels=channels), path, icc=ICC, exif=EXIF.tobytes(), xmp=b"<x/>", text={"note": "hi"})
    with Image.open(path) as image:
        assert (image.format, image.mode, image.size) == ("MOE", mode, (96, 64))
        assert (image.info["icc_profile"], image.info["xmp"], image.info["note"]) == (ICC, b"<x/>", "hi")
        assert image.getexif()[0x010F] == "Zeiss"
        pixels = np.asarray(image)
    expected = to_integers(decode(path))
    np.testing.assert_array_equal(pixels.reshape(expected.shape), expected)


def test_16_bit_grey(make_mixture, tmp_path):
    save(make_mixture(20, channels=1), tmp_path / "a.moe", depth=16)
    with Image.open(tmp_path / "a.moe") as image:
        assert image.mode == "I;16"
        assert len(np.unique(np.asarray(image))) > 256


def test_16_bit_colour_is_narrowed(make_mixture, tmp_path):
    save(make_mixture(20), tmp_path / "a.moe", depth=16)
    with Image.open(tmp_path / "a.moe") as image:
        assert image.mode == "RGB"
        assert np.asarray(image).dtype == np.uint8


def test_open_reads_the_header_only(make_mixture):
    data = encode_mixture(make_mixture(900))
    read: list[int] = []

    class Watched(BytesIO):
        def read(self, size=-1):
            found = super().read(size)
            read.append(len(found))
            return found

    image = Image.open(Watched(data))
    assert image.size == (96, 64)
    assert sum(read) < 100 < len(data)
    image.load()
    assert sum(read) > len(data)


def test_the_file_is_closed_after_loading(make_mixture, tmp_path):
    save(make_mixture(5), tmp_path / "a.moe")
    image = Image.open(tmp_path / "a.moe")
    image.load()
    (tmp_path / "a.moe").unlink()
    assert image.copy().size == (96, 64)
    assert pickle.loads(pickle.dumps(image)).tobytes() == image.tobytes()


def test_threads_may_load_at_once(make_mixture):
    data = encode_mixture(make_mixture(60))
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(Image.open(BytesIO(data)).tobytes())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1


class TestDamage:
    def test_in_the_header(self, make_mixture):
        data = bytearray(encode_mixture(make_mixture(5)))
        data[20] ^= 1
        with pytest.raises(DamagedMoeError, match="CRC"):
            Image.open(BytesIO(data))

    def test_in_the_kernels(self, make_mixture):
        data = bytearray(encode_mixture(make_mixture(50)))
        data[-10] ^= 1
        image = Image.open(BytesIO(data))
        with pytest.raises(OSError, match="CRC") as error:
            image.load()
        assert isinstance(error.value, FormatError)

    def test_a_truncated_file(self, make_mixture):
        image = Image.open(BytesIO(encode_mixture(make_mixture(50))[:-20]))
        with pytest.raises(DamagedMoeError, match="too early"):
            image.load()

    def test_other_files_are_left_to_others(self):
        stream = BytesIO()
        Image.new("RGB", (4, 4)).save(stream, "PNG")
        assert Image.open(stream).format == "PNG"


@pytest.mark.parametrize(("limits", "name"), [(Limits(kernels=4), "kernels"), (Limits(output_pixels=99), "output")])
def test_limits_hold(make_mixture, limits, name):
    data = encode_mixture(make_mixture(5))
    register_moe_opener(limits=limits)
    with pytest.raises(LimitError, match=name):
        Image.open(BytesIO(data))


class TestSave:
    @pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P"])
    def test_modes(self, photo, tmp_path, mode):
        image = Image.fromarray((photo[:32, :48] * 255).astype(np.uint8)).convert(mode)
        image.save(tmp_path / "a.moe", experts=60, steps=30)
        with Image.open(tmp_path / "a.moe") as back:
            assert back.mode == {"P": "RGB"}.get(mode, mode)
            a, b = (np.asarray(i.convert("RGB"), np.float64) for i in (image, back))
        assert np.abs(a - b).mean() < 20  # a dithered palette is hard to fit

    def test_metadata_travels(self, photo, tmp_path):
        image = Image.fromarray((photo[:16, :16] * 255).astype(np.uint8))
        image.info["icc_profile"] = b"from the image"
        image.save(tmp_path / "a.moe", experts=5, steps=5, exif=EXIF, xmp=b"<y/>")
        with Image.open(tmp_path / "a.moe") as back:
            assert back.info["icc_profile"] == b"from the image"
            assert back.getexif()[0x010F] == "Zeiss"
            assert back.info["xmp"] == b"<y/>"

    def test_metadata_can_be_left_out(self, photo, tmp_path):
        image = Image.fromarray((photo[:16, :16] * 255).astype(np.uint8))
        image.info["icc_profile"] = b"from the image"
        image.save(tmp_path / "a.moe", experts=5, steps=5, icc_profile=None)
        with Image.open(tmp_path / "a.moe") as back:
            assert "icc_profile" not in back.info

    def test_unknown_options_are_refused_and_nothing_stays(self, photo, tmp_path):
        image = Image.fromarray((photo[:16, :16] * 255).astype(np.uint8))
        with pytest.raises(ArgumentError, match="quality"):
            image.save(tmp_path / "a.moe", quality=90)
        assert not (tmp_path / "a.moe").exists()
