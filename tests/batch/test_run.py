"""Batches: mirrored trees, shards, workers that die, and runs that are killed at any moment and go on."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from moesaic.batch import Shard, manifest_path, run
from moesaic.batch.manifest import Manifest, read_manifest
from moesaic.errors import ArgumentError, ModelError, OutputExistsError, WorkerError
from tests.batch.work import Reversing, files, planned

SETTINGS = {"verb": "reverse", "options": {"seed": 0}}
unix = pytest.mark.skipif(sys.platform == "win32", reason="signals and links differ there")


@pytest.fixture
def tree(tmp_path) -> Path:
    """A folder of five inputs in a tree, and files that are none."""
    for name, data in {
        "a.txt": "first",
        "b.txt": "second one",
        "deep/c.txt": "third",
        "deep/deeper/d.txt": "the fourth of them",
        "other/e e.txt": "5",
        "notes.md": "no input",
        ".hidden.txt": "hidden",
        ".cache/x.txt": "hidden",
    }.items():
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(data)
    return tmp_path / "in"


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


def entries(out: Path, shard: Shard | None = None) -> dict[str, dict]:
    return {name: dict(entry) for name, entry in read_manifest(manifest_path(out, shard or Shard()))[1].items()}


def go(tree, out, prepare=None, *, shard=None, settings=SETTINGS, workers=1, **options):
    """Run, and return how the tasks ended, by path."""
    told = []
    tally = run(
        planned(tree, out, shard),
        prepare or Reversing(),
        settings=settings,
        workers=workers,
        tell=told.append,
        **options,
    )
    assert Counter(one.status for one in told) == Counter(done=tally.done, failed=tally.failed, kept=tally.kept)
    return {one.task.path: one for one in told}


def statuses(told) -> dict[str, str]:
    return {path: one.status for path, one in told.items()}


class TestPlan:
    def test_the_tree_is_mirrored_in_one_order(self, tree, out):
        plan = planned(tree, out)
        assert [(task.path, task.output) for task in plan.tasks] == [
            ("a.txt", "a.rev"),
            ("b.txt", "b.rev"),
            ("deep/c.txt", "deep/c.rev"),
            ("deep/deeper/d.txt", "deep/deeper/d.rev"),
            ("other/e e.txt", "other/e e.rev"),
        ]
        assert plan.source(plan.tasks[2]) == str(tree / "deep/c.txt")
        assert plan.target(plan.tasks[2]) == str(out / "deep/c.rev")
        assert [task.path for task in planned(tree, out, recursive=False).tasks] == ["a.txt", "b.txt"]

    @pytest.mark.parametrize("count", [1, 2, 3, 7])
    def test_each_file_is_in_one_shard(self, tree, out, count):
        for number in range(40):
            (tree / f"{number}.txt").touch()
        shards = [planned(tree, out, Shard(index, count)) for index in range(1, count + 1)]
        paths = [task.path for plan in shards for task in plan.tasks]
        assert sorted(paths) == [task.path for task in planned(tree, out).tasks]
        assert {plan.total for plan in shards} == {45}
        assert all(plan.tasks for plan in shards)

    def test_files_that_come_move_no_other_to_another_shard(self, tree, out):
        before = {task.path for task in planned(tree, out, Shard(1, 2)).tasks}
        (tree / "0.txt").touch()
        (tree / "00.txt").touch()
        assert {task.path for task in planned(tree, out, Shard(1, 2)).tasks} - {"0.txt", "00.txt"} == before

    @pytest.mark.parametrize("text", ["", "1", "0/4", "5/4", "1/0", "-1/4", "1/4/2", "a/b", "1/99999999", "²/4"])
    def test_what_is_no_shard(self, text):
        with pytest.raises(ArgumentError, match="is no shard"):
            Shard.read(text)

    def test_shards_are_read(self):
        assert Shard.read("2/8") == Shard(2, 8)
        assert Shard.read("2/8").suffix == ".2-of-8"

    def test_the_output_folder_is_no_input(self, tree):
        inside = tree / "out"
        inside.mkdir()
        (inside / "x.txt").touch()
        assert len(planned(tree, inside).tasks) == 5
        assert len(planned(tree, tree / "deep/../out").tasks) == 5
        assert len(planned(tree, tree).tasks) == 6  # in place is a choice

    def test_a_folder_that_is_none(self, tree, out):
        for folder in (tree / "a.txt", tree / "none"):
            with pytest.raises(ArgumentError, match="is no folder"):
                planned(folder, out)

    @unix
    def test_links_to_folders_are_not_followed(self, tree, out):
        (tree / "deep/loop").symlink_to(tree, target_is_directory=True)
        assert len(planned(tree, out).tasks) == 5

    def test_a_folder_that_cannot_be_read_is_a_failure_of_its_own(self, tree, out, monkeypatch):
        real = os.scandir

        def refusing(path):
            if str(path).endswith("deep"):
                raise PermissionError(13, "Permission denied", str(path))
            return real(path)

        monkeypatch.setattr(os, "scandir", refusing)
        told = go(tree, out)
        assert statuses(told) == {"a.txt": "done", "b.txt": "done", "deep": "failed", "other/e e.txt": "done"}
        assert "cannot be read: Permission denied" in str(told["deep"].error)


class TestRuns:
    def test_outputs_and_manifest(self, tree, out):
        told = go(tree, out)
        assert set(statuses(told).values()) == {"done"}
        assert files(out) == {
            "a.rev": b"tsrif",
            "b.rev": b"eno dnoces",
            "deep/c.rev": b"driht",
            "deep/deeper/d.rev": b"meht fo htruof eht",
            "other/e e.rev": b"5",
        }
        head, held = read_manifest(out / "moesaic-batch.jsonl")
        assert head["verb"] == "reverse"
        assert head["shard"] == "1/1"
        entry = held["deep/c.txt"]
        assert (entry["status"], entry["output"], entry["bytes"], entry["beside"]) == ("done", "deep/c.rev", 5, {})
        assert entry["source_bytes"] == 5
        assert entry["source_mtime_ns"] == (tree / "deep/c.txt").stat().st_mtime_ns
        assert entry["seconds"] >= 0
        assert entry["figures"]["path"] == str(out / "deep/c.rev")  # not where it was made
        assert entry["figures"]["share"] is None
        assert {path.name for path in out.iterdir()} == {"a.rev", "b.rev", "deep", "other", "moesaic-batch.jsonl"}
        assert (out / "moesaic-batch.jsonl").read_bytes().count(b"\n") == 6  # one for the run, one for each input

    def test_workers_and_shards_change_no_byte(self, tree, tmp_path):
        go(tree, tmp_path / "one")
        go(tree, tmp_path / "two", workers=2)
        for index in (3, 1, 2):
            go(tree, tmp_path / "three", shard=Shard(index, 3))
        assert files(tmp_path / "one") == files(tmp_path / "two") == files(tmp_path / "three")
        names = [path.name for path in sorted((tmp_path / "three").glob("moesaic*"))]
        assert names == [f"moesaic-batch.{index}-of-3.jsonl" for index in (1, 2, 3)]
        again = go(tree, tmp_path / "three", workers=2)  # what shards have done counts for all
        assert set(statuses(again).values()) == {"kept"}

    def test_processors_are_shared_by_the_workers(self, tree, out, monkeypatch):
        monkeypatch.setenv("MOESAIC_THREADS", "4")
        told = go(tree, out, workers=2)
        assert {one.figures["threads"] for one in told.values()} == {"2"}

    def test_a_bad_file_stops_nothing(self, tree, out):
        (tree / "b.txt").write_text("bad")
        (tree / "deep/c.txt").write_text("bug")
        (tree / "deep/deeper/d.txt").write_text("nothing")
        told = go(tree, out)
        assert [one.status for _, one in sorted(told.items())] == ["done", "failed", "failed", "failed", "done"]
        held = entries(out)
        assert held["b.txt"]["error"] == "PictureError"
        assert held["b.txt"]["message"] == f"{tree / 'b.txt'} is no picture"
        assert held["deep/c.txt"]["message"] == "OddError: odd 1"
        assert "no output was written" in held["deep/deeper/d.txt"]["message"]
        assert "Traceback" in told["b.txt"].error.__notes__[0]
        assert set(files(out)) == {"a.rev", "other/e e.rev"}

    @unix
    def test_a_worker_that_dies_costs_one_file(self, tree, out):
        (tree / "b.txt").write_text("exit")
        (tree / "deep/c.txt").write_text("kill")
        told = go(tree, out, workers=2)
        assert Counter(statuses(told).values()) == {"done": 3, "failed": 2}
        held = entries(out)
        assert held["b.txt"]["message"].endswith("b.txt ended with code 3")
        assert "c.txt was killed by signal 9, as by a system without memory left" in held["deep/c.txt"]["message"]
        assert held["b.txt"]["error"] == "WorkerError"

    def test_workers_that_cannot_begin_end_the_run(self, tree, out):
        with pytest.raises(WorkerError, match="ended with code 7"):
            go(tree, out, Reversing(prepares="dies"))
        with pytest.raises(ModelError, match="no such model"):
            go(tree, out, Reversing(prepares="raises"), workers=2)
        assert files(out) == {}
        assert set(statuses(go(tree, out)).values()) == {"done"}

    def test_inputs_that_would_share_an_output_fail_and_the_others_do_not(self, tree, out):
        plan = planned(tree, out)
        (tree / "A.b.txt").write_text("x")
        both = planned(tree, out)
        assert len(both.tasks) == len(plan.tasks) + 1
        from moesaic.batch import make_plan

        same = make_plan(tree, out, name=lambda path: f"{path.stem[0].lower()}.rev", accepts=lambda path: True)
        told = {}
        run(same, Reversing(), settings=SETTINGS, workers=1, tell=lambda one: told.update({one.task.path: one}))
        assert statuses(told) == {"A.b.txt": "failed", "a.txt": "failed", "b.txt": "done", "notes.md": "done"}
        assert "a.rev would be the output of A.b.txt, too" in str(told["a.txt"].error)

    @unix
    @pytest.mark.parametrize(
        "name", ["with space", "line\nend", "ünï→", "[red]", "-dash", "*", 'quo"te', "\udcff\udc80"]
    )
    def test_names_of_all_kinds(self, tmp_path, out, name):
        if sys.platform == "darwin" and "\udcff" in name:
            pytest.skip("names are Unicode there")
        folder = tmp_path / "in" / name
        folder.mkdir(parents=True)
        (folder / f"{name}.txt").write_text("abc")
        assert statuses(go(tmp_path / "in", out)) == {f"{name}/{name}.txt": "done"}
        assert (out / name / f"{name}.rev").read_text() == "cba"
        assert statuses(go(tmp_path / "in", out)) == {f"{name}/{name}.txt": "kept"}

    @unix
    def test_links_that_lead_nowhere_fail(self, tree, out):
        (tree / "loop.txt").symlink_to("loop.txt")
        (tree / "gone.txt").symlink_to("nowhere.txt")
        (tree / "link.txt").symlink_to("a.txt")
        told = go(tree, out)
        assert Counter(statuses(told).values()) == {"done": 6, "failed": 2}
        assert (out / "link.rev").read_bytes() == b"tsrif"

    def test_what_stands_beside_an_output_moves_with_it(self, tree, out):
        (tree / "deep/c.txt").write_text("beside")
        go(tree, out)
        assert files(out)["deep/c.drawn"] == b"drawing"
        assert entries(out)["deep/c.txt"]["beside"] == {"deep/c.drawn": 7}
        (out / "deep/c.drawn").unlink()
        assert statuses(go(tree, out))["deep/c.txt"] == "done"
        assert (out / "deep/c.drawn").exists()

    def test_a_file_in_the_place_of_a_folder_fails_what_goes_there(self, tree, out):
        out.mkdir()
        (out / "deep").write_text("in the way")
        told = go(tree, out)
        assert {path for path, one in told.items() if one.status == "failed"} == {"deep/c.txt", "deep/deeper/d.txt"}

    def test_an_output_folder_that_cannot_be(self, tree, tmp_path):
        (tmp_path / "file").touch()
        for out in (tmp_path / "file", tmp_path / "file/below", tmp_path / "a\0b"):
            with pytest.raises(ArgumentError, match="cannot make"):
                go(tree, out)

    @unix
    def test_an_output_folder_that_is_read_only(self, tree, out):
        out.mkdir(mode=0o500)
        if os.access(out, os.W_OK):
            pytest.skip("this user may write everywhere")
        with pytest.raises(ArgumentError, match="cannot write into"):
            go(tree, out)


class TestGoingOn:
    def test_what_is_done_is_kept(self, tree, out, tmp_path):
        go(tree, out)
        before = {path: path.stat().st_mtime_ns for path in out.rglob("*.rev")}
        told = go(tree, out, Reversing(calls=tmp_path / "calls"))
        assert set(statuses(told).values()) == {"kept"}
        assert not (tmp_path / "calls").exists()
        assert {path: path.stat().st_mtime_ns for path in out.rglob("*.rev")} == before

    def test_what_has_changed_is_done_anew(self, tree, out):
        go(tree, out)
        (tree / "a.txt").write_text("tsrif")  # as long as before
        os.utime(tree / "a.txt", ns=(1, 1))
        (out / "b.rev").write_bytes(b"cut")
        (out / "deep/c.rev").unlink()
        (tree / "new.txt").write_text("new")
        told = go(tree, out)
        assert {path for path, one in told.items() if one.status == "done"} == {
            "a.txt",
            "b.txt",
            "deep/c.txt",
            "new.txt",
        }
        assert files(out)["a.rev"] == b"first"
        assert files(out)["b.rev"] == b"eno dnoces"
        assert set(statuses(go(tree, out)).values()) == {"kept"}

    def test_what_failed_is_tried_again_also_over_its_earlier_output(self, tree, out):
        go(tree, out)
        (tree / "b.txt").write_text("bad")
        for _ in range(2):
            assert statuses(go(tree, out))["b.txt"] == "failed"
        (tree / "b.txt").write_text("mended")
        assert statuses(go(tree, out))["b.txt"] == "done"
        assert files(out)["b.rev"] == b"dednem"

    def test_an_output_of_other_origin_is_kept_unless_forced(self, tree, out):
        out.mkdir()
        (out / "a.rev").write_bytes(b"precious")
        for _ in range(2):
            told = go(tree, out)
            assert isinstance(told["a.txt"].error, OutputExistsError)
        assert (out / "a.rev").read_bytes() == b"precious"
        told = go(tree, out, force=True)
        assert Counter(statuses(told).values()) == {"done": 1, "kept": 4}  # what is as it would be again, stays
        assert (out / "a.rev").read_bytes() == b"tsrif"

    @pytest.mark.parametrize("shard", [Shard(), Shard(1, 2)])
    def test_other_settings_are_refused_unless_forced(self, tree, out, shard):
        go(tree, out)
        other = {"verb": "reverse", "options": {"seed": 1}}
        with pytest.raises(ArgumentError, match=r"another seed: 0 there, 1 now; .* --force"):
            go(tree, out, settings=other, shard=shard)
        with pytest.raises(ArgumentError, match="another verb: reverse there, turn now"):
            go(tree, out, settings={**SETTINGS, "verb": "turn"})
        assert set(statuses(go(tree, out)).values()) == {"kept"}
        told = go(tree, out, settings=other, shard=shard, force=True)
        assert set(statuses(told).values()) == {"done"}
        assert set(statuses(go(tree, out, settings=other, shard=shard)).values()) == {"kept"}
        assert len(list(out.glob("moesaic-batch*"))) == 1

    def test_another_folder_is_another_run(self, tree, out, tmp_path):
        go(tree, out)
        tree.rename(tmp_path / "moved")
        with pytest.raises(ArgumentError, match="another folder"):
            go(tmp_path / "moved", out)

    def test_two_runs_at_once(self, tree, out):
        refused, others = [], {}

        def while_running(outcome):
            if not refused:
                with pytest.raises(ArgumentError, match=rf"at work on this shard .*process {os.getpid()}") as caught:
                    go(tree, out, shard=Shard(1, 2))
                refused.append(caught)
                others.update(go(tree, out, shard=Shard(2, 2)))  # another shard may

        mine = run(planned(tree, out, Shard(1, 2)), Reversing(), settings=SETTINGS, workers=1, tell=while_running)
        assert refused
        assert (mine.done + len(others), mine.failed) == (5, 0)

    def test_leftovers_go(self, tree, out):
        (out / ".moesaic-batch/abc-3").mkdir(parents=True)
        (out / ".moesaic-batch/abc-3/a.rev").write_bytes(b"ha")
        (out / ".moesaic-batch/.lock").write_text("1")
        (out / ".moesaic-batch.jsonl.0123456789ab.part").write_text("half")
        theirs = out / ".moesaic-batch.1-of-2/abc-3"  # of a shard that may be running
        theirs.mkdir(parents=True)
        go(tree, out)
        assert {path.name for path in out.iterdir() if path.name.startswith(".")} == {".moesaic-batch.1-of-2"}
        assert theirs.is_dir()

    def test_an_interruption_leaves_a_whole_manifest(self, tree, out):
        def interrupt(outcome):
            if outcome.task.path == "b.txt":
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(planned(tree, out), Reversing(), settings=SETTINGS, workers=1, tell=interrupt)
        assert {path: entry["status"] for path, entry in entries(out).items()} == {"a.txt": "done", "b.txt": "done"}
        assert set(files(out)) == {"a.rev", "b.rev"}
        assert Counter(statuses(go(tree, out)).values()) == {"kept": 2, "done": 3}


class TestManifest:
    @pytest.mark.parametrize("cut", [1, 5, 60])
    def test_a_torn_last_line(self, tree, out, cut):
        go(tree, out)
        path = out / "moesaic-batch.jsonl"
        path.write_bytes(path.read_bytes()[:-cut])
        # The line of the last file is gone; after a kill the one before it, that it was being moved, is there.
        with path.open("ab") as file:
            if cut == 1:
                file.write(b"\n")
            else:
                moving = {"status": "moving", "input": "other/e e.txt", "output": "other/e e.rev"}
                file.write(b"\n" + json.dumps(moving).encode() + b"\n" + b'{"status": "done", "inp')
        told = go(tree, out)
        assert statuses(told)["other/e e.txt"] == ("kept" if cut == 1 else "done")
        assert Counter(entry["status"] for entry in entries(out).values()) == {"done": 5}
        lines = path.read_bytes().splitlines()
        assert len(lines) == 6
        assert all(json.loads(line) for line in lines)

    @pytest.mark.parametrize("text", ["", "{}\n", "no json\n", "[]\n", '{"manifest": 99}\n'])
    def test_a_file_that_is_no_manifest_is_refused_and_kept(self, tree, out, text):
        out.mkdir()
        (out / "moesaic-batch.jsonl").write_text(text)
        with pytest.raises(ArgumentError, match="manifest"):
            go(tree, out)
        assert (out / "moesaic-batch.jsonl").read_text() == text

    def test_lines_that_say_nothing_are_left_out(self, tree, out):
        go(tree, out)
        with (out / "moesaic-batch.jsonl").open("a") as file:
            file.write('{"input": 3}\n{"status": "done"}\n{"input": "a.txt", "status": "odd"}\n[1]\n\n')
        assert set(statuses(go(tree, out)).values()) == {"kept"}

    def test_a_full_disk_is_told(self, tmp_path, monkeypatch):
        manifest = Manifest(tmp_path / "m.jsonl", {})
        monkeypatch.setattr(os, "write", lambda file, data: len(data) // 2)
        with pytest.raises(ArgumentError, match="the disk is full"):
            manifest.write({"status": "done", "input": "a"})


@unix
class TestKills:
    def test_killed_at_twenty_random_moments(self, tmp_path):
        """Each run goes on where the last was killed; in the end all is as if it had not been."""
        tree, out, whole = tmp_path / "in", tmp_path / "out", tmp_path / "whole"
        expected: dict[str, bytes] = {}

        def grow() -> None:
            for number in range(len(expected), len(expected) + 200):
                path = tree / f"{number % 7}" / f"{number}.txt"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"{number} " * 3000)
                expected[path.relative_to(tree).as_posix()] = path.read_bytes()[::-1]

        def check() -> None:
            """Nothing half-written is where outputs are."""
            for path in out.glob("[0-9]/*.rev"):
                assert path.read_bytes() == expected[path.relative_to(out).with_suffix(".txt").as_posix()]

        grow()
        moments, kills = random.Random(0), 0
        while kills < 20:
            process = _begun(tree, out)
            time.sleep(0.1 + 0.5 * moments.random())
            process.kill()
            ended = process.wait()
            process.stdout.close()
            check()
            if ended == 0:  # too late: all was done
                grow()
            else:
                kills += 1
        process = _begun(tree, out)
        assert process.wait(timeout=60) == 0
        assert "failed=0" in process.stdout.read().decode()
        process.stdout.close()
        run(planned(tree, whole), Reversing(), settings={"verb": "reverse"}, workers=2)
        assert files(out) == files(whole)
        lines = (out / "moesaic-batch.jsonl").read_bytes().splitlines()[1:]
        done = Counter(json.loads(line)["input"] for line in lines if json.loads(line)["status"] == "done")
        assert len(lines) == len(expected)
        assert done == dict.fromkeys(expected, 1)

    def test_workers_leave_when_the_first_process_is_killed(self, tmp_path):
        (tmp_path / "in").mkdir()
        for name in "abcd":
            (tmp_path / "in" / f"{name}.txt").write_text("long work")
        process = _begun(tmp_path / "in", tmp_path / "out", pause=60)
        staging = tmp_path / "out/.moesaic-batch"
        deadline = time.monotonic() + 30
        while len(list(staging.glob("*/*.rev"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(list(staging.glob("*/*.rev"))) == 2  # both are in the middle of a file
        process.kill()
        process.wait()
        assert process.stdout.read() == b""  # returns when nobody holds the other end: all have left
        process.stdout.close()


def _begun(tree: Path, out: Path, pause: float = 0.01) -> subprocess.Popen:
    """A run that has begun."""
    command = [sys.executable, "-m", "tests.batch.work", str(tree), str(out), str(pause)]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"begun\n"
    return process
