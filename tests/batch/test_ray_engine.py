"""Batches on a local Ray cluster of two workers: the outputs and the manifest of a plain run, also after kills."""

from __future__ import annotations

import os
import pickle
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from moesaic.batch import Shard, folder_of, make_plan, manifest_path, processes, ray_actors, ray_engine, run
from moesaic.batch.manifest import read_manifest
from moesaic.errors import ArgumentError, MissingExtraError, ModelError, WorkerError
from tests.batch.work import Counting, Reversing, files, planned

pytest.importorskip("ray", reason="Ray is not installed")
pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="Ray is in trial there"),
    pytest.mark.filterwarnings("ignore"),  # Ray's own, of many kinds
]
ROOT = Path(__file__).parents[2]
SETTINGS = {"verb": "reverse"}


@pytest.fixture(scope="module")
def cluster():
    """Two workers, for all tests of this file; what they import is what this process imports."""
    import ray

    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *(path for path in sys.path if path)]))
        patched.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False, address="local")
        yield
        ray.shutdown()


@pytest.fixture
def tree(tmp_path) -> Path:
    """Forty inputs, four of which fail, each in a way of its own."""
    for number in range(36):
        path = tmp_path / "in" / f"{number % 5}" / f"{number} ü.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number} " * 50)
    for data in ("bad", "bug", "exit", "kill"):
        (tmp_path / "in" / f"{data}.txt").write_text(data)
    return tmp_path / "in"


def told(manifest: Path) -> dict[str, dict]:
    """What does not depend on the clock."""
    entries = read_manifest(manifest)[1]
    return {
        name: {key: entry[key] for key in entry if key not in ("seconds", "figures")} for name, entry in entries.items()
    }


def test_outputs_and_manifest_are_those_of_a_plain_run(cluster, tree, tmp_path):
    plain, far = tmp_path / "plain", tmp_path / "far"
    first = run(planned(tree, plain), Reversing(), settings=SETTINGS, workers=2)
    assert run(planned(tree, far), Reversing(), settings=SETTINGS, workers=2, engine=ray_actors) == first
    assert (first.done, first.failed) == (36, 4)
    assert files(far) == files(plain)
    assert told(manifest_path(far, Shard())) == told(manifest_path(plain, Shard()))
    assert not (far / ".moesaic-batch").exists()
    again = run(planned(tree, far), Reversing(), settings=SETTINGS, engine=ray_actors)
    assert (again.done, again.kept, again.failed) == (0, 36, 4)


def test_engines_and_shards_may_share_a_folder(cluster, tree, tmp_path):
    for shard, engine in ((Shard(1, 2), ray_actors), (Shard(2, 2), processes)):
        run(planned(tree, tmp_path / "out", shard), Reversing(), settings=SETTINGS, workers=2, engine=engine)
    assert run(planned(tree, tmp_path / "out"), Reversing(), settings=SETTINGS, engine=ray_actors).kept == 36


def test_each_actor_prepares_once(cluster, tree, tmp_path):
    run(
        planned(tree, tmp_path / "out"),
        Counting(tmp_path / "prepared"),
        settings=SETTINGS,
        workers=2,
        engine=ray_actors,
    )
    # Two, and one more for each of the two inputs that killed the process that held the model.
    assert len((tmp_path / "prepared").read_text().splitlines()) <= 4


def test_from_and_to_where_fsspec_reaches(cluster, tree, tmp_path):
    url = f"local://{tmp_path.as_posix()}"
    plan = make_plan(
        folder_of(f"{url}/in"),
        folder_of(f"{url}/far"),
        name=lambda source: f"{source.stem}.rev",
        accepts=lambda path: path.suffix == ".txt",
        recursive=True,
    )
    tally = run(plan, Reversing(), settings=SETTINGS, workers=2, engine=ray_actors)
    assert (tally.done, tally.failed) == (36, 4)
    run(planned(tree, tmp_path / "plain"), Reversing(), settings=SETTINGS, workers=2)
    assert files(tmp_path / "far") == files(tmp_path / "plain")


def test_nothing_to_do(cluster, tmp_path):
    (tmp_path / "in").mkdir()
    assert run(planned(tmp_path / "in", tmp_path / "out"), Reversing(), settings=SETTINGS, engine=ray_actors).done == 0


