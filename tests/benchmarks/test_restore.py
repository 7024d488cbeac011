from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import classic, report_restore, restore, restore_pictures, restore_sets
from benchmarks import restore_routes as routes
from benchmarks.quality import rounded
from benchmarks.record import Record, read
from benchmarks.report_restore_plots import draw_all
from benchmarks.report_restore_routing import told, verdict
from benchmarks.restore_arms import arm, summarised, together, without_folders
from benchmarks.restore_constants import mix
from benchmarks.restore_routing import findings, pictures
from benchmarks.restore_scores import (
    CLEAN,
    EQUAL,
    OURS,
    against_chance,
    counted,
    explained,
    gain,
    psnr,
    score,
    shares,
    summary,
)
from moesaic.degrade.frozen import read_frozen


@pytest.fixture
def waves() -> np.ndarray:
    y, x = np.mgrid[:64, :72]
    planes = [0.45 + 0.4 * np.sin(x / (5 + c) + y / (9 - 2 * c)) for c in range(3)]
    return np.stack(planes, axis=2).astype(np.float32)


def test_the_dark_channel_is_the_least_value_around():
    pixels = np.full((9, 9, 3), 0.8)
    pixels[4, 4, 1] = 0.1
    dark = classic.dark_channel(pixels, radius=2)
    assert dark[2:7, 2:7].max() == pytest.approx(0.1)
    assert dark.sum() == pytest.approx(25 * 0.1 + (81 - 25) * 0.8)


def test_haze_goes_and_a_clear_picture_keeps_its_shape(waves):
    hazy = waves * 0.5 + 0.9 * 0.5
    assert psnr(classic.dehaze(hazy), waves) > psnr(hazy, waves) + 4
    assert np.corrcoef(classic.dehaze(waves).ravel(), waves.ravel())[0, 1] > 0.95


def test_a_guided_filter_keeps_what_follows_its_guide_and_smooths_the_rest(waves):
    guide = waves[..., 0].astype(np.float64)
    assert np.allclose(classic.guided(guide, 2 * guide + 1, radius=6, softness=1e-9), 2 * guide + 1, atol=1e-4)
    noise = np.random.default_rng(0).normal(size=guide.shape)
    assert classic.guided(guide, noise, radius=6).std() < 0.3


@pytest.mark.parametrize("name", classic.REMEDIES)
def test_every_remedy_gives_a_finite_picture_of_the_same_size(name, waves):
    found = classic.REMEDIES[name](waves, 10.0)
    assert found.shape == waves.shape
    assert np.isfinite(found).all()


def test_a_fit_of_the_gain_finds_the_exposure(waves):
    assert np.allclose(classic.gain_fitted(0.3 * waves, waves), waves, atol=1e-6)
    assert np.array_equal(classic.gain_fitted(0 * waves, waves), 0 * waves)


def test_the_best_shift_is_found(waves):
    moved, inner = classic.best_shift(np.roll(waves, (2, -3), (0, 1)), waves, 4)
    assert moved.shape == (56, 64, 3)
    assert np.array_equal(moved, inner)


def test_equal_pictures_have_a_finite_score(waves):
    eight = rounded(waves)
    assert score(classic.gain_fitted(eight, eight), eight) == {"psnr": EQUAL, "ssim": 1.0}
    assert psnr(eight + 1 / 255, eight) == pytest.approx(20 * math.log10(255), abs=0.01)


def test_a_gain_has_an_interval_only_where_there_are_pictures_enough():
    assert gain([1.0, 3.0]) == {"mean": 2.0, "least": 1.0, "most": 3.0, "low": None, "high": None}
    values = list(np.random.default_rng(0).normal(0.5, 0.1, 40))
    alone, together = (
        gain(values),
        gain([v for v in values for _ in range(9)], [i for i in range(40) for _ in range(9)]),
    )
    assert alone["low"] < alone["mean"] < alone["high"]
    assert alone == together  # the same pictures again are no further evidence
    assert gain([v for v in values for _ in range(9)])["high"] < alone["high"]
    assert [verdict(gain([v] * 12)) for v in (0.1, -0.1, 0.0)] == ["ahead", "behind", "no difference"]
    assert told(gain([0.5] * 12)) == "+0.50 [+0.50, +0.50]"
    assert told(gain([0.0, 1.0])) == "+0.50 (+0.00 to +1.00)"


