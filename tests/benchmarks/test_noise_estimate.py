from __future__ import annotations

import numpy as np
import pytest

from benchmarks import noise_estimate, starts
from benchmarks.noise_estimate import summary, with_noise
from benchmarks.record import read


def test_summary_counts_what_is_beyond_ten_percent():
    assert summary([0.85, 1.0, 1.15, 1.08]) == {"mean": 1.02, "least": 0.85, "most": 1.15, "beyond": 2}


def test_clipped_noise_is_what_an_8_bit_file_holds():
    picture = np.full((3, 40, 50), 0.9, np.float32)
    clipped, free = (with_noise(picture, 50, 3, clipped=how) for how in (True, False))
    assert clipped.dtype == free.dtype == np.float32
    assert np.allclose(clipped * 255, np.rint(clipped * 255), atol=1e-4)
    assert clipped.min() >= 0.0
    assert clipped.max() == 1.0
    assert free.max() > 1.0
    assert (free - picture).std() == pytest.approx(50 / 255, rel=0.05)


def test_noise_estimate_end_to_end(tmp_path, monkeypatch):
    pytest.importorskip("pywt")
    monkeypatch.setattr(noise_estimate, "CBSD68", tmp_path / "none.tsv")
    noise_estimate.main(["--first", "1", "--sigmas", "25", "--results", str(tmp_path)])
    found = read(tmp_path / "noise_estimate.json")["results"]["ratios"]
    assert len(found) == 4
    assert all(0.9 < row["mean"] < 1.1 for row in found.values() if row["method"] == "moesaic")


def test_the_best_settings_are_those_of_the_largest_mean():
    def row(share, steps, single, mean, start="even", sigma=25):
        return {"sigma": sigma, "start": start, "share": share, "steps": steps, "single": single, "mean": mean}

    found = [
        *(row(75, 50, 20.0, 26.0), row(75, 50, 30.0, 20.0)),
        *(row(40, 50, 24.0, 29.0), row(40, 50, 24.0, 29.0)),
        row(20, 100, 99.0, 99.0, start="gradient"),
        row(20, 100, 99.0, 99.0, sigma=50),
    ]
    assert starts.chosen(found, "single", 25, "even") == (75, 50)
    assert starts.chosen(found, "mean", 25, "even") == (40, 50)
    with pytest.raises(SystemExit, match="choice"):
        starts.chosen(found, "single", 15, "even")
