"""`moesaic audit` on a small network with random weights and a small folder of labelled pictures."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import typer
from PIL import Image

from moesaic import zoo
from moesaic.cli import auditing
from moesaic.cli.audit_tables import as_tables
from moesaic.cli.endings import ending
from moesaic.cli.report import log_to_stderr
from moesaic.routing.audit import STANDARD
from moesaic.segment.networks import make_network
from moesaic.weights_file import Card

CLASSES = ("sky", "road", "tree")


@pytest.fixture
def audit(capsys, monkeypatch, tmp_path):
    """Run the verb in this process, in an empty folder; returns exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    app = typer.Typer(add_completion=False)
    app.command()(auditing.audit)
    log_to_stderr()

    def run(*arguments):
        called = ending(lambda: app([str(a) for a in arguments], prog_name="moesaic audit", standalone_mode=False))
        code = called()
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


@pytest.fixture
def data(tmp_path):
    root = tmp_path / "data"
    generator = np.random.default_rng(0)
    for folder in ("images/test", "labels/test"):
        (root / folder).mkdir(parents=True)
    for number in range(12):
        labels = np.zeros((32, 48), np.uint8)
        labels[16 + number % 3 :] = 1
        labels[8:20, 4 * (number % 8) :][:, :8] = 2
        labels[0] = 255
        pixels = np.array([[60, 90, 220], [90, 90, 90], [30, 160, 40]])[labels % 255] + generator.normal(
            0, 9, (32, 48, 3)
        )
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / f"images/test/{number:02d}.png")
        Image.fromarray(labels).save(root / f"labels/test/{number:02d}.png")
    (root / "classes.json").write_text(json.dumps({"names": CLASSES, "ignore": 255}))
    return root


@pytest.fixture
def save(tmp_path):
    def make(name="net.safetensors", *, experts=3, classes=CLASSES):
        options = {"classes": len(classes), "width": 0.25}
        if experts:
            options |= {"experts": experts, "k": 1, "grid": 2}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = make_network("enet", **options)
        path = tmp_path / name
        card = Card(name=name, architecture="enet", task="segment", options=options, classes=classes, size=(32, 48))
        zoo.save_model(path, network, card)
        return path

    return make


def test_a_table_and_a_file(audit, data, save):
    code, out, err = audit(save(), data, "--resamples", 100)
    assert (code, err.count("\n")) == (0, 8), err
    assert "moesaic: scoring as it is (1 of 8)" in err
    for word in ("as it is", *STANDARD[:4], "forced:2", "mIoU", "95 % interval", "Routing entropy", "sky", "patches"):
        assert word in out
    told = json.loads((data.parent / "net.audit.json").read_text())
    assert " ".join(told["verdict"].split()) in " ".join(out.split())
    assert told["classes"] == list(CLASSES)
    assert told["pictures"] == 12
    assert told["size"] == [32, 48]
    assert [one["name"] for one in told["comparisons"]] == [*STANDARD[:4], "forced:0", "forced:1", "forced:2"]
    (usage,) = told["usage"].values()
    assert len(usage["class_table"]) == 3


def test_json_quiet_and_options(audit, data, save):
    options = (
        "--json",
        "--quiet",
        "--controls",
        "uniform, forced:1",
        "--pictures",
        10,
        "--size",
        "24x16",
        "-o",
        "a.json",
    )
    code, out, err = audit(save(), data, *options, "--against", f"dense={save('dense.safetensors', experts=0)}")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert (told["verb"], told["status"], told["pictures"], told["size"]) == ("audit", "done", 10, [16, 24])
    assert [(one["name"], one["trained"]) for one in told["comparisons"]] == [
        ("uniform", False),
        ("forced:1", False),
        ("dense", True),
    ]
    written = json.loads((data.parent / "a.json").read_text())
    assert written.items() <= told.items()


def test_nothing_is_replaced_unasked(audit, data, save):
    model = save()
    (data.parent / "net.audit.json").write_text("mine")
    code, _, err = audit(model, data)
    assert code == 2
    assert "exists" in err
    assert (data.parent / "net.audit.json").read_text() == "mine"
    assert audit(model, data, "--force", "--quiet", "--controls", "uniform", "--resamples", 10)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--controls", "shufled"], "control 'shufled' is unknown; choose one of none, shuffled"),
        (["--split", "tset"], "split 'tset' is not in"),
        (["--against", "dense.safetensors"], "--against 'dense.safetensors' must be NAME=MODEL"),
        (["-o", "audit.txt"], "audit.txt: an audit is written as .json"),
        (["--size", "small"], "--size 'small' is no size"),
    ],
)
def test_bad_options(audit, data, save, arguments, message):
    code, out, err = audit(save(), data, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert not list(data.parent.glob("*.audit.json"))


def test_models_that_cannot_be_audited(audit, data, save):
    code, _, err = audit(save(experts=0), data)
    assert code == 2
    assert "model has no routed layer to audit" in err
    code, _, err = audit(save("other.safetensors", classes=("a", "b")), data)
    assert code == 2
    assert "other.safetensors was trained for 2 classes" in err
    code, _, err = audit("enet_moe_camvod_nc", data)
    assert code == 2
    assert "did you mean enet_moe_camvid_nc" in err


def test_other_names_of_classes_are_told(audit, data, save):
    code, _, err = audit(save(classes=("Sky", "Road", "Bush")), data, "--quiet", "--controls", "uniform")
    assert code == 0
    assert "warning: " in err
    assert "names its classes Sky, Road, Bush, the data sky, road, tree" in err


def test_the_controls_in_the_help_are_the_library_s():
    assert ",".join(STANDARD) == auditing._CONTROLS


def test_tables_of_what_is_unknown():
    figures = {
        "score": {"name": "PSNR", "unit": "dB", "value": 30.0, "low": None, "high": None},
        "comparisons": [],
        "usage": {
            "head": {
                "experts": 1,
                "k": 1.0,
                "grid": [1, 1],
                "routing_entropy": None,
                "weight_entropy": None,
                "flatness": None,
                "top_assignment_share": 1.0,
                "top_patch_share": 1.0,
                "position_information": None,
                "assignment_share": [1.0],
                "patch_share": [1.0],
                "weight_share": [1.0],
            }
        },
        "classes": ["sky"],
        "verdict": "Undecided: [bold]there[/bold] is nothing to compare with.",
    }
    told = as_tables(figures)
    assert told.startswith("\n")
    assert "[bold]there[/bold]" in told
    assert "Routing entropy unknown of 1" in told
    assert "sky" not in told
