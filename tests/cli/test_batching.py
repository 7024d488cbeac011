"""`moesaic batch`: verbs as they are, on a folder, from worker processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from moesaic.cli import batch_news
from moesaic.cli.batch_news import BatchNews
from moesaic.image import read_picture

NOISE = ("--kind", "noise", "--severity", "0.5")


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith("moesaic-batch")
    }


@pytest.fixture
def one_thread():
    """Matrix products as in a worker."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def pictures(picture, tmp_path) -> Path:
    for number, name in enumerate(("a.png", "b b.jpg", "deep/c.png", "deep/deeper/ü.png")):
        picture(f"in/{name}", seed=number)
    return tmp_path / "in"


@pytest.mark.parametrize(
    ("verb", "options", "output"),
    [
        ("encode", ["--experts", "30"], "deep/p.moe"),
        ("denoise", ["--models", "1", "--sigma", "20"], "deep/p.denoised.png"),
        ("enlarge", ["--fits", "1", "--scale", "2", "--format", "bmp"], "deep/p.x2.bmp"),
        ("restore", ["--explain"], "deep/p.restored.png"),
        ("upscale", ["--scale", "2"], "deep/p.upscaled.x2.png"),
        ("segment", ["--labels"], "deep/p.labels.png"),
        ("degrade", [*NOISE, "--metadata", "strip"], "deep/p.noise.png"),
    ],
)
def test_every_verb_makes_what_it_makes_by_itself(moe, picture, tmp_path, one_thread, verb, options, output):
    picture("in/deep/p.png")
    ran = moe("batch", verb, "in", "-o", "out", "--recursive", "--workers", "1", "--json", *options)
    assert ran.code == 0, ran.err
    (told,) = ran.objects
    assert (told["verb"], told["status"], told["input"]) == (verb, "done", "in/deep/p.png")
    assert told["output"] == f"out/{output}"
    assert moe(verb, "in", "-o", "alone", "--recursive", *options).code == 0
    assert files(tmp_path / "out") == files(tmp_path / "alone")
    if verb == "restore":
        assert told["explained"] == "out/deep/p.explained.png"


def test_there_and_back_with_any_number_of_workers_and_shards(moe, pictures, tmp_path):
    encode = ("batch", "encode", "in", "--recursive", "--experts", "20")
    assert moe(*encode, "-o", "one", "--workers", "1").code == 0
    assert moe(*encode, "-o", "two", "--workers", "2").code == 0
    assert moe(*encode, "-o", "three", "--shard", "2/2").code == 0
    assert moe(*encode, "-o", "three", "--shard", "1/2").code == 0
    assert files(tmp_path / "one") == files(tmp_path / "two") == files(tmp_path / "three")
    assert set(files(tmp_path / "one")) == {"a.moe", "b b.moe", "deep/c.moe", "deep/deeper/ü.moe"}
    assert moe("batch", "decode", "one", "-o", "back", "-r", "--scale", "2", "--workers", "1").code == 0
    assert read_picture(tmp_path / "back/deep/c.x2.png").width == 64


@pytest.mark.filterwarnings("ignore")  # Ray's own
@pytest.mark.skipif(sys.platform == "win32", reason="Ray is in trial there")
def test_a_cluster_makes_what_one_machine_makes(moe, pictures, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "local")
    (pictures / "bad.png").write_bytes(b"no picture")
    command = ("batch", "restore", "--recursive", "--workers", "2", "--json")
    near = moe(*command, "in", "-o", "near")
    far = moe(*command, f"local://{pictures.as_posix()}", "-o", f"local://{(tmp_path / 'far').as_posix()}")
    ray = moe(*command, "in", "-o", "ray", "--engine", "ray")
    assert near.code == far.code == ray.code == 1, (near.err, far.err, ray.err)
    assert files(tmp_path / "near") == files(tmp_path / "far") == files(tmp_path / "ray")
    assert len(files(tmp_path / "near")) == 4
    assert {one["output"] for one in far.objects} >= {f"local://{tmp_path.as_posix()}/far/a.restored.png"}
    assert any(f"local://{pictures.as_posix()}/bad.png" in line for line in far.errors)


