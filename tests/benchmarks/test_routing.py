import sys
from pathlib import Path

import pytest
import torch

from benchmarks import routing
from benchmarks.record import read, rows


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["x"])
    monkeypatch.setattr(routing, "SHAPES", {"4 @ 12x9": (4, 12, 9)})


@pytest.mark.parametrize("layout", routing.FORMS.values())
def test_all_forms_of_dispatch_do_the_same_work(layout: torch.memory_format) -> None:
    turns = routing.rivals(4, 12, 9, 2, layout, gradient=False)
    assert list(turns) == ["dense", *routing.COLUMNS]
    torch.testing.assert_close(turns["gather"](), turns["merged"]())
    torch.testing.assert_close(turns["reference"](), turns["merged"]())
    gradients = {name: turn() for name, turn in routing.rivals(4, 12, 9, 2, layout, gradient=True).items()}
    for got, want in zip(gradients["gather"], gradients["merged"], strict=True):
        assert (got is None) == (want is None)
        if want is not None:
            torch.testing.assert_close(got, want)
    assert sum(g is not None for g in gradients["dense"]) == 3  # of map, kernel and constants
    assert sum(g is not None for g in gradients["whole layer"]) == 7  # and of the gate's four


def test_a_record_and_a_table_of_ratios(small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    routing.main(["--results", str(tmp_path), "--turns", "3", "--threads", "1"])
    record = read(tmp_path / "routing.json")
    found = rows(record, "speed")
    assert len(found) == 8  # batches, memory formats, with and without gradients
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- routing speed -->\nold\n<!-- end of routing speed -->\nafter\n", encoding="utf-8")
    for _ in range(2):
        routing.write_table(tmp_path / "routing.json", page)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- routing speed -->\nTimes the median")
    assert text.endswith("<!-- end of routing speed -->\nafter\n")
    assert "old" not in text
    first = found[0]["times"]
    ratio = first["merged"]["median_ms"] / first["dense"]["median_ms"]
    assert f"| 4 @ 12x9, batch 1, channels first | forward | {ratio:.1f} |" in text
    assert "8 experts, k = 2, 1 thread." in text


def test_a_page_without_its_block_is_left_alone(small: None, tmp_path: Path) -> None:
    routing.main(["--results", str(tmp_path), "--turns", "3", "--threads", "1"])
    page = tmp_path / "page.md"
    page.write_text("nothing\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="must hold <!-- routing speed -->"):
        routing.write_table(tmp_path / "routing.json", page)
    assert page.read_text(encoding="utf-8") == "nothing\n"