def test_a_summary_pairs_methods_picture_by_picture():
    rows = [
        {"picture": n, "results": {"input": {"psnr": 20.0 + n, "ssim": 0.5}, OURS: {"psnr": 22.0 + n, "ssim": 0.7}}}
        for n in (1, 3)
    ]
    found = summary(rows)
    assert found["pictures"] == "1 3"
    assert found["methods"][OURS] == {"psnr": 24.0, "deviation": 1.414, "ssim": 0.7, "each": "23.00 25.00"}
    assert found["methods"]["input"]["ahead"]["mean"] == 2.0


def test_information_is_1_for_a_rule_and_at_chance_for_none():
    kinds = [kind for kind in "abcdef" for _ in range(12)]
    by_rule = [ord(kind) % 3 for kind in kinds]
    assert explained(kinds, by_rule) == pytest.approx(1.0)
    assert math.isnan(explained(kinds, [0] * 72))
    ruled = against_chance(kinds, by_rule, shuffles=40)
    assert ruled["information"] == 1.0
    assert ruled["chance_share"] == pytest.approx(1 / 41, abs=1e-4)
    drawn = np.random.default_rng(3).integers(3, size=72).tolist()
    found = against_chance(kinds, drawn, shuffles=200)
    assert 0.01 < found["chance"] < found["chance_most"] < 0.3  # few pictures explain something by chance
    assert found["information"] < found["chance_most"]
    assert found["chance_share"] > 0.05
    assert against_chance(kinds, [1] * 72)["information"] is None
    assert shares(["a", "a", "b"], [0, 2, 2], 3) == {"a": [0.5, 0.0, 0.5], "b": [0.0, 0.0, 1.0]}


def test_routes_are_searched_exchanged_and_priced():
    value = {route: -abs(int(route[0]) - 2) - abs(int(route[1]) - 1) for route in routes.every([3, 2])}
    assert routes.climbed("00", [3, 2], value.__getitem__) == "21"
    assert routes.uniform(4, [5, 3]) == "42"
    assert routes.cost("20", 0.5, [[0.0, 0.1, 0.2], [0.05, 0.3]]) == pytest.approx(0.75)
    ring = routes.exchanged(list("01234567"), list("aaaabbbb"), seed=0)
    assert sorted(ring[:4]) == list("0123")
    assert all(old != new for old, new in zip("01234567", ring, strict=True))
    assert routes.drawn(3, [5, 5, 5], 1) == routes.drawn(3, [5, 5, 5], 1)
    known = {"00": 30.0, "10": 29.0, "01": 31.0}
    assert routes.read(routes.told(known)) == known
    lost = routes.swap_losses([("00", known)], [2, 2])
    assert lost == [[[], [1.0]], [[], [-1.0]]]


def test_a_picture_encoded_once_is_restored_as_by_the_network(tmp_path, waves):
    model = tiny(tmp_path)
    from benchmarks.restore_network import as_batch, network, restored

    tried = routes.Tried(model, waves, waves)
    chosen = tried.chosen()
    assert tried.psnr(chosen) == psnr(restored(model, waves), waves)
    with torch.no_grad():
        held = network(model).encoded(as_batch(waves))
        forced = network(model).decoded(held, [torch.tensor([n]) for n in (4, 0, 2)])
    assert tried.psnr("402") == psnr(forced[0].permute(1, 2, 0).numpy(), waves)
    assert tried.chosen(price=1e6) == "000"
    assert network(model).price == 0
    assert tried.known.keys() == {chosen, "402"}


def tiny(folder: Path) -> str:
    from moesaic.restore.network import MoceLite
    from moesaic.weights_file import Card
    from moesaic.zoo import save_model

    torch.manual_seed(0)
    options = {"width": 8, "encoder": (1, 1, 1), "middle": 1}
    network = MoceLite(**options)
    torch.nn.init.normal_(network.head.weight, std=0.02)
    card = Card(name="tiny", architecture="moce_lite", task="restore", options=options)
    save_model(folder / "tiny.safetensors", network, card)
    return str(folder / "tiny.safetensors")


