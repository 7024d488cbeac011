"""The command answers at once: --help and --version load neither torch nor anything else that takes long."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import moesaic

HEAVY = {"torch", "numba", "numpy", "PIL", "constriction", "safetensors", "scipy", "skimage"}
MODULES = 550  # 420 with typer 0.29 and rich 15; torch alone adds 1,500

_LIST = """
import json, sys
from moesaic.cli import main
code = main(sys.argv[1:])
print(json.dumps({"code": code, "modules": sorted(sys.modules)}))
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["encode", "--help"],
        ["decode", "-h"],
        ["info", "--help"],
        ["batch", "restore", "--help"],
        ["encode"],
    ],
)
def test_help_loads_nothing_heavy(arguments):
    ran = subprocess.run([sys.executable, "-c", _LIST, *arguments], capture_output=True, text=True, check=True)
    told = json.loads(ran.stdout.splitlines()[-1])
    assert told["code"] == (2 if arguments == ["encode"] else 0)
    assert HEAVY.isdisjoint(told["modules"])
    assert len(told["modules"]) < MODULES


def test_python_m_moesaic_is_the_command():
    ran = subprocess.run([sys.executable, "-m", "moesaic", "--version"], capture_output=True, text=True, check=True)
    assert ran.stdout == f"moesaic {moesaic.__version__}\n"
    missing = [sys.executable, "-m", "moesaic", "info", "no.moe"]
    failed = subprocess.run(missing, capture_output=True, text=True, check=False)
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr == "moesaic: no.moe: there is no such file\n"


def test_no_verb_shows_the_help(moe):
    ran = moe()
    assert ran.code == 2
    assert "encode" in ran.out + ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["encode"], "Missing argument 'INPUT'"),
        (["encode", "a.png", "--experts", "many"], "'--experts'"),
        (["encode", "a.png", "--experts", "0"], "'--experts'"),
        (["encode", "a.png", "--bpp", "-1"], "'-1' is no number above 0"),
        (["encode", "a.png", "--psnr", "nan"], "'nan' is no number above 0"),
        (["encode", "a.png", "--metadata", "some"], "'--metadata'"),
        (["encode", "a.png", "--bpp", "1", "--psnr", "30"], "exclude each other"),
        (["encode", "a.png", "-o", "b.png"], "encode writes files in .moe"),
        (["encode", "a.png", "--nonsense"], "--nonsense"),
        (["decode", "a.moe", "--scale", "2", "--size", "8x8"], "exclude each other"),
        (["decode", "a.moe", "--size", "8"], "WIDTHxHEIGHT"),
        (["decode", "a.moe", "--depth", "12"], "--depth is 8 or 16"),
        (["decode", "a.moe", "--format", "gif"], "gif"),
        (["decode", "a.moe", "-o", "b"], "suffix"),
        (["nonsense"], "nonsense"),
    ],
)
def test_wrong_options_are_one_line_and_code_2(moe, arguments, says):
    ran = moe(*arguments)
    assert ran.code == 2
    assert ran.out == ""
    assert len(ran.errors) == 1
    assert says in ran.errors[0]
