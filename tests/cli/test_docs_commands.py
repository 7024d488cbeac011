"""Every command in the docs: those for small pictures run as they stand, page by page, and the others are read.

Read alone are trainings and audits, which take minutes, and what needs a cluster. Reading finds options that are not
there, values that are none, and inputs that lack.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from PIL import Image
from skimage import data

import moesaic
from moesaic.cli.verbs import app

ROOT = Path(__file__).parents[2]
WEIGHTS = Path(moesaic.__file__).parent / "weights"
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
READ_ALONE = ("train", "audit", "serve")  # verbs
VARIABLES = {"$DATA": "data", "$SLURM_ARRAY_TASK_ID": "1", "$((JOB_COMPLETION_INDEX + 1))": "1", "$i": "1"}
RUNS = {"predict.md": "stages_predict", "segmentation.md": "enet_moe_camvid_nc"}  # what RUN stands for on a page


def commands(text: str) -> Iterator[list[str]]:
    """The arguments of each command of a page, without `moesaic`; `> file` stays at the end."""
    for fenced in re.finditer(r"^```(?!python)\w*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        for line in fenced[1].replace("\\\n", " ").splitlines():
            found = re.match(r"\s*(?:- |for .*; do ssh \S+ )?moesaic (\w.*)", line)
            if found:
                yield shlex.split(_without_variables(found[1]).partition(" & done")[0], comments=True)


def _without_variables(line: str) -> str:
    for name, value in VARIABLES.items():
        line = line.replace(name, value)
    return line


ALL = [
    pytest.param(
        page, [words for words in commands(page.read_text("utf-8")) if words[0] not in READ_ALONE], id=page.name
    )
    for page in PAGES
]


@pytest.mark.filterwarnings("ignore:::ray", "ignore:::pyarrow", "ignore:::pandas")
@pytest.mark.parametrize(("page", "found"), [one for one in ALL if one.values[1]])
def test_the_commands_of_a_page_run(page, found, moe, tmp_path, pictures):
    del pictures
    if page.name in RUNS:
        shutil.copy(WEIGHTS / f"{RUNS[page.name]}.safetensors", tmp_path / "RUN.safetensors")
    if page.name == "batch.md" or page.name == "scale.md":
        far = ("/data", "data/photos", "s3://")  # folders that are nowhere
        found = [words for words in found if not any(name in word for word in words for name in far)]
        if importlib.util.find_spec("ray") is None:
            found = [words for words in found if "ray" not in words]
    for words in found:
        arguments = [file for word in words for file in _as_the_shell_has_it(word, tmp_path)]
        target = arguments.index(">") if ">" in arguments else len(arguments)
        ran = moe(*arguments[:target], *(["--force"] if _takes_force(words) else []))
        assert ran.code == 0, (words, ran.err)
        if target < len(arguments):
            (tmp_path / arguments[target + 1]).write_text(ran.out)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_can_be_read(page):
    for words in commands(page.read_text("utf-8")):
        command = typer.main.get_command(app)
        words = words[: words.index(">")] if ">" in words else words
        while hasattr(command, "commands"):
            assert words[0] in command.commands, words
            command, words = command.commands[words[0]], words[1:]
        if "--help" not in words:
            command.make_context(command.name, words)  # raises what a wrong option raises


def test_commands_are_found():
    text = "```sh\nmoesaic a b.png \\\n  -c 'd e'   # told\n$ no\n```\n```python\nmoesaic x\n```\n"
    assert list(commands(text)) == [["a", "b.png", "-c", "d e"]]
    assert sum(len(list(commands(page.read_text("utf-8")))) for page in PAGES) > 60


def _as_the_shell_has_it(word: str, folder: Path) -> list[str]:
    if word == "RUN":  # a folder of a run stands for its weights
        return ["RUN.safetensors"]
    return sorted(path.name for path in folder.glob(word)) if "*" in word else [word]


def _takes_force(words: list[str]) -> bool:
    return words[0] not in ("info", "compare", "estimate", "models") and "--help" not in words


@pytest.fixture
def pictures(tmp_path) -> None:
    """The pictures that the pages speak of, small."""
    photo = data.astronaut()[20:84, 160:256]
    for name in ("photo.jpg", "street.jpg", "web.jpg", "photo.png", "noisy.png", "small.png"):
        Image.fromarray(photo).save(tmp_path / name, quality=70)
    for folder in ("photos", "folder", "photos/below"):
        (tmp_path / folder).mkdir()
        Image.fromarray(photo[:48, :48]).save(tmp_path / folder / f"{folder[-1]}.png")
    mixture = moesaic.predict(photo, experts=100)
    for name in ("photo.moe", "picture.moe"):
        moesaic.save(mixture, tmp_path / name)
