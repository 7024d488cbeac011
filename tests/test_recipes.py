"""The recipes run: with a stand-in for the command that only writes down how it was called."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from moesaic.cli.verbs import app
from moesaic.restore.network import MoceLite
from moesaic.upscale.network import CompactUpscaler

RECIPES = Path(__file__).parents[1] / "recipes"
TRAINING = sorted(file for file in RECIPES.glob("*.sh") if not file.stem.startswith("bench_"))
SETTINGS = (
    "DATA",
    "OUT",
    "MINUTES",
    "SEEDS",
    "SIZE",
    "EPOCHS",
    "SEED",
    "THREADS",
    "PYTHON",
    "STEPS",
    "JOBS",
    "START",
    "WIDTH",
)
STAND_IN = """#!/usr/bin/env bash
printf '%s\\n' "$*" >> "$CALLS"
while (($#)); do
    if [[ $1 == -o && -z ${UNFINISHED:-} && $2 != *.json ]]; then mkdir -p "$2"; touch "$2/model.safetensors"; fi
    shift
done
"""
TORCHRUN = """#!/usr/bin/env bash
while [[ $1 != -- ]]; do shift; done
shift
exec "$@"
"""
pytestmark = pytest.mark.skipif(sys.platform == "win32" or not shutil.which("bash"), reason="recipes need bash")


@pytest.fixture
def run(tmp_path):
    """Run a recipe with stand-ins for the programs it calls: its exit code, and the words of each call of moesaic."""
    programs = tmp_path / "bin"
    programs.mkdir()
    python = "#!/usr/bin/env bash\necho 1.05\n"
    for name, text in (("moesaic", STAND_IN), ("python", python), ("torchrun", TORCHRUN)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    calls = tmp_path / "calls"

    def run(name, **settings):
        calls.write_text("")
        kept = {name: value for name, value in os.environ.items() if name not in SETTINGS}
        environment = {**kept, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "CALLS": str(calls)}
        done = subprocess.run(
            ["bash", str(RECIPES / name)],
            cwd=tmp_path,
            env=environment | settings,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return done.returncode, [line.split() for line in calls.read_text().splitlines()]

    return run


def understood(words):
    """The options of a call as the command line reads them; it raises on one that it does not know."""
    command, rest = typer.main.get_command(app), list(words)
    while hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    return command.make_context("x", rest).params


def test_every_recipe_is_for_bash_and_can_be_run():
    files = sorted(RECIPES.glob("*.sh"))
    assert files
    for file in files:
        text = file.read_text()
        assert text.startswith("#!/usr/bin/env bash\n# ")
        assert "\nset -euo pipefail\n" in text
        assert os.access(file, os.X_OK)


@pytest.mark.parametrize("file", TRAINING, ids=lambda file: file.stem)
def test_every_call_is_one_that_the_command_line_knows(run, file):
    code, calls = run(file.name, DATA=".")
    assert code == 0
    assert calls
    for words in calls:
        understood(words)


@pytest.mark.parametrize("file", sorted(RECIPES.glob("*.sh")), ids=lambda file: file.stem)
def test_data_has_to_be_named(run, file):
    code, calls = run(file.name)
    assert code != 0
    assert not calls


def test_the_benchmark_of_the_gpu_names_what_it_runs(run, tmp_path):
    text = (RECIPES / "bench_gpu.sh").read_text()
    modules = re.findall(r"-m (benchmarks\.\w+)", text)
    assert modules == ["benchmarks.gpu_resources", "benchmarks.gpu"]
    for module in modules:
        assert (RECIPES.parent / Path(*module.split("."))).with_suffix(".py").is_file()
    code, calls = run("bench_gpu.sh", DATA=".", OUT=str(tmp_path), PYTHON="python")
    assert (code, calls) == (0, [])


def test_the_comparison_has_every_arm_for_every_seed(run, tmp_path):
    code, calls = run("segment_camvid_gpu.sh", DATA=".")
    trained = [understood(words) for words in calls if words[0] == "train"]
    audited = [understood(words) for words in calls if words[0] == "audit"]
    assert (code, len(trained), len(audited)) == (0, 7 * 5, 5)
    assert {each["seed"] for each in trained} == set(range(5))
    first = {str(each["output"]).split("/")[-2]: each for each in trained if each["seed"] == 0}
    assert list(first) == ["moe", "dense", "widened", "position", "uniform", "random", "frozen"]
    shared = ("network", "batch", "epochs", "rate", "precision", "device", "size")
    assert len({tuple(each[name] for name in shared) for each in trained}) == 1
    assert (first["dense"]["experts"], first["dense"]["width"], first["widened"]["width"]) == (None, 1.0, 1.05)
    assert (first["moe"]["experts"], first["moe"]["k"], first["moe"]["gate"]) == (8, 2, "two_conv")
    assert (first["position"]["experts"], first["position"]["k"], first["position"]["balance"]) == (9, 1, "none")
    assert all(len(each["against"]) == 6 for each in audited)


def test_what_is_done_is_not_done_again(run, tmp_path):
    run("segment_camvid_gpu.sh", DATA=".", SEEDS="0")
    (tmp_path / "runs" / "camvid_gpu" / "dense" / "0" / "model.safetensors").unlink()
    _, calls = run("segment_camvid_gpu.sh", DATA=".", SEEDS="0")
    assert [words[0] for words in calls] == ["train", "audit"]
    assert "runs/camvid_gpu/dense/0" in calls[0]


def test_arms_of_restoration_differ_in_what_they_are_named_for_alone(run):
    code, calls = run("restore_arms_cpu.sh", DATA=".", SEEDS="0 3", STEPS="7", JOBS="1")
    trained = [understood(words) for words in calls]
    assert (code, len(trained)) == (0, 2 * 5)
    first = {str(each["output"]).split("/")[-2]: each for each in trained if each["seed"] == 0}
    assert list(first) == ["moce", "equal", "dense_parameters", "dense_macs", "labelless"]
    shared = [name for name in first["moce"] if name not in ("output", "options", "labels")]
    assert len({tuple(each[name] for name in shared) for each in first.values()}) == 1
    assert first["moce"]["steps"] == 7
    assert {name: each["labels"] for name, each in first.items() if each["labels"] != 0.1} == {"labelless": 0}
    networks = {name: MoceLite(width=16, **json.loads(each["options"])) for name, each in first.items()}
    ranks = {name: [expert.inner.out_channels for expert in bank(network)] for name, network in networks.items()}
    assert ranks["moce"] == ranks["labelless"] == [16, 32, 56, 80]
    assert sum(ranks["equal"]) == sum(ranks["dense_parameters"]) == sum(ranks["moce"])
    assert len(set(ranks["equal"])) == 1
    assert ranks["dense_macs"] == ranks["moce"][-1:]
    for level, layer in enumerate(networks["dense_macs"].routed()):
        assert layer.experts.bank[0].macs == list(networks["moce"].routed())[level].experts.bank[-1].macs
    assert {network.fixed_cost < 1 for network in networks.values()} == {True}


def bank(network):
    """The experts of the finest level that do something."""
    return [expert for expert in next(network.routed()).experts.bank if expert.macs]


def test_arms_that_are_finished_are_left_alone_and_one_that_fails_is_told(run, tmp_path):
    assert run("restore_arms_cpu.sh", DATA=".", SEEDS="0")[0] == 0
    (tmp_path / "runs" / "restore_arms" / "equal" / "0" / "model.safetensors").unlink()
    code, calls = run("restore_arms_cpu.sh", DATA=".", SEEDS="0")
    assert (code, [words[words.index("-o") + 1] for words in calls]) == (0, ["runs/restore_arms/equal/0"])
    (tmp_path / "bin" / "moesaic").write_text("#!/usr/bin/env bash\nexit 2\n")
    assert run("restore_arms_cpu.sh", DATA=".", SEEDS="1")[0] != 0


def test_restoration_begins_from_nothing_or_from_weights(run):
    for settings, start in (({}, None), ({"START": "a.safetensors"}, "a.safetensors")):
        code, calls = run("restore_cpu.sh", DATA=".", **settings)
        (found,) = (understood(words) for words in calls)
        assert code == 0
        assert (str(found["start"]) if found["start"] else None) == start
        assert (found["steps"], found["batch"], found["floor_begin"]) == (20000, 8, 1e-2)


def test_arms_of_upscaling_differ_in_what_they_are_named_for_alone(run):
    code, calls = run("upscale_arms_cpu.sh", DATA=".", SEEDS="0 3", STEPS="7", JOBS="1")
    trained = [understood(words) for words in calls]
    assert (code, len(trained)) == (0, 2 * 10)
    first = {str(each["output"]).split("/")[-2]: each for each in trained if each["seed"] == 0}
    assert list(first) == [
        *("free", "mor", "lora_active", "lora_total", "whole", "no_zero", "plain", "constant", "shuffled", "oracle"),
    ]
    shared = [name for name in first["mor"] if name not in ("output", "options", "told", "balance")]
    assert len({tuple(each[name] for name in shared) for each in first.values()}) == 1
    assert {name for name, each in first.items() if each["told"] != "estimator"} == {"constant", "shuffled", "oracle"}
    assert {name for name, each in first.items() if each["balance"] != "degradation"} == {"plain"}
    plans = {name: ranks_of(each) for name, each in first.items()}
    assert plans["mor"] == plans["plain"] == plans["oracle"]
    assert plans["mor"].total == plans["lora_total"].total == plans["whole"].total == plans["no_zero"].total == 16
    assert plans["lora_active"].total == plans["mor"].shared + plans["mor"].active
    assert plans["no_zero"].zero == 0 < plans["mor"].zero
    assert (plans["free"].shared, plans["free"].total, plans["free"].active) == (0, 16, plans["free"].zero)


def ranks_of(call):
    """The plan of a layer's ranks in the network that a call trains."""
    network = CompactUpscaler(**json.loads(call["options"]))
    return next(iter(network.mix.layers.values())).ranks


def test_an_upscaler_is_trained_in_two_stages(run):
    for name in ("upscale_cpu.sh", "upscale_gpu.sh"):
        code, calls = run(name, DATA=".")
        base, ranks = (understood(words) for words in calls)
        assert code == 0
        assert "ranks" not in json.loads(base["options"])
        assert ranks["start"] == Path(base["output"]) / "model.safetensors"
        assert "full" in ranks["mix"]
        assert "full" not in base["mix"]
        network = CompactUpscaler(**json.loads(ranks["options"]))
        assert ranks_of(ranks).total == network.mix.layers["fuse"].ranks.total
    code, calls = run("upscale_gpu.sh", DATA=".", OUT="other", UNFINISHED="1")
    assert (code, len(calls)) == (75, 1)


def test_a_run_that_is_left_unfinished_ends_the_call(run):
    code, calls = run("segment_camvid_gpu.sh", DATA=".", UNFINISHED="1")
    assert (code, len(calls)) == (75, 1)
    code, calls = run("segment_camvid_gpu.sh", DATA=".", MINUTES="0")
    assert (code, calls) == (75, [])


def test_every_command_of_the_page_on_segmentation_is_known():
    page = (RECIPES.parent / "docs" / "segmentation.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith("moesaic ")]
    assert len(lines) > 8
    for line in lines:
        understood(shlex.split(line, comments=True)[1:])
