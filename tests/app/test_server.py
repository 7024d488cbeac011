"""The server's calls: what they answer, and each refusal as a sentence."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi")
pytest.importorskip("httpx")
from starlette.testclient import TestClient

import moesaic
from moesaic.app.kernels import MAGIC, size_of
from moesaic.app.limits import Limits
from moesaic.app.server import create_app
from tests.app.calls import WAIT, done, png, send

LIMITS = Limits(body_bytes=200_000, pixels=1_000_000, seconds=120)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    app = create_app(folder=tmp_path_factory.mktemp("server"), workers=1, limits=LIMITS)
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as made:
        yield made


@pytest.fixture(scope="module")
def encoded(client: TestClient) -> dict[str, Any]:
    job = done(client, send(client, png(), quality="quick"))
    assert job["state"] == "done", job
    return job


def test_a_picture_becomes_a_mixture(client, encoded):
    result = encoded["result"]
    assert (encoded["name"], result["name"]) == ("a", "a.moe")
    assert (result["width"], result["height"], result["mixture"]) == (32, 24, True)
    assert result["psnr"] > 10
    assert result["bpp"] == pytest.approx(8 * result["bytes"] / (32 * 24), abs=1e-3)
    assert encoded["expires"] > time.time()
    at = f"/api/jobs/{encoded['id']}"
    file = client.get(f"{at}/result")
    assert len(file.content) == result["bytes"]
    assert moesaic.decode(io.BytesIO(file.content)).width == 32
    assert file.headers["content-disposition"].startswith('attachment; filename="a.moe"')
    for view in ("before", "after"):
        assert Image.open(io.BytesIO(client.get(f"{at}/view/{view}").content)).size == (32, 24)
    kernels = client.get(f"{at}/kernels").content
    assert kernels.startswith(MAGIC)
    assert len(kernels) == size_of(result["figures"]["experts"], 3, 0)


def test_what_was_decided_is_drawn_a_little_later(client, encoded):
    def later(view: str) -> Any:
        end = time.monotonic() + WAIT
        while (answer := client.get(f"/api/jobs/{encoded['id']}/view/{view}")).status_code == 202:
            assert time.monotonic() < end
            time.sleep(0.1)
        assert answer.headers["x-content-type-options"] == "nosniff"
        return answer

    assert Image.open(io.BytesIO(later("explain").content)).width == 1200
    laid = later("overlay")
    assert laid.headers["content-type"] == "image/webp"
    shown = Image.open(io.BytesIO(laid.content))
    assert shown.width / shown.height == pytest.approx(32 / 24, rel=0.01)
    legend = later("legend")
    assert legend.headers["content-type"] == "application/json"
    assert "pieces" in legend.json()["told"]


def test_a_verb_without_a_map_has_none(client):
    job = done(client, send(client, png(), "denoise", noise="10"))
    assert job["result"]["views"] == ["before", "after"]
    for view in ("explain", "overlay", "legend"):
        assert client.get(f"/api/jobs/{job['id']}/view/{view}").status_code == 404


def test_a_tile_is_as_rendered(client, encoded):
    at = f"/api/jobs/{encoded['id']}"
    region = {"left": 4.5, "top": 3, "right": 20.5, "bottom": 15}
    tile = client.get(f"{at}/tile", params={**region, "width": 64, "height": 48})
    found = np.asarray(Image.open(io.BytesIO(tile.content)), int)
    file = io.BytesIO(client.get(f"{at}/result").content)
    wanted = moesaic.decode(file, region=tuple(region.values()), size=(64, 48))
    assert np.abs(found - np.rint(wanted.pixels * 255)).max() <= 1


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"left": 0}, 400),
        ({"left": "x"}, 400),
        ({"left": "nan"}, 422),
        ({"left": 9, "right": 3}, 422),
        ({"width": 10**6, "height": 10**6}, 422),
        ({"width": -5}, 422),
    ],
)
def test_wrong_tiles_are_refused(client, encoded, given, status):
    whole = (
        {"left": 0, "top": 0, "right": 9, "bottom": 9, "width": 9, "height": 9}
        if len(given) > 1 or given != {"left": 0}
        else {}
    )
    answer = client.get(f"/api/jobs/{encoded['id']}/tile", params={**whole, **given})
    assert answer.status_code == status
    assert answer.json()["error"].endswith(".")


def test_going_on_with_a_result(client, encoded):
    given = {"verb": "decode", "options": '{"scale": 2}', "from": json.dumps({"job": encoded["id"], "which": "result"})}
    job = done(client, client.post("/api/jobs", data=given))
    assert (job["result"]["name"], job["result"]["width"]) == ("a.x2.png", 64)
    assert client.get(f"/api/jobs/{job['id']}/kernels").status_code == 200
    for earlier in ({"job": "x" * 22, "which": "result"}, {"job": encoded["id"], "which": "../input"}, [], 3):
        answer = client.post("/api/jobs", data={"verb": "decode", "from": json.dumps(earlier)})
        assert answer.status_code in (400, 404)


def test_the_camera_is_told_only_where_that_is_asked_for(client):
    exif = Image.Exif()
    exif[0x0110] = "a camera's name"
    for verb, options in (("restore", {}), ("encode", {"quality": "quick"})):
        job = done(client, send(client, png(exif=exif), verb, **options))
        assert job["state"] == "done", job
        at = f"/api/jobs/{job['id']}/result"
        assert b"a camera's name" not in client.get(at).content
        assert b"a camera's name" in client.get(f"{at}?metadata=1").content


def test_two_ways_to_delete(client):
    job = send(client, png(), quality="best").json()
    assert client.delete(f"/api/jobs/{job['id']}").status_code == 204
    told = client.get(f"/api/jobs/{job['id']}").json()
    assert told["state"] == "cancelled"
    assert client.get(f"/api/jobs/{job['id']}/result").status_code == 404
    assert client.delete(f"/api/jobs/{job['id']}").status_code == 204
    for view in ("after", "explain", "overlay", "legend"):
        assert client.get(f"/api/jobs/{job['id']}/view/{view}").status_code == 410
    answer = client.get(f"/api/jobs/{job['id']}")
    assert answer.status_code == 410
    assert "Send it again" in answer.json()["error"]


@pytest.mark.parametrize("identity", ["x" * 22, "..", "%2e%2e%2fetc", "a" * 5000, "job.json", "é" * 22])
def test_unknown_ids(client, identity):
    for rest in ("", "/result", "/view/after", "/view/overlay", "/kernels", "/tile"):
        assert client.get(f"/api/jobs/{identity}{rest}").status_code == 404


def test_other_views_are_unknown(client, encoded):
    for which in ("input", "job.json", "..%2f..%2fjob.json", "kernels"):
        assert client.get(f"/api/jobs/{encoded['id']}/view/{which}").status_code == 404


@pytest.mark.parametrize(
    ("verb", "options", "part"),
    [
        ("nonsense", {}, "nothing called"),
        ("encode", {"scale": 3}, "no option"),
        ("encode", {"quality": 3}, "is one of"),
        ("encode", {"quality": ["good"]}, "is one of"),
        ("restore", {"strength": 1.5}, "from 0 to 1"),
        ("restore", {"strength": float("nan")}, "from 0 to 1"),
        ("restore", {"strength": True}, "from 0 to 1"),
        ("enlarge", {"scale": 1e300}, "from 1 to 8"),
        ("decode", {}, "does not take a picture"),
    ],
)
def test_wrong_options_are_refused(client, verb, options, part):
    answer = send(client, png(), verb, **options)
    assert answer.status_code == 422
    assert part in answer.json()["error"]


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"", "no picture in the request|empty"),
        (b"Dear Sir or Madam", "no picture that can be read"),
        (png()[:40], "damaged"),
        (b"\x89MOE\r\n\x1a\n" + bytes(30), "damaged"),
        (png((1200, 900)), "megapixel"),
    ],
)
def test_wrong_files_are_refused(client, data, part):
    answer = send(client, data[:190_000])
    assert answer.status_code in (400, 413, 415)
    assert any(one in answer.json()["error"] for one in part.split("|")), answer.text


def test_a_picture_that_breaks_off_fails_in_a_sentence(client):
    job = done(client, send(client, png((120, 90))[:9000], "restore"))
    assert job["state"] == "failed"
    assert "Traceback" not in job["error"]
    assert job["error"].endswith(".")


def test_bodies_have_bounds(client):
    assert send(client, bytes(LIMITS.body_bytes + 1)).status_code == 413

    def endless() -> Iterator[bytes]:
        head = b'--b\r\nContent-Disposition: form-data; name="picture"; filename="a"\r\n\r\n'
        yield head
        for _ in range(30):
            yield bytes(10_000)

    answer = client.post("/api/jobs", content=endless(), headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert answer.status_code == 413
    assert "Make it smaller" in answer.json()["error"]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"--b\r\nnonsense", "multipart/form-data; boundary=b"),
        (b"", "multipart/form-data"),
        (b"{}", "application/json"),
        (b"verb=encode", "application/x-www-form-urlencoded"),
    ],
)
def test_broken_requests(client, content, kind):
    answer = client.post("/api/jobs", content=content, headers={"Content-Type": kind})
    assert answer.status_code == 400
    assert answer.json()["error"].endswith(".")


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/passwd.png", "passwd"),
        ("C:\\pictures\\cat.jpg", "cat"),
        ("\u202egnp.exe", "gnp"),
        ("a" * 300 + ".png", "a" * 100),
        (".png", "png"),
        ("été\n.jpeg", "été"),
    ],
)
def test_names_are_only_text(client, name, kept):
    told = send(client, png(), quality="quick", name=name)
    assert told.status_code == 201
    assert told.json()["name"] == kept
    client.delete(f"/api/jobs/{told.json()['id']}")


def test_every_answer_has_its_headers_and_no_answer_a_traceback(client):
    for answer in (
        client.get("/"),
        client.get("/static/style.css"),
        client.get("/static/..%2fserver.py"),
        client.get("/nowhere"),
        client.post("/"),
        client.get("/api/about"),
        client.get("/", headers={"Host": "evil.example"}),
        client.get("/", headers={"Host": "[::1"}),
        client.post("/api/jobs", headers={"Origin": "http://["}),
        client.delete("/api/jobs/x", headers={"Sec-Fetch-Site": "cross-site"}),
    ):
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "Traceback" not in answer.text


def test_only_this_page_may_change_anything(client):
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 421
    assert client.get("/", headers={"Host": "192.168.1.5:8000"}).status_code == 200
    assert client.get("/", headers={"Host": "localhost"}).status_code == 200
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "same-site"}):
        answer = client.post("/api/jobs", data={"verb": "encode"}, files={"picture": ("a.png", png())}, headers=headers)
        assert answer.status_code == 403
    with TestClient(create_app(hosts=["pictures.example"]), base_url="https://pictures.example") as named:
        assert named.get("/").status_code == 200


def test_the_page_is_told_what_there_is(client):
    about = client.get("/api/about").json()
    assert about["version"] == moesaic.__version__
    assert [verb["name"] for verb in about["verbs"]][:3] == ["restore", "upscale", "encode"]
    for verb in about["verbs"]:
        for option in verb["options"]:
            assert option["kind"] in ("choice", "number", "integer", "flag")
            assert option["default"] is not None


@pytest.mark.parametrize("fields", [{"verb": "\ud800"}, {"options": "\udfff"}, {"options": "[" * 4000}])
def test_odd_fields(client, fields):
    parts = [("verb", "encode"), ("options", "{}"), *fields.items()]
    body = b"".join(
        b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
        % (name.encode(), text.encode("utf-8", "surrogatepass"))
        for name, text in parts
    )
    for charset in ("utf-8", "utf-7", "unicode_escape", "zlib", "undefined", "idna", "none"):
        kind = f"multipart/form-data; boundary=b; charset={charset}"
        answer = client.post("/api/jobs", content=body + b"--b--\r\n", headers={"Content-Type": kind})
        assert answer.status_code in (400, 422)
        assert answer.json()["error"].endswith(".")


def test_a_name_cannot_make_headers(client):
    name = 'a\r\nSet-Cookie: x=1\u2028\u202e";filename=b.exe'
    job = done(client, send(client, png(), quality="quick", name=name + ".png"))
    told = client.get(f"/api/jobs/{job['id']}/result").headers
    assert "set-cookie" not in told
    assert told["content-disposition"].startswith('attachment; filename="')
    assert told["content-disposition"].isascii()
    assert told["content-disposition"].count('"') == 2


def test_two_files_or_too_many_fields(client):
    files = [("picture", ("a.png", png())), ("picture", ("b.png", png()))]
    assert client.post("/api/jobs", data={"verb": "encode"}, files=files).status_code == 400
    many = {"verb": "encode", **{f"field{number}": "x" for number in range(50)}}
    assert client.post("/api/jobs", data=many, files={"picture": ("a.png", png())}).status_code == 400
    assert client.post("/api/jobs", data={"verb": "encode", "options": "x" * 5000}).status_code == 400
    for wrong in ({"verb": "encode", "picture": "text"}, {"verb": "encode", "options": "nonsense"}):
        assert client.post("/api/jobs", data=wrong).status_code == 400


def test_parts_of_files_are_not_given(client, encoded):
    for at in (f"/api/jobs/{encoded['id']}/result", "/static/style.css"):
        whole = client.get(at)
        assert int(whole.headers["content-length"]) == len(whole.content)
        answer = client.get(at, headers={"Range": "bytes=" + ",".join(f"{n}-{n}" for n in range(5000))})
        assert (answer.status_code, answer.content) == (200, whole.content)


def test_other_methods_are_refused(client, encoded):
    for method in ("PUT", "PATCH", "OPTIONS", "TRACE", "HEAD"):
        answer = client.request(method, f"/api/jobs/{encoded['id']}")
        assert answer.status_code == 405
