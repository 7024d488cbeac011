"""Registers, spills and shared memory of every GPU kernel, compiled ahead of time for one architecture: no GPU needed.

Compiling catches what Triton's interpreter accepts and its compiler does not. It must run in a process in which the
interpreter is off, since functions are bound to it when they are defined.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.record import Record

ARCHITECTURE = 90  # Hopper
RGB = {"C": 3, "ORDER": 0}
KINDS = ({"C": 1, "ORDER": 0}, RGB, {"C": 4, "ORDER": 0}, {"C": 3, "ORDER": 1}, {"C": 4, "ORDER": 1})
_TYPES = {
    "cells": "*i32", "kernel_start": "*i32", "centres": "*fp64", "geometry": "*fp32", "experts": "*fp32",
    "bounds": "*fp32", "bars": "*fp32", "counts": "*i32", "start": "*i64", "below": "*i64", "kernel": "*i32",
    "written": "*i32", "room": "i32", "wide": "i32", "stride": "i32", "segments": "i32", "shares": "i32",
    "kernels": "i32", "margin": "fp32", "pairs": "*i64", "record": "*fp32", "span": "*fp32", "target": "*fp32",
    "picture": "*fp32", "level": "*fp32", "slope": "*fp32", "base": "*fp32", "error": "*fp32", "partial": "*fp32",
    "moments": "*fp32", "first": "*fp32", "second": "*fp32", "rates": "*fp32", "count": "*i32", "settings": "*fp64",
    "each": "i32",
}  # fmt: skip


def launches() -> list[tuple[str, Any, dict[str, Any], int]]:
    """Every kernel in the forms in which it is launched: name, function, constants, warps."""
    from moesaic.mixture.backends import gpu, gpu_deep, gpu_descent, gpu_gather, gpu_lists, gpu_survey, gpu_tiles

    top = {"SIDE": 64, "LENGTH": gpu_lists.SEGMENT}
    near, chunk = {"NEAR": gpu_lists.NEAR, "WIDTH": gpu_lists.CHUNK}, {"WIDTH": gpu_lists.CHUNK}
    found: list[tuple[str, Any, dict[str, Any], int]] = [
        ("bound_top", gpu_lists.bound_top, top | {"WIDTH": gpu_lists.NEAR}, 4),
        ("count_top", gpu_lists.count_top, top | chunk, 4),
        ("write_top", gpu_lists.write_top, top | chunk, 4),
        ("bound_cells", gpu_lists.bound_cells, {"SIDE": 16} | near, 4),
        ("write_cells", gpu_lists.write_cells, {"SIDE": 16} | chunk, 4),
    ]
    # an argument of 1 becomes a constant of its own form
    found += [
        ("bound_top, one segment", gpu_lists.bound_top, top | {"WIDTH": gpu_lists.NEAR, "segments": 1}, 4),
        ("count_top, one segment", gpu_lists.count_top, top | chunk | {"segments": 1}, 4),
        ("write_top, one segment", gpu_lists.write_top, top | chunk | {"segments": 1}, 4),
        ("bound_cells, one list above", gpu_lists.bound_cells, {"SIDE": 16, "stride": 1} | near, 4),
        ("write_cells, one list above", gpu_lists.write_cells, {"SIDE": 16, "stride": 1} | chunk, 4),
        ("backward, one share", gpu_tiles.backward, RGB | {"UNROLL": gpu.BACK_UNROLL, "shares": 1}, gpu.BACK_WARPS),
        ("survey, one share", gpu_survey.survey, RGB | {"shares": 1}, gpu.BACK_WARPS),
    ]
    draw, back = {"UNROLL": gpu.DRAW_UNROLL}, {"UNROLL": gpu.BACK_UNROLL}
    for kind in KINDS:
        width = 6 + kind["C"] * (1 + 2 * kind["ORDER"])
        summed = {"K": width, "WIDE": 1 << (width - 1).bit_length(), "PAIRS": gpu_gather.PAIRS}
        found += [
            ("place", gpu_tiles.place, kind | {"WIDTH": gpu_tiles.WALK}, 2),
            ("forward", gpu_tiles.forward, kind | {"COMPARE": False} | draw, gpu.DRAW_WARPS),
            ("forward", gpu_tiles.forward, kind | {"COMPARE": True} | draw, gpu.DRAW_WARPS),
            ("backward", gpu_tiles.backward, kind | back, gpu.BACK_WARPS),
            ("deep_forward", gpu_deep.deep_forward, kind | {"COMPARE": True}, 4),
            ("deep_backward", gpu_deep.deep_backward, kind, 4),
            ("gather", gpu_gather.gather, summed, 1),
            ("chain", gpu_gather.chain, kind | {"WIDTH": 128}, 4),
            ("descend", gpu_descent.descend, kind | {"WIDTH": gpu_descent.WIDTH}, 2),
            ("survey", gpu_survey.survey, kind, gpu.BACK_WARPS),
        ]
    return found


def resources(function: Any, constants: dict[str, Any], warps: int) -> dict[str, int]:
    """Compile one kernel and read what it uses: registers a thread, bytes of spills and of shared memory."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = function.arg_names
    signature = {name: "constexpr" if name in constants else _TYPES[name] for name in names}
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, name in enumerate(names)
        if signature[name].startswith("*") or name in ("room", "wide")
    }
    constexprs = {(names.index(name),): value for name, value in constants.items()}
    source = ASTSource(function, signature, constexprs=constexprs, attrs=aligned)
    made = triton.compile(source, target=GPUTarget("cuda", ARCHITECTURE, 32), options={"num_warps": warps})
    return read(made.asm["cubin"]) | {"shared": made.metadata.shared}


def read(cubin: bytes) -> dict[str, int]:
    """Registers, stack and local memory as the binary states them, and loads and stores of spills in it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        told = subprocess.run(
            [tool(), "--dump-resource-usage", path], capture_output=True, text=True, check=True
        ).stdout
    found = {name: int(value) for name, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", told)}
    return {"registers": found["REG"], "stack": found["STACK"], "local": found["LOCAL"]}


def tool() -> Path:
    """The program that reads binaries, from triton's package."""
    import triton

    return Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--json", action="store_true", help="one object a kernel")
    options.add_argument("--record", action="store_true", help="write benchmarks/results/gpu_resources.json, too")
    options.add_argument("--only", default="", help="kernels whose name begins so")
    options.add_argument("--kinds", default=None, metavar="3/0,3/1", help="channels and order; the usual ones")
    asked = options.parse_args(arguments)
    from moesaic.mixture.backends import gpu

    if gpu.interpreted():
        sys.exit("unset TRITON_INTERPRET: the interpreter's functions cannot be compiled")
    settings = {"architecture": f"sm_{ARCHITECTURE}", "triton": __import__("triton").__version__}
    record = Record("gpu_resources", settings=settings) if asked.record else None
    for name, function, constants, warps in launches():
        kind = f"{constants.get('C')}/{constants.get('ORDER')}"
        if not name.startswith(asked.only) or (asked.kinds and "C" in constants and kind not in asked.kinds.split(",")):
            continue
        shape = {k: int(v) for k, v in constants.items() if k in ("C", "ORDER", "COMPARE", "K")}
        row = {"kernel": name, **shape, "warps": warps, **resources(function, constants, warps)}
        if record is not None:
            record.put("kernels", " ".join(f"{k} {v}" for k, v in row.items() if k in ("kernel", *shape)), row)
        print(json.dumps(row) if asked.json else "  ".join(f"{k} {v}" for k, v in row.items()), flush=True)


if __name__ == "__main__":
    main()
