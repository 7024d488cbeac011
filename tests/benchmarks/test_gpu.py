"""The benchmark of the GPU backend, in pieces that need no device: it refuses where there is none."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("triton", reason="Triton is not installed")

from benchmarks import gpu as benchmark
from benchmarks import gpu_ceilings, gpu_plain, gpu_work, report_gpu
from benchmarks.pictures import gallery
from benchmarks.record import Record, read
from moesaic.mixture.backends import gpu as backend
from moesaic.mixture.fit_gpu import Batch
from moesaic.mixture.fitting import FitConfig


def quick(targets, experts, device):
    """A fit that solves the colours in one step."""
    return Batch(targets, [experts] * len(targets), 0, 0, FitConfig(solve=1), device)


DEVICE = torch.device("cpu" if backend.interpreted() else "cuda")


@pytest.fixture
def crop(photo):
    """A few pixels of a photograph, (3, 18, 20)."""
    return np.ascontiguousarray(photo[20:38, 40:60].transpose(2, 0, 1))


@pytest.fixture
def mixture(crop):
    """Kernels that stand where a fit of the crop begins."""
    made = benchmark.batch([crop], 6, DEVICE)
    made._begin([6])
    (mixture,) = made.mixtures()
    return mixture


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_device_it_refuses_clearly(tmp_path):
    with pytest.raises(SystemExit, match="no CUDA device here"):
        benchmark.main(["--results", str(tmp_path)])
    assert not list(tmp_path.iterdir())


def test_unknown_parts_are_named():
    with pytest.raises(SystemExit, match="--parts takes ceilings, exactness"):
        benchmark.main(["--parts", "speed"])


def test_exactness_of_a_start(crop, mixture):
    row = benchmark.exactness(mixture, crop, many=100, few=40)
    assert row["same_bytes_again"] is True
    assert row["picture"] <= 1e-4
    assert max(row[name] for name in ("centres", "factors", "log_priors", "colours")) <= 1e-3


@pytest.mark.parametrize(("form", "groups"), benchmark.FORMS)
def test_the_rival_takes_the_same_step(crop, mixture, form, groups):
    drawn = benchmark.Drawn(mixture)
    target = torch.from_numpy(crop).to(DEVICE)
    placed = backend.put(drawn.sheet, drawn.kernels, drawn.lists)
    seen = backend.compare(drawn.sheet, drawn.kernels, drawn.lists, placed, target.flatten())
    pairs = backend.gpu_gather.by_kernel(drawn.lists, len(mixture))
    moments = backend.go_back(drawn.sheet, drawn.kernels, drawn.lists, placed, pairs, seen.level, seen.slope, seen.base)
    expected = backend.gradient(drawn.kernels, moments)
    cut = gpu_plain.cut(drawn.lists.start, drawn.lists.kernel, drawn.lists.bars, target, groups)
    assert sum(len(group.bars) for group in cut) == 4
    parameters = [mixture.centres.double(), mixture.factors, mixture.log_priors, mixture.colours]
    found = gpu_plain.stepper(parameters, cut, form, compiled=False)()
    found = torch.cat([g.float().reshape(len(g), -1) for g in found], 1)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_the_compiler_takes_the_rival(crop, mixture):
    drawn = benchmark.Drawn(mixture)
    cut = gpu_plain.cut(drawn.lists.start, drawn.lists.kernel, drawn.lists.bars, torch.from_numpy(crop).to(DEVICE), 1)
    parameters = [mixture.centres.double(), mixture.factors, mixture.log_priors, mixture.colours]
    torch.compiler.reset()
    whole = torch.compile(gpu_plain.squared_error, backend="eager", fullgraph=True, dynamic=False)
    plain = gpu_plain.squared_error(*parameters, cut[0], "direct")
    torch.testing.assert_close(whole(*parameters, cut[0], "direct"), plain)


def test_lists_made_anew_draw_the_same(mixture):
    drawn = benchmark.Drawn(mixture)
    assert torch.equal(drawn.draw(), drawn.list_and_draw())


def test_work_and_shares_of_the_ceilings():
    work = gpu_work.frame(1000, 100)
    assert work == {"bytes": 1000 * (48 + 88) + 1600, "flops": 1000 * 256 * 19}
    found = gpu_work.shares({"bytes": 10**9, "flops": 10**9}, 2.0, {"copy_gb_per_s": 1000.0, "fma_gflops": 10000.0})
    assert found == {
        "floor_by_bytes_ms": 1.0,
        "floor_by_flops_ms": 0.1,
        "share_of_bandwidth": 0.5,
        "share_of_arithmetic": 0.05,
    }
    more = gpu_work.step(1000, 100, 10)
    assert more["bytes"] > work["bytes"]
    assert more["flops"] == 1000 * 256 * (19 + 38)


def test_ceilings_at_tiny_size():
    numbers = torch.full((64,), 0.5, device=DEVICE)
    gpu_ceilings.chains[(1,)](numbers, 2, 0.5, 1.0, WIDTH=64, CHAIN=3)
    expected = 0.5
    for _ in range(6):
        expected = 0.5 * expected + 1.0
    torch.testing.assert_close(numbers.cpu(), torch.full((64,), expected))
    assert gpu_ceilings.timed(lambda: None, torch.device("cpu"), turns=3) < 100.0


def test_every_part_runs_at_tiny_size(crop, tmp_path, monkeypatch):
    (tmp_path / "pictures").mkdir()
    for name in ("a", "b"):
        Image.fromarray((255 * crop[:, :12, :14].transpose(1, 2, 0)).astype(np.uint8)).save(
            tmp_path / "pictures" / f"{name}.png"
        )
    record = Record("gpu", settings={}, folder=tmp_path, module="benchmarks.gpu")
    sources = gallery(tmp_path / "pictures").sources
    work = benchmark.Work(record, DEVICE, sources, experts=2, steps=1)
    work.turns, work.copied, work.chained = 1, 1e-5, 1
    monkeypatch.setattr(benchmark, "batch", quick)
    monkeypatch.setattr(gpu_ceilings.ceilings, "__kwdefaults__", {"size": 1024, "turns": 1})
    monkeypatch.setattr(benchmark, "MEMORY", 100)
    for part in benchmark.PARTS[:-1]:
        getattr(work, part)()
    work.large(20, 14, 2)
    told = read(tmp_path / "gpu.json")
    assert set(told["results"]) == set(benchmark.PARTS)
    assert not any("failed" in rival for rival in told["results"]["step"]["a"]["rivals"])
    found = report_gpu.blocks({"gpu": told, "gpu_resources": None, "render": None})
    assert "times" in found["gpu targets"]


def test_large_pictures_are_put_together(crop):
    turned = np.ascontiguousarray(crop.transpose(0, 2, 1))
    made = benchmark.mosaic([crop, turned], 45, 41)
    assert made.shape == (3, 41, 45)
    assert np.array_equal(made[:, :18, :20], crop)
    assert np.array_equal(made[:, :20, 20:38], turned)
    assert np.array_equal(made[:, :18, 40:], crop[:, :, :5])
    assert np.array_equal(made[:, 20:40, :18], turned)


def test_quality_of_the_cpu_is_read_by_picture(tmp_path):
    rows = {"a": {"picture": "x", "experts": 10, "psnr": 30.0}, "b": {"picture": "x", "experts": 20, "psnr": 33.0}}
    (tmp_path / "fit.json").write_text(json.dumps({"results": {"pictures": rows}}))
    assert benchmark.cpu_quality(20, tmp_path) == {"x": 33.0}
    assert benchmark.cpu_quality(20, tmp_path / "none") == {}


def test_scores(crop, mixture):
    assert benchmark.score(mixture, crop)["psnr"] > 10.0
    assert benchmark.mean([], "psnr") is None
    assert benchmark.mean([{"a": 1}, {"a": 2}], "a") == 1.5
