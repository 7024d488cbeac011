"""Every GPU kernel goes through Triton's compiler, which refuses much that its interpreter takes; no GPU is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed")

from benchmarks import gpu_resources

ROOT = Path(__file__).parents[3]


@pytest.mark.skipif(not gpu_resources.tool().is_file(), reason="Triton came without its tools")
def test_all_kernels_compile_and_spill_nothing():
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    path = os.pathsep.join([str(ROOT), str(ROOT / "src"), *filter(None, [environment.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_resources", "--json", "--kinds", "3/0,3/1"],
        env=environment | {"PYTHONPATH": path},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if "cannot run" in done.stderr and "ptxas" in done.stderr:
        pytest.skip("ptxas does not run on this machine")
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {row["kernel"] for row in rows} == {name for name, *_ in gpu_resources.launches()}
    for row in rows:
        assert row["local"] == row["stack"] == 0, row  # spills, and arrays that did not fit into registers
        assert row["registers"] * 32 * row["warps"] <= 65536
