"""The diffusion path end to end: a tiny model in the layout of Stable Diffusion, made, trained and used in minutes.

What it reaches says nothing of Stable Diffusion; that a folder of its kind goes through loading, ranks, training and
the command line, and that tiles meet, is what is shown. First the autoencoder learns to give training crops back, then
the UNet to undo clean shrinks and mild damage in one residual step, then a mixture of ranks alone the whole
second-order chain. The model is saved as diffusers would save it, the ranks as `moesaic` does, and `moesaic upscale
--model FOLDER --ranks FILE` enlarges frozen pictures of Set5. Seams are the largest difference of a picture in tiles to
one piece, as it is done here and with tiles that each have norms of their own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks.record import RESULTS, ROOT, Record, Row
from benchmarks.restore_pictures import write
from benchmarks.super_resolution import DATA, Eight, read, resized, score
from benchmarks.upscale_pictures import DIFFUSION
from benchmarks.upscale_sets import Case, cases
from moesaic.training.bank import Bank, list_pictures, read_bank
from moesaic.training.seeds import generator_for
from moesaic.training.store import as_input
from moesaic.upscale.adapters import mix_of_ranks
from moesaic.upscale.diffusion import TARGETS, DiffusionUpscaler
from moesaic.upscale.estimators import make_estimator
from moesaic.upscale.network import enlarged
from moesaic.upscale.pairs import make_pairs
from tests.upscale.tiny_diffusion import save_folder

SCALE = 4
SHOWN = ("bicubic", "medium", "severe")
CROP, BATCH = 96, 4  # px of the large crop
LATENTS = 8  # channels
STEPS = {"autoencoder": 300, "unet": 250, "ranks": 200}
MIX = {"unet": {"bicubic": 0.6, "mild": 0.4}, "ranks": {"bicubic": 0.15, "full": 0.85}}
RATE = 1e-3
TILE = 96  # px of the output, for the seams


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--share", type=float, default=1.0, metavar="OF_STEPS", help="fewer steps, for a trial")
    options.add_argument("--folder", type=Path, metavar="DIR", help="where the model goes; nowhere unless given")
    options.add_argument("--results", type=Path, metavar="DIR", default=RESULTS, help="where the JSON goes")
    options.add_argument("--docs", type=Path, default=ROOT / "docs", metavar="DIR")
    asked = options.parse_args(arguments)
    steps = {name: max(1, round(asked.share * count)) for name, count in STEPS.items()}
    record = Record("upscale_diffusion", settings={"steps": steps, "crop": CROP, "batch": BATCH}, folder=asked.results)
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["MOESAIC_CACHE"] = temporary  # of the text's embedding
        folder = asked.folder or Path(temporary) / "tiny"
        bank = read_bank(list_pictures(DATA / "train.txt"))
        began = time.perf_counter()
        upscaler = taught(bank, steps, folder)
        seconds = round(time.perf_counter() - began, 1)
        sizes = {name: _count(part) for name, part in (("unet", upscaler.unet), ("vae", upscaler.vae))}
        ranks = sum(p.numel() for p in upscaler.mix.parameters())
        record.put("training", "tiny", {"seconds": seconds, "parameters": sizes, "ranks": ranks})
        strip: list[Eight] = []
        for sort in SHOWN:
            for case in cases("Set5", sort, SCALE):
                row, shown = used(case, folder, Path(temporary))
                record.put("pictures", f"{sort}/{case.picture}", row)
                if (case.picture, sort) == ("butterfly", "medium"):
                    strip = shown
            mine = [row for row in record.content["results"]["pictures"].values() if row["sort"] == sort]
            told = {name: statistics.fmean(row["psnr_y"][name] for row in mine) for name in mine[0]["psnr_y"]}
            print(sort, {name: round(value, 2) for name, value in told.items()}, flush=True)
        write(asked.docs / "images" / DIFFUSION, strip)
        record.put("seams", str(TILE), seams(upscaler))
        print(record.content["results"]["seams"])


def taught(bank: Bank, steps: Row, folder: Path) -> DiffusionUpscaler:
    """The model with its ranks, trained from nothing; saved on the way."""
    save_folder(folder)  # of random weights; two of its networks are replaced by less coarse ones
    for name, part in parts().items():
        part.save_pretrained(folder / name)
    upscaler = DiffusionUpscaler.load(folder, mode="residual", device="cpu")
    upscaler.vae.requires_grad_(True)
    _learn_autoencoder(upscaler, bank, steps["autoencoder"])
    upscaler.vae.requires_grad_(False)
    upscaler.unet.requires_grad_(True)
    _learn_step(upscaler, bank, steps["unet"], "unet")
    upscaler.unet.requires_grad_(False)
    upscaler.unet.save_pretrained(folder / "unet")
    upscaler.vae.save_pretrained(folder / "vae")
    estimator = make_estimator()
    torch.manual_seed(0)
    upscaler.mix = mix_of_ranks(upscaler, TARGETS, scores=len(estimator.names), shared=2, routed=8, active=3, zero=2)
    _learn_step(upscaler, bank, steps["ranks"], "ranks", estimator)
    upscaler.mix.save(folder / "ranks.safetensors", estimator=estimator.identity)
    return upscaler.eval()


def parts() -> dict[str, Any]:
    """A UNet and an autoencoder at a quarter of the size, of random weights."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=(32, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=LATENTS,
        scaling_factor=0.18215,
    )
    unet = UNet2DConditionModel(
        sample_size=CROP // 4,
        in_channels=LATENTS,
        out_channels=LATENTS,
        block_out_channels=(64, 96),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
        cross_attention_dim=32,
        attention_head_dim=8,
    )
    return {"vae": vae, "unet": unet}


