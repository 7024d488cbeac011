import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import segment_cost
from benchmarks.record import read
from benchmarks.segment import SCRATCH
from benchmarks.segment_cost import arms_of, measure, multiply_adds
from moesaic.routing.convert import sparsify
from moesaic.segment.arms import arm


def _conv(**options) -> nn.Module:
    return nn.Sequential(nn.Conv2d(4, 6, 3, padding=1, **options))


@torch.inference_mode()
def test_by_hand() -> None:
    x = torch.rand(1, 4, 12, 18)
    assert multiply_adds(_conv(), x) == 12 * 18 * 4 * 6 * 9
    assert multiply_adds(_conv(groups=2), x) == 12 * 18 * 2 * 6 * 9
    assert multiply_adds(nn.ConvTranspose2d(4, 6, 2, stride=2), x) == 12 * 18 * 4 * 6 * 4
    assert multiply_adds(nn.Linear(18, 5), x) == 4 * 12 * 18 * 5


@pytest.mark.parametrize("k", [1, 2, 3])
@torch.inference_mode()
def test_a_merged_layer_is_one_convolution_and_the_mixing_of_its_kernels(k: int) -> None:
    x = torch.rand(1, 4, 12, 18)
    routed = sparsify(_conv(), "0", experts=3, k=k, grid=2, gate="position", how="merged")
    mixing = 2 * 2 * 3 * (6 * 4 * 9 + 6)  # a kernel and a bias for each of 2x2 places, from 3 experts
    assert multiply_adds(routed, x) == 12 * 18 * 4 * 6 * 9 + mixing


@torch.inference_mode()
def test_a_layer_that_convolves_k_times_costs_k_convolutions() -> None:
    x = torch.rand(1, 4, 12, 18)
    routed = sparsify(_conv(), "0", experts=3, k=2, grid=2, gate="position", how="gather")
    assert multiply_adds(routed, x) == 2 * 12 * 18 * 4 * 6 * 9


def test_a_row_for_each_arm_beside_the_dense_one() -> None:
    thin = replace(SCRATCH, width=0.25)
    rows = measure({label: arm(thin, label) for label in ("dense", "moe")}, size=(32, 48), turns=3, budget=0)
    assert rows["dense"]["times_dense"] == 1
    assert rows["moe"]["times_dense"] > 0
    assert rows["moe"]["time"]["turns"] == 3
    assert rows["moe"]["parameters"] > rows["dense"]["parameters"]
    assert rows["moe"]["multiply_adds"] > rows["dense"]["multiply_adds"]


def test_compared_networks_have_all_arms_and_others_two() -> None:
    assert list(arms_of("enet")) == ["dense", "moe", "position", "uniform", "random", "widened"]
    assert list(arms_of("lraspp")) == ["dense", "moe"]


def test_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["x"])
    monkeypatch.setattr(segment_cost, "SIZE", (32, 48))
    monkeypatch.setattr(segment_cost, "measure", lambda recipes, turns, budget: {k: _row() for k in recipes})
    threads = torch.get_num_threads()
    segment_cost.main(["--networks", "lraspp", "--threads", str(threads), "--results", str(tmp_path)])
    assert list(read(tmp_path / "segment_cost.json")["results"]["arms"]) == ["lraspp/dense", "lraspp/moe"]


def _row() -> dict:
    return {"multiply_adds": 1, "time": {"median_ms": 1.0}}