def test_the_frozen_sets_are_whole_and_small():
    assert restore_sets.FROZEN.stat().st_size < 1_500_000
    held = read_frozen(restore_sets.FROZEN)
    for name, damage in restore_sets.SETS.items():
        mine = [entry for entry in held if entry.picture.startswith(f"{name}/")]
        assert len(mine) == len(range(0, 68, damage.every))
        assert {entry.kind for entry in mine} == {damage.kind}
        assert set(damage.remedies) <= classic.REMEDIES.keys()
        seeds = [entry.params["seed"] for entry in mine if "seed" in entry.params and name != "clean"]
        assert len(set(seeds)) == len(seeds)
    assert all(entry.sha256 == entry.picture_sha256 for entry in held if entry.picture.startswith("clean/"))
    assert len({entry.sha256 for entry in held}) == len(held)


def test_frozen_pictures_come_out_to_the_byte(shared):
    for name in restore_sets.SETS:
        entry = restore_sets.entries(name, every=34)[1]
        assert (restore_sets.damaged(entry) == restore_sets.clean(entry)).all() == (name == "clean")


def test_pictures_for_routes_seldom_serve_twice(shared):
    found = pictures(list(restore_sets.SETS), 10)
    names = [restore_sets.stem(entry) for entry in found]
    assert len(names) > 130
    assert len(set(names)) == 34


def test_restore_end_to_end(shared, tmp_path):
    model = tiny(tmp_path)
    arguments = ["--model", model, "--only", "68", "--workers", "1", "--results", str(tmp_path), "--resume"]
    restore.main([*arguments, "--parts", "frozen", "--sets", "clean,low_light"])
    found = read(tmp_path / "restore.json")
    assert found["settings"]["model"]["name"] == "tiny"
    assert list(found["results"]["frozen"]) == ["low_light", "clean"]
    assert found["results"]["frozen"]["clean"]["methods"]["input"]["psnr"] == EQUAL
    assert found["results"]["frozen"]["low_light"]["methods"].keys() == {"input", OURS, "gamma", "CLAHE"}
    restore.main([*arguments, "--parts", "real", "--sets", "Levin"])
    found = read(tmp_path / "restore.json")["results"]
    assert found["real"]["Levin"]["methods"]["input"]["shift"] > found["real"]["Levin"]["methods"]["input"]["psnr"]
    assert "clean" in found["frozen"]


def test_paths_of_arms_do_not_reach_the_record():
    told = without_folders("python -m x --arm dense=/a/b/c.safetensors --arm moe=runs/d")
    assert told == "python -m x --arm dense=c.safetensors --arm moe=runs/d"
    assert without_folders("--arm moe=/a/b/0,/a/b/1,c/2 --arm d=/a/d/*") == "--arm moe=0,1,c/2 --arm d=*"


def test_an_arm_is_named_for_each_seed_or_once_for_all(tmp_path):
    for seed in (0, 1):
        (tmp_path / "moce" / str(seed)).mkdir(parents=True)
    both = [str(tmp_path / "moce" / "0"), str(tmp_path / "moce" / "1")]
    assert arm(f"moce={tmp_path}/moce/*") == ("moce", both)
    assert together([arm("a=x,y"), arm("b=z"), arm("a=w")]) == {"a": ["x", "y", "w"], "b": ["z"]}
    for wrong in ("a", "a=", "=b", f"a={tmp_path}/none*"):
        with pytest.raises(argparse.ArgumentTypeError, match="an arm is NAME=FILE"):
            arm(wrong)


NAMES = [*(f"rain/{n}" for n in range(12)), *(f"haze/{n}" for n in range(6)), *(f"clean/{n}" for n in range(12))]


def trained(psnr: float, *, chosen: int, dearest: int) -> dict[str, Any]:
    """A run that reaches so much by its dearest experts, and 0.5 dB less by the chosen ones."""
    found = {"input": [20.0] * 18 + [60.0] * 12, "chosen": [psnr - 0.5] * 30, "dearest": [psnr] * 30}
    costs = {"cheapest_macs": min(700, chosen) if chosen < dearest else dearest}
    costs |= {"chosen_macs": chosen, "dearest_macs": dearest, "decoder_macs": dearest - 600}
    return found | costs | {"weights": {}, "parameters": 7}


def arms() -> dict[str, Any]:
    moce = [trained(25.0, chosen=800, dearest=1000), trained(26.0, chosen=900, dearest=1000)]
    return summarised({"moce": moce, "dense": [trained(25.0, chosen=1200, dearest=1200)]}, NAMES)


