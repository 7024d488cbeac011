"""Fixtures and settings that all tests share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from skimage import data

# Tests that run side by side keep to a processor each, and so does what they start.
if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Without a device, GPU kernels run under Triton's interpreter, which must be asked for before triton is imported.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# Compiled code makes the first example slow, so no deadline; in CI the examples are the same in every run.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """File by file; but browsers, servers and clusters one after another, as two of them starve each other."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            heavy = nodeid.startswith(("tests/app/", "tests/benchmarks/"))
            return "heavy" if heavy else str(super()._split_scope(nodeid))

    return Scheduling(config, log)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real pictures beside the repository; its tests are skipped where it is absent."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the folder ../shared/data is not there")
    return folder


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """A crop of a real photograph, (96, 128, 3) float32 in [0, 1], read-only; it ships with scikit-image."""
    crop = (data.astronaut()[40:136, 160:288] / 255).astype(np.float32)
    crop.flags.writeable = False
    return crop
