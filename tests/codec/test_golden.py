"""Files of every released version still decode to the pixels that they had when they were written."""

import json
from pathlib import Path

import numpy as np
import pytest

from moesaic.codec import decode_bytes

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = sorted(GOLDEN.glob("v*/*/case.json"))


def test_there_are_cases():
    assert len(CASES) >= 7


@pytest.mark.parametrize("case", CASES, ids=lambda path: f"{path.parts[-3]}-{path.parts[-2]}")
def test_old_files_still_decode(case):
    wanted = json.loads(case.read_text())
    mixture = decode_bytes(case.with_name("file.moe").read_bytes()).mixture
    assert len(mixture) == wanted["kernels"]
    for size, limit in wanted["peak_error"].items():
        pixels = np.load(case.with_name(f"{size}.npz"))["pixels"] / 65535
        drawn = mixture.render(scale=float(size.removesuffix("x"))).numpy()
        assert np.abs(np.clip(drawn, 0.0, 1.0) - pixels).max() <= limit


def test_coarser_layers_of_an_old_file_decode():
    data = (GOLDEN / "v1" / "rgb" / "file.moe").read_bytes()
    counts = [len(decode_bytes(data, layers=layers).mixture) for layers in (1, 2, 3)]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]
