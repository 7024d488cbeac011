"""Large pictures from disk to disk: seconds, and the most memory that a process held, in bands and as a whole.

Each row is one command in a fresh process. The picture is made of a photograph that ships with scikit-image, enlarged
and mirrored, with noise so that no two places are equal; the mixture that `decode` draws is predicted from it. What
takes longer than the limit is ended, and its row says so. "whole" is the same command with streaming off.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import moesaic
from benchmarks.pictures import numbers, parser
from benchmarks.record import Record, Row
from moesaic.picture import Frame
from moesaic.rows import write_rows

STREAMING: dict[str, list[str]] = {
    "decode": ["decode", "{moe}", "--size", "{width}x{height}"],
    "restore": ["restore", "{png}"],
    "segment": ["segment", "{png}"],
    "upscale": ["upscale", "{small}", "--scale", "2"],
}
"""Commands by name; sizes are those of the larger of input and output."""

OTHERS: dict[str, list[str]] = {
    "restore, JPEG": ["restore", "{jpg}", "-o", "{made}.jpg"],
    "degrade": ["degrade", "{png}", "--kind", "noise"],
    "encode --fast": ["encode", "{png}", "--fast"],
    "encode": ["encode", "{png}"],
    "denoise": ["denoise", "{png}"],
    "enlarge": ["enlarge", "{small}", "--scale", "2"],
}
"""Commands that have the whole picture in memory, and restoration where only the decoder has."""

RUN = """
import sys
from moesaic import rows
from moesaic.cli import main
if sys.argv[1] == "whole":
    rows.LARGE = 2**62
code = main(sys.argv[2:])
status = open("/proc/self/status").read()
print(code, round(int(status.split("VmHWM:")[1].split()[0]) / 1024))
"""


def main(arguments: list[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--megapixels", type=numbers, default=(25, 100), metavar="25,100")
    options.add_argument("--verbs", default=",".join(STREAMING), help="those that stream, in their order")
    options.add_argument(
        "--whole", type=numbers, default=(25, 100), metavar="25,100", help="sizes done as a whole, too"
    )
    options.add_argument("--others", type=int, default=25, help="megapixels for all other verbs; 0: none")
    options.add_argument("--limit", type=float, default=900.0, metavar="SECONDS", help="for each command")
    asked = options.parse_args(arguments)
    record = Record(
        "large_pictures",
        settings={"shared_machine": True},
        folder=asked.results,
        resume=asked.resume,
        module="benchmarks.large",
    )
    with tempfile.TemporaryDirectory() as folder:
        for verb in filter(None, asked.verbs.split(",")):
            for megapixels in asked.megapixels:
                for way in ("bands", *(["whole"] if megapixels in asked.whole else [])):
                    key = f"{verb}, {megapixels} MP, {way}"
                    _once(record, "streaming", key, Path(folder), STREAMING[verb], megapixels, way, asked.limit)
        for verb, words in OTHERS.items() if asked.others else ():
            key = f"{verb}, {asked.others} MP"
            way = "bands" if verb.startswith("restore") else "whole"
            _once(record, "others", key, Path(folder), words, asked.others, way, asked.limit)


def _once(
    record: Record, section: str, key: str, folder: Path, words: list[str], megapixels: int, way: str, limit: float
) -> None:
    if not record.has(section, key):
        verb = key.partition(f", {megapixels} MP")[0]
        row = {
            "verb": verb,
            "megapixels": megapixels,
            "way": way,
            "limit_s": limit,
            **measure(folder, words, megapixels, way, limit),
        }
        record.put(section, key, row)
        print(key, row, flush=True)


def measure(folder: Path, words: list[str], megapixels: int, way: str, limit: float) -> Row:
    """One command in a process of its own; None for figures that it did not live to tell."""
    side = round((megapixels * 1e6) ** 0.5)
    made = folder / "made"
    places: dict[str, Any] = {"width": side, "height": side, "made": made}
    for name in ("png", "small", "moe", "jpg"):
        if any(f"{{{name}}}" in word for word in words):
            places[name] = _given(folder, name, side)
    command = [word.format(**places) for word in words]
    suffix = "moe" if words[0] == "encode" else "png"
    command += [] if "-o" in command else ["-o", f"{made}.{suffix}"]
    began = time.perf_counter()
    try:
        ran = subprocess.run(
            [sys.executable, "-c", RUN, way, *command, "--force", "--quiet"],
            check=False,
            capture_output=True,
            text=True,
            timeout=limit,
            env={**os.environ, "MOESAIC_DEBUG": ""},
        )
    except subprocess.TimeoutExpired:
        return {"seconds": None, "peak_mib": None, "code": None}
    told = ran.stdout.split()[-2:] or [str(ran.returncode), "0"]
    for path in folder.glob("made*"):
        path.unlink()
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "peak_mib": int(told[-1]) or None,
        "code": int(told[0]),
    }


def _given(folder: Path, name: str, side: int) -> Path:
    """An input, made when it is first needed."""
    suffix = {"png": "png", "small": "png", "moe": "moe", "jpg": "jpg"}[name]
    path = folder / f"{name}_{side}.{suffix}"
    if path.exists():
        return path
    if name == "moe":
        made = photograph(1024)
        mixture = moesaic.predict(made.astype(np.float32) / 255, experts=40_000)
        moesaic.save(mixture, path)
        return path
    synthesise(path, side // 2 if name == "small" else side)
    return path


def photograph(side: int) -> np.ndarray:  # (side, side, 3), uint8
    """A photograph that ships with scikit-image, as large as that."""
    from PIL import Image
    from skimage import data

    return np.asarray(Image.fromarray(data.astronaut()).resize((side, side), Image.Resampling.BICUBIC))


def synthesise(path: Path, side: int, block: int = 2048) -> None:
    """A square picture of mirrored photographs with noise of 4 levels, written in bands."""
    base = photograph(block)
    across = np.concatenate([base, base[:, ::-1]] * (side // (2 * block) + 1), axis=1)[:, :side]
    generator = np.random.default_rng(0)
    with write_rows(path, Frame(width=side, height=side, channels=3)) as write:
        for top in range(0, side, 256):
            lines = np.arange(top, min(top + 256, side)) % (2 * block)
            lines = np.where(lines < block, lines, 2 * block - 1 - lines)
            noise = generator.standard_normal((len(lines), side, 3), dtype=np.float32) * np.float32(4 / 255)
            write(np.clip(across[lines] / np.float32(255) + noise, 0, 1, dtype=np.float32))


if __name__ == "__main__":
    main()
