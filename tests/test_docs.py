"""The Python blocks of the pages run as they stand, one after another, in an empty folder."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from skimage import data

from moesaic import zoo

DOCS = Path(__file__).parents[1] / "docs"
MARK = "<!-- runnable -->"  # before a block; pages in WHOLE need none
WHOLE = ("index.md", "routing.md", "degradations.md", "restoration.md", "predict.md", "explain.md")
PAGES = (*WHOLE, "segmentation.md", "enlarging.md", "upscaling.md")
NEEDED = ("transformers", "onnx", "onnxscript")  # by some block, and not by moesaic itself


def blocks(text: str, *, marked: bool) -> Iterator[tuple[int, str]]:
    """Line numbers and sources of the Python blocks; with `marked` only of those behind the mark."""
    for found in re.finditer(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        before = text[: found.start()]
        if not marked or before.rstrip().endswith(MARK):
            yield before.count("\n") + 2, found[1]


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.filterwarnings("ignore:`isinstance:FutureWarning:copyreg")  # torch's exporter, about itself
def test_the_blocks_of_a_page_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = DOCS / page
    if not path.exists():
        pytest.skip(f"docs/{page} is not there")
    text = path.read_text(encoding="utf-8")
    found = list(blocks(text, marked=page not in WHOLE))
    if not found:
        pytest.skip(f"docs/{page} has no block to run")
    missing = [name for name in NEEDED if name in text and importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")
    monkeypatch.chdir(tmp_path)
    for name in ("street.jpg", "photo.jpg"):  # the pictures that the pages speak of
        Image.fromarray(data.astronaut()[:120, :160]).save(name)
    torch.manual_seed(0)
    names: dict[str, object] = {"__name__": "page"}
    for line, source in found:
        code = compile("\n" * (line - 1) + source, str(path), "exec")  # errors tell the line of the page
        exec(code, names)


@pytest.mark.parametrize("page", [DOCS.parent / "README.md", DOCS / "restoration.md"], ids=lambda page: page.name)
def test_licences_are_those_of_the_cards(page: Path) -> None:
    text = page.read_text(encoding="utf-8").partition("Licence")[2]
    cards = [zoo.model_card(name) for name in zoo.list_models()]
    told = [card for card in cards if card is not None and (page.name == "README.md" or card.task == "restore")]
    assert told
    for card in told:
        assert card.licence in text, card.name
        assert page.name != "README.md" or f"`{card.name}` (`{card.task}`): {card.licence}" in text


def test_blocks_are_found_by_their_mark() -> None:
    text = f"```python\na\n```\n\n{MARK}\n\n```python\nb\nc\n```\n```sh\nd\n```\n"
    assert list(blocks(text, marked=False)) == [(2, "a\n"), (8, "b\nc\n")]
    assert list(blocks(text, marked=True)) == [(8, "b\nc\n")]