def test_arms_are_told_over_seeds_with_kinds_alike_and_clean_apart():
    found = arms()
    assert found["moce"]["dearest"]["gain"] == {"mean": 5.5, "spread": pytest.approx(0.7071)}
    assert found["moce"]["chosen"]["psnr"]["mean"] == 25.0
    assert found["moce"]["dearest"]["kinds"].keys() == {"rain", "haze", "clean"}
    assert found["moce"]["decoder"] == {"chosen": 0.625, "dearest": 1.0}
    assert found["dense"]["decoder"] == {"chosen": 1.5, "dearest": 1.5}
    assert found["dense"]["dearest"]["gain"] == {"mean": 5.0, "spread": None}
    assert found["dense"]["dearest"]["first_ahead"]["mean"] == 0.5
    assert found["moce"]["dearest"]["first_ahead"]["low"] == 0


def test_routes_of_the_same_cost_and_the_best_within_a_budget():
    experts = [[0.0, 0.1, 0.2], [0.0, 0.1, 0.2]]
    found = routes.alike_in_cost(["11"] * 40, 0.6, experts, seed=0, among=2)
    assert set(found) == {"02", "20"}
    assert found == routes.alike_in_cost(["11"] * 40, 0.6, experts, seed=0, among=2)
    assert routes.alike_in_cost(["0"], 0.6, [[0.4]], seed=0) == ["0"]
    worth = {route: float(route[0]) - 0.1 * float(route[1]) for route in routes.every([3, 3])}
    assert routes.constants(worth, 0.6, experts, [0.5, 0.7, 1.0]) == {0.7: "10", 1.0: "20"}
    assert mix()["composite"] == 4
    assert "wild" not in mix()


def test_clean_pictures_do_not_rule_a_mean():
    assert (counted("clean", 60.0), counted("clean", 44.0), counted("rain", 60.0)) == (CLEAN, 44.0, 60.0)


EXPERTS = [[0.0, 0.2], [0.0, 0.2]]


def tried(kind: str, picture: str, chosen: str, best: str) -> dict[str, Any]:
    named = {"chosen": chosen, "expert 0": "00", "expert 1": "11", "price 0": chosen, "price 1": "00", "best": best}
    known = {route: 30.0 + 0.1 * route.count("1") for route in routes.every([2, 2])}
    return {"kind": kind, "picture": picture, "routes": named, "psnr": routes.told(known | {best: 31.0})}


def test_findings_follow_from_the_rows_of_pictures():
    rows = [tried("rain", str(n), "11", "11") for n in range(12)] + [
        tried("haze", str(n), "01", "00") for n in range(12)
    ]
    found = findings(rows, 0.6, EXPERTS)
    assert found["controls"]["chosen"]["psnr"] == pytest.approx(30.55)
    assert found["controls"]["chosen"]["cost"] == pytest.approx(0.9)
    assert found["controls"]["expert 1"]["chosen_ahead"]["mean"] == pytest.approx(-0.05)
    assert found["controls"]["expert 0"]["over_dearest"]["mean"] == pytest.approx(-0.1)
    assert found["controls"]["expert 1"]["over_dearest"]["mean"] == 0
    assert found["controls"]["best"]["psnr"] == 31.0
    assert found["kinds"]["haze"]["cost"]["chosen"] == pytest.approx(0.8)
    assert found["prices"].keys() == {"price 0", "price 1"}
    assert found["usage"]["level 0"]["shares"] == {"rain": [0.0, 1.0], "haze": [1.0, 0.0]}
    assert found["usage"]["level 0"]["information"] == 1.0
    assert found["usage"]["level 1"]["information"] is None
    assert found["swaps"]["level 0"]["lost"] == [pytest.approx(0.9), pytest.approx(-0.1)]