class TestRuns:
    def test_some_fail_then_none(self, moe, pictures, picture):
        (pictures / "deep/c.png").write_bytes(b"no picture")
        command = ("batch", "degrade", "in", "-o", "out", "-r", *NOISE, "--workers", "2", "--json")
        ran = moe(*command)
        assert ran.code == 1
        assert sorted(one["status"] for one in ran.objects) == ["done", "done", "done", "failed"]
        (failed,) = (one for one in ran.objects if one["status"] == "failed")
        assert (failed["input"], failed["error"]) == ("in/deep/c.png", "PictureError")
        assert ran.errors[0] == f"moesaic: {failed['message']}"
        assert ran.errors[-1].endswith("3 done, 0 kept, 1 failed; out/moesaic-batch.jsonl says how each went")
        picture("in/deep/c.png")
        ran = moe(*command)
        assert ran.code == 0
        assert sorted(one["status"] for one in ran.objects) == ["done", "kept", "kept", "kept"]

    def test_all_fail(self, moe, tmp_path):
        (tmp_path / "in").mkdir()
        (tmp_path / "in/a.png").write_bytes(b"no picture")
        ran = moe("batch", "degrade", "in", "-o", "out", *NOISE, "--workers", "1", "--quiet")
        assert (ran.code, ran.out, len(ran.errors)) == (2, "", 1)

    def test_nothing_to_do(self, moe, pictures, tmp_path):
        (tmp_path / "empty").mkdir()
        ran = moe("batch", "degrade", "empty", "-o", "out", *NOISE)
        assert ran.code == 2
        assert "there is nothing to do" in ran.err
        ran = moe("batch", "encode", str(pictures / "deep/deeper/.."), "-o", "out", "--shard", "1/500")
        assert ran.code == 0  # an array of jobs may have more of them than files
        (pictures / "a.png").unlink()
        (pictures / "b b.jpg").unlink()
        ran = moe("batch", "degrade", "in", "-o", "out", *NOISE)
        assert ran.code == 2
        assert "--recursive looks into them" in ran.err

    def test_people_get_a_line_for_what_was_done_and_the_quiet_get_none(self, moe, pictures):
        command = ("batch", "degrade", "in", "-o", "out", *NOISE, "--workers", "1")
        ran = moe(*command)
        assert ran.code == 0
        assert ran.out.splitlines()[0].startswith("in/a.png -> out/a.noise.png: noise (")
        ran = moe(*command)
        assert (ran.code, ran.out) == (0, "")
        assert ran.errors == ["moesaic: 0 done, 2 kept, 0 failed; out/moesaic-batch.jsonl says how each went"]
        ran = moe(*command, "--quiet")
        assert (ran.code, ran.out, ran.err) == (0, "", "")

    def test_other_options_are_refused_unless_forced(self, moe, pictures, tmp_path):
        command = ("batch", "degrade", "in", "-o", "out", "--workers", "1", "--kind", "noise")
        assert moe(*command).code == 0
        before = files(tmp_path / "out")
        ran = moe(*command, "--seed", "1")
        assert ran.code == 2
        assert len(ran.errors) == 1
        assert "out holds a batch with another seed: 0 there, 1 now;" in ran.err
        assert "--force" in ran.err
        assert files(tmp_path / "out") == before
        assert moe(*command, "--seed", "1", "--force").code == 0
        assert files(tmp_path / "out") != before
        assert moe(*command, "--seed=1").code == 0  # the same, however it is written

    def test_a_file_that_an_option_names_is_part_of_the_options(self, moe, pictures, tmp_path):
        ran = moe("degrade", "in/a.png", "-o", "one.png", *NOISE, "--json")
        (tmp_path / "params.json").write_text(ran.out)
        command = ("batch", "degrade", "in", "-o", "out", "--workers", "1", "--params", "params.json")
        assert moe(*command).code == 0
        (tmp_path / "params.json").write_text(ran.out + " ")
        ran = moe(*command)
        assert ran.code == 2
        assert "another params" in ran.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["encode", "in"], "Missing option '--output'"),
        (["encode", "-o", "out"], "Missing argument 'INPUT'"),
        (["encode", "in", "-o", ""], "empty name"),
        (["encode", "in", "-o", "out", "--bpp", "1", "--psnr", "30"], "exclude each other"),
        (["encode", "in", "-o", "out", "--experts", "0"], "'--experts'"),
        (["encode", "in", "-o", "out", "--nonsense"], "--nonsense"),
        (["encode", "in", "-o", "out", "--workers", "0"], "'--workers'"),
        (["encode", "in", "-o", "out", "--shard", "3/2"], "is no shard"),
        (["encode", "in/a.png", "-o", "out"], "is no folder"),
        (["encode", "in", "-o", "in/a.png"], "cannot make in/a.png: it is a file"),
        (["degrade", "in", "-o", "out", "--kind", "fog"], "did you mean haze"),
        (["enlarge", "in", "-o", "out", "--format", "gif"], "gif"),
        (["restore", "in", "-o", "out", "--model", "nothing"], "nothing"),
        (["info", "in", "-o", "out"], "info"),
        (["encode", "in", "-o", "out", "--engine", "spark"], "'--engine'"),
        (["encode", "s3://", "-o", "out"], "names no folder"),
        (["encode", "s3:/bucket/photos", "-o", "out"], "two slashes, as in s3://bucket/photos"),
        (["encode", "s3//bucket", "-o", "out"], "two slashes, as in s3://bucket"),
        (["encode", "none/here", "-o", "out"], "none/here is no folder; a batch works on all files of one"),
        (["encode", "nonsense://photos/here", "-o", "out"], "Protocol not known"),
        (["encode", "memory://none", "-o", "out"], "there is nothing to do"),
    ],
)
def test_wrong_options_are_refused_before_any_work(moe, pictures, tmp_path, arguments, says):
    ran = moe("batch", *arguments)
    assert (ran.code, ran.out, len(ran.errors)) == (2, "", 1)
    assert says in ran.errors[0]
    assert not (tmp_path / "out").exists()


