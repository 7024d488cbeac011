"""Pages whose tables are written from records: what a report is asked for, and texts between marks."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.record import RESULTS, ROOT, Row, read


def asked_for(
    description: str | None, names: Sequence[str], arguments: list[str] | None
) -> tuple[dict[str, Row | None], Path]:
    """The records of these names, None where one is missing, and the folder of the pages, by a report's options."""
    options = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    options.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where the records are")
    options.add_argument("--docs", type=Path, default=ROOT / "docs", metavar="DIR", help="where the pages are")
    asked = options.parse_args(arguments)
    paths = {name: asked.results / f"{name}.json" for name in names}
    return {name: read(path) if path.exists() else None for name, path in paths.items()}, asked.docs


def renew(document: Path, texts: Mapping[str, str]) -> None:
    """Put each text between its marks in a document; a document that is missing stays so.

    Raises:
        ValueError: the document has no such marks.
    """
    if not document.exists():
        return
    page = document.read_text(encoding="utf-8")
    for name, text in texts.items():
        marks = re.compile(f"<!-- {name} -->.*?<!-- end of {name} -->", re.DOTALL)
        if not marks.search(page):
            raise ValueError(f"{document.name} has no block between <!-- {name} --> and <!-- end of {name} -->")
        block = marked(name, text)
        page = marks.sub(lambda _, block=block: block, page)
    document.write_text(page, encoding="utf-8")


def marked(name: str, text: str) -> str:
    """A text between its marks."""
    return f"<!-- {name} -->\n{text}\n<!-- end of {name} -->"