@pytest.fixture
def records(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(sys, "argv", ["x"])
    folder = tmp_path / "results"
    measured = Record("restore", settings={}, folder=folder)
    methods = {"input": (20.0, 0.4), OURS: (30.5, 0.9), "NLM": (28.0, 0.8)}
    rows = [
        {"picture": str(n), "results": {m: {"psnr": p, "ssim": s} for m, (p, s) in methods.items()}} for n in (1, 5, 9)
    ]
    measured.put("noise", "kodak/unclipped/25", {"set": "kodak/unclipped/25"} | summary(rows))
    measured.put("frozen", "wild", {"set": "wild"} | summary(rows * 4))
    denoised = Record("denoise", settings={}, folder=folder)
    part = {"noisy": {"each": "20 20 20 20 20"}, "moesaic": {"each": "31 1 1 1 30"}}
    few = {"noisy": {"each": "20 20"}, "BM3D": {"each": "32 31"}}
    row = {"set": "kodak", "noise": "unclipped", "sigma": 25, "all": part, "few": few}
    denoised.put("synthetic", "kodak/unclipped/25", row)
    settings = {"fixed_cost": 0.6, "best": "search", "model": {"price": 0.05}}
    routing = Record("restore_routing", settings=settings, folder=folder)
    found = [tried("rain", str(n), "11", "11") for n in range(12)] + [
        tried("haze", str(n), "01", "00") for n in range(12)
    ]
    for section, table in findings(found, 0.6, EXPERTS).items():
        for key, one in table.items():
            routing.put(section, key, one)
    compared = Record("restore_arms", settings={}, folder=folder)
    for name, row in arms().items():
        compared.put("arms", name, row | {"milliseconds": 10.0, "times_first": 1.0})
    routing.put("work", "model", {"parameters": 5, "cheapest_macs": 800, "dearest_macs": 1000})
    return folder


def test_the_page_is_made_and_renewed(records, tmp_path):
    docs = tmp_path / "docs"
    arguments = ["--results", str(records), "--docs", str(docs)]
    report_restore.main(arguments)
    page = (docs / "restoration.md").read_text(encoding="utf-8")
    assert "| 20.00 / 0.4000 | 30.50 / 0.9000 ± 0.0 | +10.50 (+10.50 to +10.50) | NLM: 28.00 / 0.8000 |" in page
    assert "| wild * (12) |" in page
    assert "| kodak/unclipped/25 (2) | `moesaic denoise` | 30.50 | 30.50 | +0.00 |" in page
    assert "| kodak/unclipped/25 (2) | BM3D | 30.50 | 31.50 | -1.00 |" in page
    assert "- frozen sets: ahead in 1\n" in page
    assert page.count("is the PSNR in dB and the SSIM") == 1
    assert "skip 10.0% of the decoder's multiply-adds (5.0% of the network's)" in page
    assert "Not measured: `benchmarks/results/restore_speed.json` is not there." in page
    assert "| expert 0 | 30.500 | -0.10 [" in page
    assert "| moce, chosen (2) | 0.00 | 0.62 | 0.00 | 5.00 ± 0.71 | 25.00 ± 0.71 | - | - | 1.00 |" in page
    assert "| dense, dearest (1) | 0.00 | 1.50 | 0.00 | 5.00 | 25.00 | +0.50 [+0.50, +0.50] | ahead | 1.00 |" in page
    assert "(images/restore_usage.png)" in page
    assert "(images/restore_price.png)" in page
    page = page.replace("# Restoration\n", "# Restoration\n\nProse.\n")
    (docs / "restoration.md").write_text(page, encoding="utf-8")
    report_restore.main(arguments)
    assert (docs / "restoration.md").read_text(encoding="utf-8") == page


def test_plots_are_small_and_go_away_with_their_record(records, tmp_path):
    found = draw_all(read(records / "restore_routing.json"), tmp_path / "images")
    assert found == {"usage": "restore_usage.png", "price": "restore_price.png"}
    assert all(path.stat().st_size < 60_000 for path in (tmp_path / "images").iterdir())
    assert draw_all(None, tmp_path / "images") == {}
    assert not list((tmp_path / "images").iterdir())


def test_strips_are_no_larger_than_they_may_be(tmp_path):
    noise = np.random.default_rng(0).integers(256, size=(240, 240, 3), dtype=np.uint8)
    restore_pictures.write(tmp_path / "a.jpg", [noise] * 3)
    assert 0 < (tmp_path / "a.jpg").stat().st_size <= restore_pictures.LIMIT


def test_every_strip_can_be_made_and_shown(shared, tmp_path):
    for strip in restore_pictures.STRIPS.values():
        damaged, clean = strip.read()
        assert damaged.shape == clean.shape
        assert psnr(damaged, clean) < 35
        assert restore_pictures.crop(clean, strip.left, strip.top).shape == (240, 240, 3)
    (tmp_path / "restore_haze.jpg").write_bytes(b"")
    assert "![Haze: input, restored, clean](images/restore_haze.jpg)" in report_restore._pictures(tmp_path)
