"""The benchmark of estimators: every set, sort and estimator has its row."""

from __future__ import annotations

import torch

from benchmarks import estimators
from benchmarks.record import read
from moesaic.upscale.fixed_scores import Constant


def test_a_smoke_run_has_every_row(tmp_path, monkeypatch):
    monkeypatch.setattr(estimators, "_seconds", lambda one: {"512x512": 0.1})
    estimators.main(["--first", "1", "--estimators", "constant", "--results", str(tmp_path)])
    results = read(tmp_path / "estimators.json")["results"]
    sorts = {row["sort"] for row in results["ranks"].values()}
    assert sorts == {"noise", "blur", "jpeg", "resolution", "wild"}
    assert all(row["rank_correlation"] == 0 for row in results["ranks"].values())  # it never changes
    assert results["seconds"]["constant"]["512x512"] == 0.1


def test_ranks_are_those_of_the_sorts_own_score():
    class Told(Constant):
        """Rises with the mean of the picture, and is 0.3 too high."""

        def __call__(self, pictures):
            said = super().__call__(pictures)
            said.values[:, 0] = pictures.mean() + 0.3
            return said

    inputs = [(torch.full((1, 3, 8, 8), level), [level, 0.0, 0.0, 0.0, level]) for level in (0.1, 0.2, 0.4)]
    row = estimators.measured(Told(), "noise", inputs)
    assert (row["pictures"], row["rank_correlation"], row["error"]) == (3, 1.0, 0.3)
    assert row["all_rank_correlations"]["severity"] == 0
