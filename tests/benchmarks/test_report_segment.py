"""The report on segmentation, from records that are made up."""

import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report, report_segment
from benchmarks.pages import renew
from benchmarks.record import ROOT, Record
from benchmarks.report_segment import BLOCKS, CONTROLS, blocks, headline, outcome, standing

WON = {"gain": 2.0, "by_seed": [1.9, 2.0, 2.1], "seeds_95": [1.7, 2.3], "frames_95": [0.4, 3.1]}
OPEN = {"gain": 0.5, "by_seed": [-0.5, 0.5, 1.5], "seeds_95": [-2.0, 3.0], "frames_95": [0.1, 0.9]}
LOST = {"gain": -1.25, "by_seed": [-1.0, -1.25, -1.5], "seeds_95": [-1.9, -0.6], "frames_95": [-2.0, -0.5]}
GATE = {"routing_entropy": 0.97, "flatness": 0.91, "assignment_share": [0.25, 0.75], "position_information": 0.4}
RECIPE = {"size": [144, 192], "epochs": 16}


def _arm(name: str, score: float, split: str = "test", deviation: float | None = 0.5) -> dict[str, Any]:
    row = {"arm": name, "seeds": 3, "parameters": 364_000, f"{split}_miou": score, "deviation": deviation}
    return row | ({"val_miou": 60.0} if split == "test" else {})


def _compared(folder: Path, network: str, against: dict[str, dict[str, Any]]) -> Record:
    settings = {"recipe": RECIPE, "scored": "test", "arms": ["moe", "dense"]}
    record = Record(f"segment_{network}", settings=settings, folder=folder, module="benchmarks.segment")
    for seed in range(3):
        routed = {"arm": "moe", "seed": seed, "routing": {"stage4.1.conv": GATE}}
        record.put("trainings", f"moe/seed {seed}", routed)
        record.put("trainings", f"dense/seed {seed}", {"arm": "dense", "seed": seed, "routing": {}})
    for name, score in (("moe", 45.5), ("dense", 45.0)):
        record.put("arms", name, _arm(name, score))
    for name, row in against.items():
        record.put("routed against", name, row)
    return record


def _all(row: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return dict.fromkeys((*CONTROLS, "uniform in use"), row)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "argv", ["x"])
    return tmp_path / "results"


def _read(results: Path) -> dict[str, Any]:
    from benchmarks.record import read

    paths = {name: results / f"{name}.json" for name in report_segment.NAMES}
    return {name: read(path) if path.exists() else None for name, path in paths.items()}


def test_standing_needs_both_intervals() -> None:
    assert [standing(row) for row in (WON, OPEN, LOST)] == ["ahead", "open", "behind"]
    assert standing({**WON, "frames_95": [-0.1, 4.0]}) == "open"
    assert standing({name: value for name, value in WON.items() if name != "seeds_95"}) == "open"
    assert standing({**OPEN, "gain": 0.0}) == "behind"


def test_helps_only_if_every_control_is_beaten(results: Path) -> None:
    assert outcome(None) is None
    assert outcome(_compared(results, "enet", {}).content) is None
    assert outcome(_compared(results, "enet", _all(WON)).content) == "helps"
    for control in CONTROLS:
        assert outcome(_compared(results, "enet", _all(WON) | {control: OPEN}).content) == "undecided"
        assert outcome(_compared(results, "enet", _all(OPEN) | {control: LOST}).content) == "does not"
        missing = {name: row for name, row in _all(WON).items() if name != control}
        assert outcome(_compared(results, "enet", missing).content) == "undecided"
    assert outcome(_compared(results, "enet", _all(WON) | {"uniform in use": LOST}).content) == "helps"  # no rival


@pytest.mark.parametrize(
    ("outcomes", "says"),
    [
        ({}, "Whether patch routing helps is not measured yet"),
        ({"ENet": "helps"}, "On CamVid, patch routing helps ENet: there it beats every control"),
        ({"ENet": "undecided"}, "On CamVid, whether patch routing helps ENet is undecided."),
        (
            {"ENet": "does not", "ERFNet": "does not"},
            "On CamVid, patch routing does not beat its controls in ENet and ERF",
        ),
        (
            {"ENet": "helps", "ERFNet": "does not"},
            "On CamVid, patch routing does not beat its controls in ERFNet; patch routing helps ENet",
        ),
    ],
)
def test_the_first_sentence(outcomes: dict[str, str], says: str) -> None:
    assert headline(outcomes).startswith(says)


def test_the_verdict_comes_first_and_names_each_control(results: Path) -> None:
    _compared(results, "enet", _all(WON) | {"dense": LOST, "random": OPEN})
    verdict = blocks(_read(results))["segmentation verdict"]
    assert verdict.startswith("On CamVid, patch routing does not beat its controls in ENet.\n")
    assert "trained at 192x144 for 16 epochs: the routed network has 45.50 mIoU" in verdict
    assert "it gains nothing over dense (-1.25); its gain may be 0 over random experts (+0.50); it is ahead" in verdict
    assert "it is ahead of dense widened to as many parameters (+2.00), even average" in verdict
    assert "not compared" not in verdict


