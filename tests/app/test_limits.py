"""The limits in the docs are those of the code."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path

from moesaic.app.limits import Limits


def test_the_table_says_what_the_code_has():
    page = (Path(__file__).parents[2] / "docs" / "serve.md").read_text("utf-8")
    table = page.partition("<!-- limits -->")[2].partition("<!-- end of limits -->")[0]
    told = {name: float(value.replace(",", "")) for name, value in re.findall(r"\| `(\w+)` \| ([\d.,]+) \|", table)}
    assert told == {name: float(value) for name, value in asdict(Limits()).items()}