def test_help_names_the_options_of_both(moe):
    told = re.sub(r"\x1b\[[\d;]*m", "", moe("batch", "encode", "--help").out)
    for option in ("INPUT", "--output", "--bpp", "--shard", "--workers", "--recursive", "--force", "--json"):
        assert option in told
    told = moe("batch", "--help").out
    for verb in ("encode", "decode", "denoise", "enlarge", "restore", "upscale", "segment", "degrade"):
        assert verb in told


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ there")
def test_ctrl_c_is_one_line_and_code_130(picture, tmp_path):
    for name in "abc":
        picture(f"in/{name}.png", size=(320, 240))
    command = [sys.executable, "-m", "moesaic", "batch", "encode", "in", "-o", "out", "--workers", "2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(
        [*command, "--seconds", "60", "--experts", "500"],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    ) as process:
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("out/.moesaic-batch/*-*"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
        assert process.wait(timeout=30) == 130
        assert process.stderr.read() == "moesaic: interrupted; no half-written file was left\n"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["moesaic-batch.jsonl"]
    assert json.loads((tmp_path / "out/moesaic-batch.jsonl").read_text())["options"]["experts"] == 500


class TestNews:
    def test_plain_lines_tell_how_many_and_how_long(self, capsys, monkeypatch):
        monkeypatch.setattr(batch_news, "PLAIN_EVERY", 0.0)
        with BatchNews(4, quiet=False) as news:
            news.through(worked=False, failed=False)
            news.through(worked=True, failed=True)
        first, second = capsys.readouterr().err.splitlines()
        assert first == "moesaic: 1 of 4 files"
        assert re.fullmatch(r"moesaic: 2 of 4 files, 1 failed, \d+:\d\d left", second)
        with BatchNews(4, quiet=True) as news:
            news.through(worked=True, failed=False)
        assert capsys.readouterr().err == ""

    def test_a_terminal_gets_a_live_line(self, capsys, monkeypatch):
        monkeypatch.setattr("sys.stderr.isatty", lambda: True)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "120")
        with BatchNews(4, quiet=False) as news:
            news.through(worked=True, failed=False)
            with news.aside():
                sys.stdout.write("a line\n")
        told = capsys.readouterr()
        assert told.out == "a line\n"
        assert "1 of 4 files" in told.err
