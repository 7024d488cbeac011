"""Folders that fsspec reaches: whole files only, errors in one line, and runs that are killed and go on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from moesaic.batch import RemoteFolder, Shard, folder_of, make_plan, run
from moesaic.batch import remote_outputs as outputs
from moesaic.batch.carrying import Assignment, Carrying
from moesaic.batch.manifest import parse
from moesaic.errors import ArgumentError, MissingExtraError, OutputExistsError, PictureError
from tests.batch.work import Reversing, files, planned

fsspec = pytest.importorskip("fsspec")
ROOT = Path(__file__).parents[2]
SETTINGS = {"verb": "reverse"}
unix = pytest.mark.skipif(sys.platform == "win32", reason="signals differ there")


@pytest.fixture
def folder(tmp_path) -> RemoteFolder:
    """In memory, where a file appears when all of it is there."""
    url = f"memory://{tmp_path.name}/pictures"
    yield folder_of(url)
    fsspec.filesystem("memory").rm(f"/{tmp_path.name}", recursive=True)


@pytest.fixture
def local(tmp_path) -> str:
    """The URL of a folder on the disk, which processes share; its file system is no object store."""
    return f"local://{tmp_path.as_posix()}"


@pytest.fixture
def tree(tmp_path) -> Path:
    for name in ("a", "deep/b", "deep/deeper/c ü", ".hidden/d"):
        path = tmp_path / "in" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"text of {name}")
    return tmp_path / "in"


def go(source: str, out: str, prepare=None, *, shard=None, recursive=True, settings=SETTINGS, workers=2, **options):
    """Run, and return what became of each task."""
    told = []
    plan = make_plan(
        folder_of(source),
        folder_of(out),
        name=lambda path: f"{path.stem}.rev",
        accepts=lambda path: path.suffix == ".txt",
        recursive=recursive,
        shard=shard,
    )
    run(plan, prepare or Reversing(), settings=settings, workers=workers, tell=told.append, **options)
    return {one.task.path: one for one in told}


def statuses(told) -> dict[str, str]:
    return {path: one.status for path, one in told.items()}


@unix
def test_paths_and_urls():
    assert folder_of("in/photos") == Path("in/photos")
    assert folder_of("/data") == Path("/data")
    assert folder_of("file:///data/my%20photos") == Path("/data/my photos")
    assert folder_of("s3://bucket/photos/") == RemoteFolder("s3://bucket/photos")
    assert folder_of("simplecache::s3://bucket/photos") == RemoteFolder("simplecache::s3://bucket/photos")
    assert folder_of("C:/photos") == Path("C:/photos")
    with pytest.raises(ArgumentError, match="names no folder"):
        folder_of("s3://")


class TestFolder:
    def test_there_and_back(self, folder, tmp_path):
        (tmp_path / "one").write_bytes(b"first")
        folder.put(tmp_path / "one", "deep/one.txt")
        folder.write("two.txt", b"second")
        assert {path: stamp[0] for path, stamp in folder.files(recursive=True).items()} == {
            "deep/one.txt": 5,
            "two.txt": 6,
        }
        assert all(isinstance(stamp[1], int) for stamp in folder.files(recursive=True).values())
        assert list(folder.files(recursive=False)) == ["two.txt"]
        assert (folder.has("two.txt"), folder.has("deep"), folder.has("three.txt")) == (True, True, False)
        assert folder.read("two.txt") == b"second"
        folder.fetch("deep/one.txt", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == b"first"
        folder.remove("two.txt")
        folder.remove("two.txt")
        assert list(folder.files(recursive=True)) == ["deep/one.txt"]

    def test_one_that_is_not_there(self, local, tmp_path):
        assert folder_of(f"{local}/none").files(recursive=True) == {}
        assert folder_of(f"{local}/none").files(recursive=False) == {}
        with pytest.raises(PictureError, match=r"none/a\.txt: there is no such file"):
            folder_of(f"{local}/none").fetch("a.txt", tmp_path / "a")
        with pytest.raises(ArgumentError, match="cannot read from"):
            folder_of(f"{local}/none").read("a.txt")

    @pytest.mark.parametrize("recursive", [True, False])
    def test_a_file_is_none(self, local, tmp_path, recursive):
        (tmp_path / "a.txt").touch()
        with pytest.raises(ArgumentError, match="is no folder"):
            folder_of(f"{local}/a.txt").files(recursive=recursive)

    def test_what_nobody_knows(self):
        with pytest.raises(ArgumentError, match=r"cannot reach nonsense://a/b: Protocol not known"):
            folder_of("nonsense://a/b").files(recursive=True)

    def test_a_store_whose_package_is_missing(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "s3fs", None)
        with pytest.raises(MissingExtraError, match="s3fs"):
            folder_of("s3://bucket/photos").files(recursive=True)

    def test_nobody_sees_half_a_file(self, local, tmp_path, monkeypatch):
        from fsspec.implementations.local import LocalFileSystem

        def breaks(self, source, target, **_):
            assert not (tmp_path / "far/a.txt").exists()
            raise ConnectionError("the line is cut")

        monkeypatch.setattr(LocalFileSystem, "mv", breaks)
        with pytest.raises(ArgumentError, match=r"cannot write into .*: the line is cut"):
            folder_of(f"{local}/far").write("a.txt", b"whole")
        assert list((tmp_path / "far").iterdir()) == []


class TestRuns:
    def test_outputs_are_those_of_a_plain_run(self, tree, local, tmp_path):
        expected = {"a.txt": "done", "deep/b.txt": "done", "deep/deeper/c ü.txt": "done"}
        told = go(f"{local}/in", f"{local}/far")
        assert statuses(told) == expected
        assert told["a.txt"].figures["path"] == f"{local}/far/a.rev"
        assert go(f"{local}/in", str(tmp_path / "near"))["a.txt"].figures["path"] == str(tmp_path / "near/a.rev")
        go(str(tree), f"{local}/up")
        run(planned(tree, tmp_path / "plain"), Reversing(), settings=SETTINGS, workers=1)
        for out in ("far", "near", "up"):
            assert files(tmp_path / out) == files(tmp_path / "plain"), out
            assert sorted(path.name for path in (tmp_path / out).iterdir()) == ["a.rev", "deep", "moesaic-batch.jsonl"]
        assert statuses(go(f"{local}/in", f"{local}/far")) == dict.fromkeys(expected, "kept")

    def test_what_has_changed_is_done_again(self, tree, local, tmp_path):
        go(f"{local}/in", f"{local}/far")
        (tree / "a.txt").write_text("another text")
        (tmp_path / "far/deep/b.rev").unlink()
        (tree / "new.txt").write_text("new")
        assert statuses(go(f"{local}/in", f"{local}/far")) == {
            "a.txt": "done",
            "deep/b.txt": "done",
            "deep/deeper/c ü.txt": "kept",
            "new.txt": "done",
        }

    def test_what_is_there_and_not_ours_is_left_alone(self, tree, local, tmp_path):
        (tmp_path / "far").mkdir()
        (tmp_path / "far/a.rev").write_text("mine")
        for _ in range(2):
            told = go(f"{local}/in", f"{local}/far")
            assert told["a.txt"].status == "failed"
            assert isinstance(told["a.txt"].error, OutputExistsError)
            assert (tmp_path / "far/a.rev").read_text() == "mine"
        assert go(f"{local}/in", f"{local}/far", force=True)["a.txt"].status == "done"
        assert (tmp_path / "far/a.rev").read_text() == "a fo txet"

    def test_files_beside_an_output(self, tree, local, tmp_path):
        (tree / "a.txt").write_text("beside")
        (tmp_path / "far").mkdir()
        (tmp_path / "far/a.drawn").write_text("mine")
        for _ in range(2):
            assert isinstance(go(f"{local}/in", f"{local}/far")["a.txt"].error, OutputExistsError)
            assert (tmp_path / "far/a.drawn").read_text() == "mine"
            assert not (tmp_path / "far/a.rev").exists()
        (tmp_path / "far/a.drawn").unlink()
        assert go(f"{local}/in", f"{local}/far")["a.txt"].status == "done"
        assert (tmp_path / "far/a.drawn").read_text() == "drawing"
        assert go(f"{local}/in", f"{local}/far")["a.txt"].status == "kept"

    def test_failures_name_what_the_user_knows(self, tree, local):
        (tree / "a.txt").write_text("bad")
        (tree / "deep/b.txt").write_text("nothing")
        told = go(f"{local}/in", f"{local}/far")
        assert str(told["a.txt"].error) == f"{local}/in/a.txt is no picture"
        assert str(told["deep/b.txt"].error) == f"no output was written for {local}/in/deep/b.txt"

    def test_other_settings(self, tree, local):
        go(f"{local}/in", f"{local}/far")
        with pytest.raises(ArgumentError, match=f"^{local}/far holds a batch with another verb"):
            go(f"{local}/in", f"{local}/far", settings={"verb": "another"})
        assert set(statuses(go(f"{local}/in", f"{local}/far", settings={"verb": "another"}, force=True)).values()) == {
            "done"
        }

    def test_shards_know_of_each_other(self, tree, local):
        first = go(f"{local}/in", f"{local}/far", shard=Shard(1, 2))
        second = go(f"{local}/in", f"{local}/far", shard=Shard(2, 2))
        assert len(first) + len(second) == 3
        assert set(statuses(go(f"{local}/in", f"{local}/far")).values()) == {"kept"}

    def test_the_output_folder_is_no_input(self, tree, local, tmp_path):
        (tree / "out").mkdir()
        (tree / "out/x.txt").touch()
        assert len(go(f"{local}/in", f"{local}/in/out")) == 3
        assert list(go(f"{local}/in", f"{local}/flat", recursive=False)) == ["a.txt"]

    @unix
    def test_what_killed_workers_have_left_goes(self, tree, local, tmp_path, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "rooms"))
        monkeypatch.setenv("TMPDIR", str(tmp_path / "rooms"))
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        for owner in (ended.pid, os.getpid()):
            (tmp_path / f"rooms/moesaic-batch-{owner}-x").mkdir(parents=True)
            (tmp_path / f"rooms/moesaic-batch-{owner}-x/fetched").write_text("half")
        (tree / "a.txt").write_text("kill")
        assert go(f"{local}/in", f"{local}/far")["a.txt"].status == "failed"
        (tree / "a.txt").write_text("better")
        assert go(f"{local}/in", f"{local}/far")["a.txt"].status == "done"
        assert [path.name for path in (tmp_path / "rooms").iterdir()] == [f"moesaic-batch-{os.getpid()}-x"]

    def test_a_room_names_its_owner(self, local, tmp_path, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        (tmp_path / "a.txt").write_text("text")
        rooms = []

        def work(source: Path, output: Path) -> dict[str, str]:
            rooms.append(output.parent)
            output.write_text(source.read_text())
            return {}

        carry = Carrying(lambda: work, tmp_path, folder_of(f"{local}/far"))()
        carry(Assignment(0, "a.txt", "a.txt", "a.rev", None, replace=False))
        assert [room.name.startswith(f"moesaic-batch-{os.getpid()}-") for room in rooms] == [True]
        assert (tmp_path / "far/a.rev").read_text() == "text"
        assert not rooms[0].exists()

    @unix
    def test_killed_again_and_again(self, tree, local, tmp_path):
        for number in range(30):
            (tree / f"{number}.txt").write_text(f"{number} " * 999)
        for kills in range(1, 4):
            process = _begun(f"{local}/in", f"{local}/far")
            deadline = time.monotonic() + 60
            while len(list((tmp_path / "far").rglob("[!.]*.rev"))) < 7 * kills and time.monotonic() < deadline:
                time.sleep(0.01)
            process.kill()
            process.wait()
            assert len(list((tmp_path / "far").rglob("[!.]*.rev"))) >= 7 * kills
            for path in (tmp_path / "far").rglob("[!.]*.rev"):
                source = (tree / path.relative_to(tmp_path / "far")).with_suffix(".txt")
                assert path.read_bytes() == source.read_bytes()[::-1]
        assert set(statuses(go(f"{local}/in", f"{local}/far")).values()) <= {"done", "kept"}
        run(planned(tree, tmp_path / "plain"), Reversing(), settings=SETTINGS, workers=2)
        left = {name: data for name, data in files(tmp_path / "far").items() if not name.endswith(".part")}
        assert left == files(tmp_path / "plain")


class TestPages:
    def sheet(self, folder) -> outputs._Sheet:
        return outputs._Sheet.of(folder, "moesaic-batch.jsonl", folder.files(recursive=True), own=True)

    def entry(self, name: str, status: str) -> dict[str, str]:
        return {"input": name, "output": name, "status": status}

    def test_a_manifest_that_was_cut_off_is_read_with_its_pages(self, folder, monkeypatch):
        log = outputs.PagedManifest(self.sheet(folder), {"verb": "x"}, [self.entry("a", "done")])
        log.write(self.entry("b", "moving"))
        log.turn_page()
        log.write(self.entry("b", "done"))
        log.turn_page()
        log.write(self.entry("c", "failed"))  # which no page holds when the run is killed
        head, entries = self.sheet(folder).read()
        assert head["verb"] == "x"
        assert {name: entry["status"] for name, entry in entries.items()} == {"a": "done", "b": "done"}
        log.close()
        assert list(folder.files(recursive=True)) == ["moesaic-batch.jsonl"]
        assert list(parse(folder.read("moesaic-batch.jsonl"), "")[1]) == ["a", "b", "c"]

    def test_pages_are_turned_by_lines_and_by_the_clock(self, folder, monkeypatch):
        log = outputs.PagedManifest(self.sheet(folder), {}, [])
        monkeypatch.setattr(outputs, "_PAGE_LINES", 3)
        for name in "abcd":
            log.write(self.entry(name, "done"))
        assert len(self.sheet(folder).pages) == 1
        monkeypatch.setattr(outputs, "_PAGE_SECONDS", 0.0)
        log.write(self.entry("e", "done"))
        assert len(self.sheet(folder).pages) == 2
        assert list(self.sheet(folder).read()[1]) == list("abcde")

    def test_a_page_that_outlives_the_end_says_nothing_older(self, folder, monkeypatch):
        log = outputs.PagedManifest(self.sheet(folder), {}, [])
        log.write(self.entry("a", "moving"))
        log.turn_page()
        log.write(self.entry("a", "done"))
        monkeypatch.setattr(RemoteFolder, "remove", lambda *_: pytest.fail("killed here"))
        with pytest.raises(pytest.fail.Exception):
            log.close()
        assert self.sheet(folder).read()[1]["a"]["status"] == "done"


def _begun(source: str, out: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.batch.work", source, out, "0.05"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
