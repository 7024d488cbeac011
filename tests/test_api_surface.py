"""The public names are those of the checked-in list, and importing the package alone loads nothing heavy."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest

import moesaic

SURFACE = json.loads(Path(__file__).with_name("api_surface.json").read_text())
HEAVY = ("torch", "numba", "numpy", "PIL", "typer", "rich", "constriction", "safetensors")


def test_public_names_equal_the_checked_in_list():
    assert sorted(moesaic.__all__) == SURFACE["moesaic"]


def test_every_public_name_is_listed_by_dir():
    assert set(SURFACE["moesaic"]) <= set(dir(moesaic))


@pytest.mark.parametrize("name", SURFACE["moesaic"])
def test_every_public_name_is_there_and_is_the_one_of_its_home(name):
    value = getattr(moesaic, name)
    if (home := moesaic._HOMES.get(name)) == f"moesaic.{name}":
        assert value is importlib.import_module(home)  # a folder that can be called
        assert callable(value)
    elif home:
        assert value is getattr(importlib.import_module(home), name)
    else:
        assert name == "__version__"


def test_editors_and_the_lazy_table_see_the_same_homes():
    tree = ast.parse(Path(moesaic.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    for folder in ("degrade", "explain", "predict", "restore", "segment", "upscale"):
        seen[folder] += f".{folder}"  # a folder that can be called
    assert seen == moesaic._HOMES


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        moesaic.no_such_name  # noqa: B018


def test_the_version_is_that_of_the_distribution():
    assert moesaic.__version__ == importlib.metadata.version("moesaic")


def test_import_loads_nothing_heavy():
    code = "import sys; before = set(sys.modules); import moesaic; print('\\n'.join(set(sys.modules) - before))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert "moesaic" in loaded
    assert not loaded & set(HEAVY)
    assert {name.split(".")[0] for name in loaded} <= {*sys.stdlib_module_names, "moesaic"}
    assert len(loaded) <= 40  # importlib, typing and what these bring


def test_pictures_do_not_load_torch_or_numba():
    code = "import sys, moesaic; moesaic.read_picture; print('\\n'.join(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(run.stdout.split()) & {"torch", "numba", "tifffile", "imagecodecs"}