def _learn_autoencoder(upscaler: DiffusionUpscaler, bank: Bank, steps: int) -> None:
    learner = torch.optim.Adam(upscaler.vae.parameters(), lr=RATE)
    for step in range(steps):
        clean = _crops(bank, "autoencoder", step)
        loss = (upscaler.codec.decode(upscaler.codec.encode(clean)) - clean).abs().mean()
        _update(learner, loss, step, steps, "autoencoder")


def _learn_step(upscaler: DiffusionUpscaler, bank: Bank, steps: int, stage: str, estimator: Any = None) -> None:
    learned = [parameter for parameter in upscaler.parameters() if parameter.requires_grad]
    learner = torch.optim.Adam(learned, lr=RATE)
    for step in range(steps):
        clean = _crops(bank, stage, step)
        with torch.no_grad():
            pairs = make_pairs(clean, generator_for(0, f"{stage} damage", step), SCALE, MIX[stage])
        large = enlarged(pairs.low, SCALE).clamp(0, 1)
        if estimator is None:
            made, _ = upscaler(large)
            loss = (made - clean).abs().mean()
        else:
            scores = estimator(pairs.low)
            with upscaler.mix.given(scores.values):
                made, _ = upscaler(large)
                loss = (made - clean).abs().mean() + 0.01 * upscaler.mix.balance(scores.severity)
        _update(learner, loss, step, steps, stage)


def _crops(bank: Bank, stage: str, step: int) -> torch.Tensor:
    return as_input(bank.crops(generator_for(0, f"{stage} crops", step), BATCH, CROP, shrink=0.5))


def _update(learner: torch.optim.Optimizer, loss: torch.Tensor, step: int, steps: int, stage: str) -> None:
    for group in learner.param_groups:
        group["lr"] = RATE * min(1.0, (step + 1) / 50, 0.02 + (steps - step) / (0.3 * steps))
    learner.zero_grad()
    loss.backward()
    learner.step()
    if step % 100 == 0 or step == steps - 1:
        print(f"{stage} {step}: {float(loss.detach()):.4f}", flush=True)


def used(case: Case, folder: Path, place: Path) -> tuple[Row, list[Eight]]:
    """One picture through the command line, without ranks and with them."""
    from moesaic.cli import main as moesaic

    height, width = case.large.shape[:2]
    made = {"bicubic": resized(case.small, (width, height), "bicubic")}
    Image.fromarray(case.small).save(place / "small.png")
    for name, further in (("without ranks", []), ("with ranks", ["--ranks", str(folder / "ranks.safetensors")])):
        out = place / "large.png"
        told = ["upscale", str(place / "small.png"), "-o", str(out), "--model", str(folder), "--force", "--quiet"]
        if moesaic([*told, *further]):
            raise SystemExit("moesaic upscale failed")
        made[name] = read(out)
    row = {"sort": case.sort, "picture": case.picture}
    row["psnr_y"] = {name: score(one, case.large, case.scale)["psnr_y"] for name, one in made.items()}
    return row, [*made.values(), case.large]


def seams(upscaler: DiffusionUpscaler) -> Row:
    """How far tiles are from one piece: those that meet at every layer, and those that know nothing of each other."""
    estimator = make_estimator()
    case = next(case for case in cases("Set5", "bicubic", SCALE) if case.picture == "butterfly")
    x = torch.from_numpy(case.small.copy()).permute(2, 0, 1)[None].float() / 255
    scores = estimator(x)
    whole = upscaler.upscale(x, SCALE, scores=scores, colour="none")
    shared = upscaler.upscale(x, SCALE, scores=scores, colour="none", tile=TILE)
    side = TILE // SCALE
    apart = torch.empty_like(whole)
    for top in range(0, x.shape[2], side):
        for left in range(0, x.shape[3], side):
            piece = upscaler.upscale(x[..., top : top + side, left : left + side], SCALE, scores=scores, colour="none")
            height, width = piece.shape[-2:]
            apart[..., SCALE * top : SCALE * top + height, SCALE * left : SCALE * left + width] = piece
    return {
        "tile": TILE,
        "meeting": float((whole - shared).abs().max()),
        "apart": float((whole - apart).abs().max()),
    }


def _count(part: Any) -> int:
    return sum(parameter.numel() for parameter in part.parameters())


if __name__ == "__main__":
    main()