def test_the_tables(results: Path) -> None:
    _compared(results, "enet", _all(OPEN) | {"dense": LOST})
    cost = Record("segment_cost", settings=_COST_SETTINGS, folder=results)
    for name, times in (("dense", 1.0), ("moe", 1.23)):
        cost.put("arms", f"enet/{name}", _cost(name, times))
    text = blocks(_read(results))
    compared = text["segmentation comparisons"]
    assert "| patch mixture | 364,000 | 1,230.0 | 24.6 | 1.23 | 3 | 45.50 ± 0.50 |" in compared
    assert "| dense | -1.25 | [-1.90, -0.60] | [-2.00, -0.50] | -1.00, -1.25, -1.50 | **not beaten** |" in compared
    assert "| random experts | +0.50 | [-2.00, +3.00] | [+0.10, +0.90] | -0.50, +0.50, +1.50 | undecided |" in compared
    assert "gate of stage4.1.conv, mean over seeds: evenness of use 0.970 of 1" in compared
    assert "the most used expert takes 75.0% of the assignments" in compared
    assert "Not measured: `benchmarks/results/segment_erfnet.json` is not there" in compared
    assert "| enet, moe | 364,000 | 1,230.0 | 24.6 | 1.23 | +23.00 % |" in text["segmentation cost"]


_COST_SETTINGS = {"size": [360, 480], "threads": 2, "precision": "float32", "experts": 8, "k": 2, "grid": 3}


def _cost(name: str, times: float) -> dict[str, Any]:
    row = {"network": "enet", "arm": name, "parameters": 364_000, "multiply_adds": round(times * 1e9)}
    return row | {"time": {"median_ms": 20 * times}, "times_dense": times}


def test_an_older_record_has_the_gate_without_its_layer(results: Path) -> None:
    record = _compared(results, "enet", _all(WON))
    record.put("trainings", "moe/seed 0", {"arm": "moe", "seed": 0, "routing": GATE})
    assert "The learned gate, mean over seeds: evenness" in blocks(_read(results))["segmentation comparisons"]


def test_every_configuration_of_the_search_is_told(results: Path) -> None:
    settings = {"recipe": RECIPE | {"epochs": 5}, "scored": "val, logits enlarged to 480x360"}
    record = Record("segment_search", settings=settings, folder=results, module="benchmarks.segment")
    for name in ("dense", "k = 1", "grid 6"):
        record.put("arms", name, _arm(name, 61.0, split="val", deviation=None))
    for name in ("k = 1", "grid 6"):
        record.put("against dense", name, OPEN)
    record.put("in use", "k = 1/shuffled", WON)
    text = blocks(_read(results))["segmentation search"]
    assert "scored on val" in text
    assert "| dense | 364,000 | 3 | 61.00 | - | - | - |" in text
    assert "| k = 1 | 364,000 | 3 | 61.00 | +0.50 | [+0.10, +0.90] | +2.00 |" in text
    assert "| grid 6 | 364,000 | 3 | 61.00 | +0.50 | [+0.10, +0.90] | - |" in text


def test_nothing_measured_is_said(results: Path) -> None:
    text = blocks(_read(results))
    assert text["segmentation verdict"].startswith("Whether patch routing helps is not measured yet")
    assert sum(part.count("Not measured") for part in text.values()) == 4


def test_blocks_are_renewed_and_all_else_stays(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- x -->\nold \\1\n<!-- end of x -->\nb\n", encoding="utf-8")
    for _ in range(2):
        renew(page, {"x": r"new \g<1>"})
        assert page.read_text(encoding="utf-8") == "a\n<!-- x -->\nnew \\g<1>\n<!-- end of x -->\nb\n"
    with pytest.raises(ValueError, match="no block between"):
        renew(page, {"y": ""})
    renew(tmp_path / "missing.md", {"y": ""})
    assert not (tmp_path / "missing.md").exists()


def test_the_pages_have_the_marks() -> None:
    page = (ROOT / "docs" / "segmentation.md").read_text(encoding="utf-8")
    for name in BLOCKS:
        assert page.count(f"<!-- segmentation {name} -->\n") == 1
        assert page.count(f"<!-- end of segmentation {name} -->\n") == 1
    assert (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8").count("<!-- segmentation -->\n") == 1


def test_both_commands_write_the_same(results: Path, tmp_path: Path) -> None:
    _compared(results, "erfnet", _all(WON))
    docs = tmp_path / "docs"
    docs.mkdir()
    marks = (f"<!-- segmentation {name} -->\n<!-- end of segmentation {name} -->\n" for name in BLOCKS)
    (docs / "segmentation.md").write_text("".join(marks), encoding="utf-8")
    arguments = ["--results", str(results), "--docs", str(docs)]
    report.main(arguments)
    whole = [(docs / f"{name}.md").read_text(encoding="utf-8") for name in ("benchmarks", "segmentation")]
    assert all("On CamVid, patch routing helps ERFNet" in page for page in whole)
    report_segment.main(arguments)
    assert whole == [(docs / f"{name}.md").read_text(encoding="utf-8") for name in ("benchmarks", "segmentation")]
