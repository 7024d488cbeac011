"""The tables on noise and starts, from records that are made up."""

from __future__ import annotations

from benchmarks.record import Record
from benchmarks.report_starts import NAMES, blocks


def test_what_was_not_measured_is_told():
    texts = blocks(dict.fromkeys(NAMES))
    assert all(text.startswith("Not measured") for text in texts.values())


def test_estimates(tmp_path):
    record = Record("noise_estimate", settings={}, folder=tmp_path)
    for method, mean in (("moesaic", 1.01), ("scikit-image", 1.4)):
        row = {"set": "kodak", "pictures": 24, "noise": "clipped", "sigma": 5, "method": method}
        record.put("ratios", method, row | {"mean": mean, "least": 0.9, "most": 1.5, "beyond": 3, "seconds": 0.1})
    text = blocks(dict.fromkeys(NAMES) | {"noise_estimate": record.content})["noise estimate"]
    assert text.splitlines()[-1] == (
        "| kodak (24), clipped, 5 | 1.010 | 0.900 to 1.500 | 3 | 1.400 | 0.900 to 1.500 | 3 |"
    )


def test_starts(tmp_path):
    record = Record("starts", settings={}, folder=tmp_path)
    for seed, psnr in ((0, 30.0), (1, 31.0)):
        row = {"picture": "a", "experts": 2000, "steps": 50, "start": "even", "seed": seed}
        record.put("regression", str(seed), row | {"psnr": psnr, "seconds": 2.0})
    for share, steps, single, mean in ((75, 50, 27.0, 28.0), (40, 200, 26.0, 29.0)):
        for section, lower in (("choice", 0.0), ("denoising", 0.5)):
            row = {"picture": section, "sigma": 25, "share": share, "steps": steps, "start": "even"}
            row |= {"experts": 100, "single": single - lower, "mean": mean - lower, "seconds": 1.0}
            record.put(section, f"{share}", row)
    row = {"picture": "a", "sigma": 25, "start": "even", "experts": 900, "single": 27.0, "mean": 28.0, "seconds": 1.0}
    pruned = Record("starts_pruned", settings={}, folder=tmp_path)
    pruned.put("pruned", "a", row)
    texts = blocks({"noise_estimate": None, "starts": record.content, "starts_pruned": pruned.content})
    assert texts["starts regression"].splitlines()[-1] == "| 2,000 kernels, even | 30.50 | 2.0 |"
    chosen = "| sigma 25, even | 75 px, 50 steps | 27.00 | 26.50 | 40 px, 200 steps | 29.00 | 28.50 |"
    assert chosen in texts["starts denoising"]
    assert texts["starts denoising"].splitlines()[-1] == "| sigma 25, even | 900 | 27.00 | 28.00 | 1.0 |"
