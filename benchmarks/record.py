"""Results as JSON: what was measured, on which commit, on what kind of machine, by which command.

A record is written anew after every row: a run that is stopped keeps what it has, and `--resume` goes on from there.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import re
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SCHEMA = 1
LIBRARIES = ("moesaic", "torch", "numpy", "numba", "pillow", "constriction", "scikit-image")
_FIELDS: dict[str, type] = {
    "schema": int,
    "name": str,
    "commit": str,
    "dirty": bool,
    "date": str,
    "machine": dict,
    "commands": list,
    "versions": dict,
    "settings": dict,
    "results": dict,
}
_MACHINE: dict[str, type] = {
    "processor": str,
    "vectors": str,
    "architecture": str,
    "cores": int,
    "memory_gib": int,
    "system": str,
}
_PATH = re.compile(r"(?:^|[\s='\":,])(?:~?/|\\\\|[A-Za-z]:[\\/])\w")  # an absolute path on any system

Row = dict[str, Any]


class Record:
    """A growing file of results: sections of rows, each row under a key that says what it measured."""

    def __init__(
        self, name: str, *, settings: Row, folder: Path | None = None, resume: bool = False, module: str | None = None
    ) -> None:
        self.path = (folder or RESULTS) / f"{name}.json"
        state = commit()
        self.content: Row = {
            "schema": SCHEMA,
            "name": name,
            "commit": state["commit"],
            "dirty": state["dirty"],
            "date": dt.datetime.now(dt.UTC).date().isoformat(),
            "machine": machine(),
            "commands": [command(module or f"benchmarks.{name}")],
            "versions": versions(),
            "settings": settings,
            "results": {},
        }
        if resume and self.path.exists():
            self._take_over(read(self.path))

    def _take_over(self, earlier: Row) -> None:
        """Keep an earlier run's rows, if they would come out of the same code with the same settings."""
        for field in ("commit", "machine", "versions", "settings"):
            if json.loads(json.dumps(self.content[field])) != earlier[field]:
                raise SystemExit(
                    f"{self.path.name} has another {field}: run without --resume to measure everything anew"
                )
        self.content["dirty"] = self.content["dirty"] or earlier["dirty"]
        self.content["commands"] = [*earlier["commands"], *self.content["commands"]]
        self.content["results"] = earlier["results"]

    def has(self, section: str, key: str) -> bool:
        """Whether that row is there already."""
        return key in self.content["results"].get(section, {})

    def put(self, section: str, key: str, row: Row) -> None:
        """Add a row and write the file."""
        self.content["results"].setdefault(section, {})[key] = row
        write(self.path, self.content)


def write(path: Path, content: Row) -> None:
    """Check a record and write it whole."""
    check(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    beside.replace(path)


def read(path: Path) -> Row:
    """A record that has been checked."""
    content: Row = json.loads(path.read_text(encoding="utf-8"))
    check(content)
    return content


def rows(record: Row | None, section: str) -> list[Row]:
    """The rows of a section, in the order of their keys' first writing; none where the section was not run."""
    return list(record["results"].get(section, {}).values()) if record else []


def check(content: Row) -> None:
    """Refuse a record that lacks a field, has one of another type, or tells where on a machine something lay."""
    _check_fields(content, _FIELDS, "the record")
    _check_fields(content["machine"], _MACHINE, "machine")
    if content["schema"] != SCHEMA:
        raise ValueError(f"schema {content['schema']} is not {SCHEMA}")
    if not re.fullmatch(r"[0-9a-f]{40}|unknown", content["commit"]):
        raise ValueError(f"commit {content['commit']!r} is not a full hash")
    if not content["commands"] or not all(isinstance(c, str) and c for c in content["commands"]):
        raise ValueError("commands must name at least one command")
    for section, table in content["results"].items():
        if not isinstance(table, dict) or not all(isinstance(row, dict) for row in table.values()):
            raise ValueError(f"section {section} must hold rows under keys")
    for text in _strings(content):
        if _PATH.search(text):
            raise ValueError(f"a record must not hold a path of a machine: {text!r}")


def _check_fields(content: Row, fields: dict[str, type], what: str) -> None:
    if set(content) != set(fields):
        raise ValueError(f"{what} must have exactly the fields {sorted(fields)}, not {sorted(content)}")
    for field, kind in fields.items():
        if not isinstance(content[field], kind) or (kind is int and isinstance(content[field], bool)):
            raise ValueError(f"{what}: {field} must be {kind.__name__}, not {content[field]!r}")


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [s for k, v in value.items() for s in (*_strings(k), *_strings(v))]
    if isinstance(value, list | tuple):
        return [s for v in value for s in _strings(v)]
    return [value] if isinstance(value, str) else []


def commit() -> Row:
    """The commit checked out, and whether files other than results and docs differ from it."""
    try:
        head = _git("rev-parse", "HEAD").strip()
        changed = _git("status", "--porcelain", "--", ".", ":!benchmarks/results", ":!docs")
    except (OSError, subprocess.CalledProcessError):
        return {"commit": "unknown", "dirty": True}
    return {"commit": head, "dirty": bool(changed.strip())}


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def command(module: str) -> str:
    """The command line of this process; absolute paths are cut down to their last part."""
    arguments = [Path(a).name if Path(a).is_absolute() else a for a in sys.argv[1:]]
    return shlex.join(["python", "-m", module, *arguments])


def versions() -> dict[str, str]:
    """Of Python and the libraries that decide the figures."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    if found["moesaic"] == "not installed":  # run from the source tree
        import moesaic

        found["moesaic"] = moesaic.__version__
    return found


def machine() -> Row:
    """The machine in general words: nothing that names it."""
    details = _cpuinfo()
    flags = set(details.get("flags", "").split())
    widest = next((name for flag, name in _VECTORS if flag in flags), "unknown")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {
        "processor": details.get("model name") or platform.processor() or "unknown",
        "vectors": widest if flags else "NEON" if platform.machine().lower() in ("arm64", "aarch64") else "unknown",
        "architecture": platform.machine(),
        "cores": cores,
        "memory_gib": _memory_gib(),
        "system": platform.system(),
    }


_VECTORS = (("avx512f", "AVX-512"), ("avx2", "AVX2"), ("avx", "AVX"), ("sse2", "SSE2"))


def _cpuinfo() -> dict[str, str]:
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0]
    except OSError:
        return {}
    return {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in first.splitlines())}


def _memory_gib() -> int:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    except (ValueError, OSError, AttributeError):
        return 0
