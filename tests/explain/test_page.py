"""Pages: well-formed, whole, and with the kernels that they tell of."""

from __future__ import annotations

import base64
import json
import re
import zlib
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from moesaic.codec import decode_bytes, encode_mixture
from moesaic.codec.spent import spent
from moesaic.explain.explained import Explained
from moesaic.explain.mixture import explain_mixture
from moesaic.picture import Picture

VOID = ("meta", "img")


class Reader(HTMLParser):
    """Checks that elements nest, and collects addresses and scripts."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.texts: dict[str, str] = {}
        self.title, self.names = "", []

    def handle_starttag(self, tag, attrs):
        held = dict(attrs)
        self.names.append(held.get("id") or "")
        self.addresses += [value for name, value in attrs if name in ("src", "href", "action", "data", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.texts[self.names[-1]] = data
        if self.open and self.open[-1] == "title":
            self.title += data


def read(text):
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def found(make_mixture):
    data = encode_mixture(make_mixture(700, width=90, height=60))
    return explain_mixture(decode_bytes(data), spent(data), name='<b>&"$x".moe')


def test_a_page_is_well_formed_and_needs_nothing_else(found):
    text = found.page()
    reader = read(text)
    assert text.startswith("<!DOCTYPE html>")
    assert reader.title == '<b>&"$x".moe: mixture'
    assert len(reader.addresses) == 2
    assert all(address.startswith("data:image/") for address in reader.addresses)
    written = re.sub(r"[A-Za-z0-9+/=]{200,}", "", text)  # without what is held as base64
    assert not re.search(r"https?:|//[a-z]|@import|url\(", written)
    assert "prefers-color-scheme: dark" in text


def test_names_within_a_page_are_there_once(found):
    reader = read(found.page())
    names = [name for name in reader.names if name]
    assert len(names) == len(set(names))
    script = next(text for text in reader.texts.values() if "use strict" in text)
    for name in set(re.findall(r'find\("(\w+)"\)', script)) | {"own", "table", "ellipse", "halo"}:
        assert name in names


def test_the_kernels_of_a_page(found):
    texts = read(found.page()).texts
    facts = json.loads(texts["facts"])
    assert (facts["width"], facts["height"], facts["kernels"], facts["layers"]) == (90, 60, 700, 3)
    own = np.frombuffer(zlib.decompress(base64.b64decode(texts["own"])), "<u2").reshape(60, 90)
    np.testing.assert_array_equal(own, found.hover.own)
    table = np.frombuffer(zlib.decompress(base64.b64decode(texts["table"])), "<f4").reshape(12, 700)
    mixture = found.hover.mixture
    np.testing.assert_allclose(table[:2].T, mixture.centres.numpy(), rtol=1e-6)
    np.testing.assert_allclose(table[2:5].T, mixture.factors.numpy(), rtol=1e-6)
    np.testing.assert_allclose(table[5], mixture.log_priors.numpy(), rtol=1e-6)
    assert table[6].sum() == pytest.approx(1, abs=1e-4)
    assert table[7].sum() == pytest.approx(found.hover.bits.sum(), rel=1e-4)
    assert set(table[8]) == {1, 2, 3}
    assert ((table[9:] >= 0) & (table[9:] <= 255)).all()


def test_pictures_in_a_page(found):
    sizes = []
    for address in read(found.page()).addresses:
        with Image.open(BytesIO(base64.b64decode(address.partition(",")[2]))) as image:
            sizes.append(image.size)
    assert sizes == [(90, 60), (1200, found.picture.height)]


def test_a_page_without_a_mixture():
    sheet = Picture(pixels=np.ones((5, 1200, 3), np.float32))
    reader = read(Explained(kind="restoration", title="a.png", picture=sheet, figures={}).page())
    assert reader.texts == {}
    assert len(reader.addresses) == 1


def test_more_kernels_than_16_bits_hold(make_mixture):
    data = encode_mixture(make_mixture(70_000, width=60, height=40))
    texts = read(explain_mixture(decode_bytes(data), spent(data)).page()).texts
    assert json.loads(texts["facts"])["wide"]
    assert len(zlib.decompress(base64.b64decode(texts["own"]))) == 4 * 60 * 40