@pytest.mark.parametrize(("how", "error"), [("raises", ModelError), ("dies", WorkerError)])
def test_workers_that_cannot_prepare_end_the_run(cluster, tree, tmp_path, how, error):
    with pytest.raises(error):
        run(planned(tree, tmp_path / "out"), Reversing(prepares=how), settings=SETTINGS, workers=2, engine=ray_actors)
    assert files(tmp_path / "out") == {}


def test_more_workers_than_processors(cluster, tree, tmp_path):
    with pytest.raises(ArgumentError, match="2 processors, too few for 3 workers"):
        run(planned(tree, tmp_path / "out"), Reversing(), settings=SETTINGS, workers=3, engine=ray_actors)


def test_going_on_after_the_leading_process_was_killed(tree, tmp_path):
    """In a process of its own, with a cluster of its own, that goes with it."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "tests.batch.work", str(tree), str(out), "0.2", "ray"]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *(path for path in sys.path if path)]),
        "RAY_ADDRESS": "local",
    }
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 240
        while len(list(out.glob("*/*.rev"))) < 4 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        assert process.poll() is None
        process.kill()
    held = files(out)
    assert 4 <= sum(not name.startswith(".") for name in held) < 36
    for path in out.glob("[0-9]/*.rev"):
        assert path.read_bytes() == (tree / path.relative_to(out)).with_suffix(".txt").read_bytes()[::-1]
    again = run(planned(tree, out), Reversing(), settings=SETTINGS, workers=2)
    assert again.kept >= 4
    assert (again.done + again.kept, again.failed) == (36, 4)
    run(planned(tree, tmp_path / "plain"), Reversing(), settings=SETTINGS, workers=2)
    assert files(out) == files(tmp_path / "plain")


def test_another_version_on_the_cluster(monkeypatch):
    monkeypatch.setattr("moesaic.__version__", "9.9")
    mine = ray_engine._versions()
    monkeypatch.undo()
    error = pickle.loads(ray_engine._Actor(None, 1, mine)({})["told"])
    assert isinstance(error, ArgumentError)
    assert re.search(r"the cluster has moesaic and Python .*, and this machine has .*9\.9", str(error))


@pytest.mark.parametrize("form", ["{}", "ray://{}"])
def test_a_cluster_that_does_not_answer(monkeypatch, tree, tmp_path, form):
    with socket.socket() as taken:  # a port at which nobody listens
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("RAY_ADDRESS", form.format(f"127.0.0.1:{taken.getsockname()[1]}"))
        monkeypatch.setattr("ray.is_initialized", lambda: False)
        with pytest.raises(WorkerError, match="no Ray cluster answers at RAY_ADDRESS="):
            run(planned(tree, tmp_path / "out"), Reversing(), settings=SETTINGS, engine=ray_actors)
    assert files(tmp_path / "out") == {}


def test_what_workers_cannot_import(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(Reversing, "__module__", "__main__")
    with pytest.raises(ArgumentError, match="put it into a module"):
        run(planned(tree, tmp_path / "out"), Reversing(), settings=SETTINGS, engine=ray_actors)


def test_without_ray(monkeypatch, tree, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'moesaic\[ray\]'"):
        run(planned(tree, tmp_path / "out"), Reversing(), settings=SETTINGS, engine=ray_actors)
    assert not (tmp_path / "out/.moesaic-batch").exists()


@pytest.mark.parametrize(
    ("nodes", "count", "each"), [([2], 2, 1), ([8], 2, 4), ([8, 8], 3, 4), ([8, 3], 2, 4), ([4, 4], 8, 1), ([5], 2, 2)]
)
def test_processors_are_shared_out_within_machines(nodes, count, each):
    assert ray_engine._processors_each(nodes, count) == each


@pytest.mark.parametrize(("gpus", "count", "each"), [(0, 4, 0), (4, 4, 1), (4, 2, 1), (1, 3, 0.333), (2, 4, 0.5)])
def test_gpus_are_shared_out(gpus, count, each):
    assert ray_engine._gpus_each(gpus, count) == each
