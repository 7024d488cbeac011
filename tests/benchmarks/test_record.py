import json
import sys
from pathlib import Path

import pytest

from benchmarks import record


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> record.Record:
    monkeypatch.setattr(sys, "argv", ["x", "--pictures", str(tmp_path / "somewhere" / "kodak"), "--only", "1"])
    return record.Record("trial", settings={"threads": 1}, folder=tmp_path)


def test_a_record_says_where_it_comes_from_and_nothing_about_the_machine_s_folders(made: record.Record) -> None:
    made.put("pictures", "one", {"psnr": 30.0})
    content = record.read(made.path)
    assert content["commands"] == ["python -m benchmarks.trial --pictures kodak --only 1"]
    assert content["results"] == {"pictures": {"one": {"psnr": 30.0}}}
    assert content["machine"]["cores"] >= 1
    assert content["versions"]["torch"].startswith("2.")
    assert str(made.path.parent) not in made.path.read_text()


@pytest.mark.parametrize("path", ["/home/x/kodak", "read --in=/data/x", "C:\\data\\x", "~/x", "see '/tmp/x'"])
def test_paths_of_a_machine_are_refused(made: record.Record, path: str) -> None:
    with pytest.raises(ValueError, match="must not hold a path"):
        made.put("pictures", "one", {"note": path})
    assert not made.path.exists()


@pytest.mark.parametrize("words", ["render / render + gradient", "../shared/data/kodak", "26.1 / 0.73 / 1.2", "Q: yes"])
def test_words_with_slashes_are_not_paths(made: record.Record, words: str) -> None:
    made.put("pictures", "one", {"note": words})
    assert made.has("pictures", "one")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("commit", "abc"),
        ("dirty", "no"),
        ("commands", []),
        ("schema", 2),
        ("results", {"pictures": [1]}),
        ("machine", {}),
    ],
)
def test_the_schema_is_held(made: record.Record, field: str, value: object) -> None:
    record.check(made.content)
    with pytest.raises(ValueError, match=r"\w"):
        record.check({**made.content, field: value})


def test_missing_and_extra_fields_are_refused(made: record.Record) -> None:
    with pytest.raises(ValueError, match="exactly the fields"):
        record.check({k: v for k, v in made.content.items() if k != "commit"})
    with pytest.raises(ValueError, match="exactly the fields"):
        record.check({**made.content, "host": "x"})


def test_figures_that_are_not_numbers_are_refused(made: record.Record) -> None:
    with pytest.raises(ValueError, match="JSON"):
        made.put("pictures", "one", {"psnr": float("nan")})


def test_resume_keeps_rows_of_the_same_code_and_settings_only(made: record.Record) -> None:
    made.put("pictures", "one", {"psnr": 30.0})
    again = record.Record("trial", settings={"threads": 1}, folder=made.path.parent, resume=True)
    assert again.has("pictures", "one")
    assert len(again.content["commands"]) == 2
    with pytest.raises(SystemExit, match="settings"):
        record.Record("trial", settings={"threads": 2}, folder=made.path.parent, resume=True)
    older = json.loads(made.path.read_text()) | {"commit": "0" * 40}
    made.path.write_text(json.dumps(older))
    with pytest.raises(SystemExit, match="commit"):
        record.Record("trial", settings={"threads": 1}, folder=made.path.parent, resume=True)
    fresh = record.Record("trial", settings={"threads": 1}, folder=made.path.parent)
    assert not fresh.has("pictures", "one")


def test_results_in_the_repository_fit_the_schema() -> None:
    for path in record.RESULTS.glob("*.json"):
        record.read(path)
