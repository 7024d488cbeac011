"""Runs over several inputs: exit codes, what is told of each, outputs that are there, and every way to end early."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys

import pytest

from moesaic.errors import ArgumentError
from moesaic.mixture.fitting import Progress

pytestmark = pytest.mark.usefixtures("encoder")


def test_one_input(moe, picture, tmp_path):
    ran = moe("encode", picture("photo.png"))
    assert (ran.code, ran.err) == (0, "")
    assert (tmp_path / "photo.moe").read_bytes() == b"stand-in"
    assert f"{tmp_path / 'photo.png'} -> {tmp_path / 'photo.moe'}: 7 experts, 30.50 dB" in ran.out


def test_json_is_one_object_for_each_input_and_nothing_else(moe, picture, tmp_path):
    picture("in/a.png")
    (tmp_path / "in/b.png").write_bytes(b"no picture")
    ran = moe("encode", "in", "-o", "out", "--json")
    assert ran.code == 1
    done, failed = ran.objects
    assert (done["verb"], done["status"], done["input"], done["output"]) == ("encode", "done", "in/a.png", "out/a.moe")
    assert (done["width"], done["height"], done["channels"], done["depth"]) == (32, 24, 3, 8)
    assert (done["experts"], done["bytes"], done["bpp"], done["psnr"], done["ssim"]) == (7, 8, 0.25, 30.5, 0.9)
    assert done["seconds"] > 0
    assert (failed["status"], failed["input"], failed["error"]) == ("failed", "in/b.png", "PictureError")
    assert ran.errors == [f"moesaic: {failed['message']}"]


def test_quiet_tells_only_errors(moe, picture, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    ran = moe("encode", picture("good.png"), "bad.png", "--quiet")
    assert (ran.code, ran.out) == (1, "")
    assert len(ran.errors) == 1


def test_nothing_done_is_code_2(moe, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    ran = moe("encode", "bad.png", "missing.png")
    assert ran.code == 2
    assert len(ran.errors) == 2
    assert ran.errors[1] == "moesaic: missing.png: there is no such file"


def test_a_folder_without_pictures_is_code_2(moe, tmp_path):
    (tmp_path / "in").mkdir()
    ran = moe("encode", "in")
    assert ran.code == 2
    assert ran.errors == ["moesaic: there is nothing to do: no input of the kind that this verb takes is in in"]


def test_a_named_output_that_is_there_fails_and_is_kept(moe, picture, tmp_path, encoder):
    (tmp_path / "photo.moe").write_bytes(b"precious")
    ran = moe("encode", picture("photo.png"))
    assert ran.code == 2
    assert "--force" in ran.err
    assert (tmp_path / "photo.moe").read_bytes() == b"precious"
    assert encoder.calls == []  # told before the work, not after it
    assert moe("encode", "photo.png", "--force").code == 0
    assert (tmp_path / "photo.moe").read_bytes() == b"stand-in"


def test_a_run_over_a_folder_does_what_is_missing(moe, picture, tmp_path, encoder):
    picture("in/a.png")
    picture("in/b.png")
    (tmp_path / "in/a.moe").write_bytes(b"precious")
    ran = moe("encode", "in", "--json")
    assert ran.code == 0
    assert [told["status"] for told in ran.objects] == ["kept", "done"]
    assert (tmp_path / "in/a.moe").read_bytes() == b"precious"
    assert len(encoder.calls) == 1


def test_folders_are_made_for_several_outputs_only(moe, picture, tmp_path):
    assert moe("encode", picture("a.png"), picture("b.png"), "-o", "new/deep").code == 0
    assert (tmp_path / "new/deep/a.moe").exists()
    ran = moe("encode", "a.png", "-o", "none/a.moe")
    assert ran.code == 2
    assert "there is no folder" in ran.err


def test_a_clash_stops_the_run_before_it_begins(moe, picture, encoder):
    ran = moe("encode", picture("a.png"), picture("a.jpg"), "-o", "out")
    assert ran.code == 2
    assert "would both become" in ran.err
    assert encoder.calls == []


@pytest.mark.parametrize("name", ["with space.png", "ünï→.png", "[red]x.png", "-dash.png"])
def test_names_of_all_kinds(moe, picture, tmp_path, name):
    picture(name)
    ran = moe("encode", "--", name)
    assert ran.code == 0
    assert name in ran.out
    assert (tmp_path / name).with_suffix(".moe").exists()


def test_a_line_end_in_a_name_leaves_one_line(moe):
    ran = moe("encode", "a\nb\x1b[31m.png")
    assert ran.code == 2
    assert len(ran.errors) == 1
    assert "\x1b" not in ran.err


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are Unicode there")
def test_a_name_that_is_no_text(tmp_path):
    name = os.fsencode(tmp_path) + b"/\xff.png"
    ran = subprocess.run([sys.executable, "-m", "moesaic", "encode", name, "--json"], capture_output=True, check=False)
    assert ran.returncode == 2
    assert json.loads(ran.stdout)["status"] == "failed"
    assert ran.stderr.count(b"\n") == 1


def _fail(error: BaseException, at: int = 1):
    def instead(number: int) -> None:
        if number == at:
            raise error

    return instead


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ArgumentError("psnr is too high"), "a.png: psnr is too high"),
        (OSError(errno.ENOSPC, "No space left on device", "a.moe"), "a.moe: No space left on device"),
        (PermissionError(errno.EACCES, "Permission denied"), "a.png: Permission denied"),
        (MemoryError(), "not enough memory"),
        (KeyError("x"), "this is a bug in moesaic: KeyError: 'x'; MOESAIC_DEBUG=1 shows where"),
    ],
)
def test_an_error_is_one_line_and_the_run_goes_on(moe, picture, tmp_path, encoder, error, says):
    encoder.instead = _fail(error)
    ran = moe("encode", picture("a.png"), picture("b.png"), "-o", "out")
    assert ran.code == 1
    assert len(ran.errors) == 1
    assert says in ran.errors[0]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.moe"]


def test_a_traceback_comes_when_asked_for(moe, picture, encoder, monkeypatch):
    encoder.instead = _fail(KeyError("x"))
    monkeypatch.setenv("MOESAIC_DEBUG", "1")
    assert "Traceback" in moe("encode", picture("a.png")).err


def test_ctrl_c_is_one_line_code_130_and_no_partial_file(moe, picture, tmp_path, encoder):
    encoder.instead = _fail(KeyboardInterrupt(), at=2)
    ran = moe("encode", picture("a.png"), picture("b.png"), picture("c.png"), "-o", "out")
    assert ran.code == 130
    assert ran.errors == ["moesaic: interrupted; no half-written file was left"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.moe"]


def test_a_reader_that_has_gone_ends_the_run_quietly(tmp_path):
    read, write = os.pipe()
    os.close(read)
    ran = subprocess.run(
        [sys.executable, "-m", "moesaic", "info", "missing.moe", "--json"],
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(write)
    assert ran.returncode == 141
    assert b"Traceback" not in ran.stderr
    assert b"Broken" not in ran.stderr


def test_options_reach_the_library(moe, picture, encoder):
    options = ["--experts", "50", "--seconds", "1.5", "--order", "1", "--seed", "3", "--metadata", "strip"]
    assert moe("encode", picture("a.png"), *options).code == 0
    (call,) = encoder.calls
    assert (call["experts"], call["seconds"], call["order"], call["seed"]) == (50, 1.5, 1, 3)
    assert (call["bpp"], call["psnr"], call["metadata"], call["force"]) == (None, None, "strip", False)


def test_the_pixel_limit_is_adjustable(moe, picture):
    ran = moe("encode", picture("a.png"), "--pixel-limit", "767")
    assert ran.code == 2
    assert "limit of 767 pixels" in ran.err
    assert moe("encode", "a.png", "--pixel-limit", "768").code == 0


def _news(step: int, *, steps: int | None = 4) -> Progress:
    return Progress(step=step, steps=steps, seconds=1.0 * step, seconds_left=90.0, psnr=28.125, experts=7)


class TestProgress:
    def test_plain_lines_are_occasional(self, moe, picture, encoder, monkeypatch):
        encoder.progress = [_news(step) for step in range(1, 5)]
        assert moe("encode", picture("a.png")).err == ""
        monkeypatch.setattr("moesaic.cli.report._PLAIN_EVERY", 0.0)
        encoder.progress = [_news(1), _news(30, steps=None)]
        ran = moe("encode", "a.png", "--force")
        assert ran.errors == [
            "moesaic: a.png: fit 25%, 28.12 dB, 1:30 left",
            "moesaic: a.png: fit 25%, 28.12 dB, 1:30 left",
        ]
        assert moe("encode", "a.png", "--force", "--quiet").err == ""

    def test_a_terminal_gets_a_bar_on_standard_error(self, moe, picture, encoder, monkeypatch):
        encoder.progress = [_news(step) for step in range(1, 5)]
        monkeypatch.setattr("sys.stderr.isatty", lambda: True)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "120")
        ran = moe("encode", picture("[bold]a.png"), "--json")
        assert ran.code == 0
        assert len(ran.objects) == 1
        assert "[bold]a.png" in ran.err
        assert "1:30 left" in ran.err
        assert "left" not in moe("encode", "[bold]a.png", "--force", "--quiet").err
