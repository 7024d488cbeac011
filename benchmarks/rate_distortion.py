"""Rate and distortion of .moe files beside JPEG, WebP and AVIF, all from real files in the same run.

Also what a kernel costs in bits, what quantisation loses, how long a file takes to decode, and how well `encode` hits a
rate or a PSNR that is asked of it.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from benchmarks import codecs, quality
from benchmarks.fit import pixels as drawn
from benchmarks.pictures import FOUR, gallery, numbers, parser
from benchmarks.record import Record
from moesaic import MoesaicError, decode, encode, metrics
from moesaic.mixture import ops
from moesaic.mixture.backends.threads import default_threads
from moesaic.mixture.fit import fit

if TYPE_CHECKING:
    from moesaic.image import Picture

PARTS = ("curves", "file", "targets")
LADDER = (800, 2_200, 4_700, 10_000)  # experts: about 0.1 to 1 bpp at 768x512
EXPERTS = 10_000  # of the file that is looked at closely
RATES = (0.15, 0.6)  # bpp to be hit
QUALITIES = (27.0, 31.0)  # dB to be hit


def main(arguments: list[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--experts", type=numbers, default=LADDER, metavar="400,700")
    options.add_argument("--steps", type=int, default=400, help="of each fit of the curves")
    options.add_argument("--parts", default=",".join(PARTS), metavar=",".join(PARTS))
    options.add_argument("--codecs", default=None, metavar="moesaic,JPEG", help="all that are installed by default")
    asked = options.parse_args(arguments)
    parts = asked.parts.split(",")
    if not set(parts) <= set(PARTS):
        raise SystemExit(f"--parts takes {', '.join(PARTS)}")
    shown = gallery(asked.pictures)
    threads = asked.threads or default_threads()
    ops.threads = threads
    rivals = codecs.available()
    wanted = set(asked.codecs.split(",")) if asked.codecs else {"moesaic", *(c.name for c in rivals)}
    settings = {
        "steps": asked.steps,
        "pictures": shown.name,
        "threads": threads,
        "seed": 0,
        "codecs": {c.name: {"options": c.words, "library": c.library} for c in rivals},
    }
    record = Record("rate_distortion", settings=settings, folder=asked.results, resume=asked.resume)
    warm_up()
    if "curves" in parts:
        for source in shown.only(asked.only):
            picture = source.read()
            for codec in rivals:
                key = f"{source.name}/{codec.name}"
                if codec.name in wanted and not record.has("curves", key):
                    files = [classic(codec, picture, step) for step in codec.qualities]
                    record.put("curves", key, {"picture": source.name, "codec": codec.name, "files": files})
            key = f"{source.name}/moesaic"
            if "moesaic" in wanted and not record.has("curves", key):
                files = [ours(picture, experts=n, steps=asked.steps) for n in asked.experts]
                record.put("curves", key, {"picture": source.name, "codec": "moesaic", "files": files})
                words = ", ".join(f"{f['bpp']:.2f} bpp {f['psnr']:.2f} dB" for f in files)
                print(f"{source.name}: {words}", flush=True)
    if "file" in parts:
        for source in shown.only(asked.only):
            if not record.has("file", source.name):
                row = {"picture": source.name} | look_closely(source.read(), threads)
                record.put("file", source.name, row)
                words = f"{row['bits_per_kernel']:.1f} bits a kernel, {row['loss']:.3f} dB lost"
                print(f"{source.name}: {words}, decoded in {row['decode_ms']:.0f} ms", flush=True)
    if "targets" in parts:
        aims: list[dict[str, float]] = [*({"bpp": r} for r in RATES), *({"psnr": q} for q in QUALITIES)]
        for source in shown.only(asked.only or FOUR):
            picture = source.read()
            for aim in aims:
                (kind, value), *_ = aim.items()
                key = f"{source.name}/{kind} {value}"
                if not record.has("targets", key):
                    row = {"picture": source.name, "kind": kind, "target": value} | hit(picture, **aim)
                    record.put("targets", key, row)
                    print(f"{key}: {row}", flush=True)


def warm_up() -> None:
    """Compile, or load from the cache, all that encoding and decoding run."""
    noise = np.random.default_rng(0).random((96, 96, 3), dtype=np.float32)
    decode(encode(noise, experts=150).data)


def classic(codec: codecs.Codec, picture: Picture, step: int) -> dict[str, Any]:
    """One file of a classic codec."""
    source = picture.pixels[..., :3]
    image = Image.fromarray(np.round(source * 255).astype(np.uint8))
    data, spent = codecs.timed(lambda: codec.encode(image, step))
    decoded, back = codecs.timed(lambda: codecs.decode(data))
    return {
        "quality": step,
        "bytes": len(data),
        "bpp": round(metrics.bits_per_pixel(len(data), picture.width, picture.height), 5),
        "psnr": round(metrics.psnr(decoded, source), 4),
        "ssim": round(metrics.ssim(decoded, source), 5),
        "encode_ms": spent,
        "decode_ms": back,
    }


def ours(picture: Picture, **asked: Any) -> dict[str, Any]:
    """One .moe file, judged by what its bytes decode to."""
    start = time.perf_counter()
    data = encode(picture, seed=0, **asked).data
    spent = 1e3 * (time.perf_counter() - start)
    decoded, back = codecs.timed(lambda: decode(data))
    eight = quality.rounded(decoded.pixels)
    return {
        **asked,
        "bytes": len(data),
        "bpp": round(metrics.bits_per_pixel(len(data), picture.width, picture.height), 5),
        "psnr": round(metrics.psnr(eight, picture.pixels), 4),
        "ssim": round(metrics.ssim(eight, picture.pixels), 5),
        "encode_ms": round(spent, 2),
        "decode_ms": back,
    }


def look_closely(picture: Picture, threads: int) -> dict[str, Any]:
    """Bits a kernel, loss and times of one file, beside the unquantised fit with the same experts, steps and seed."""
    exact = quality.score(drawn(fit(picture, experts=EXPERTS, seed=0, threads=threads)), picture.pixels)
    encoded = encode(picture, experts=EXPERTS, seed=0)
    decoded = quality.score(decode(encoded.data).pixels, picture.pixels)
    spent = sorted(codecs.timed(lambda: decode(encoded.data))[1] for _ in range(11))
    kernels = len(encoded.mixture)
    return {
        "kernels": kernels,
        "width": picture.width,
        "height": picture.height,
        "bytes": len(encoded.data),
        "bits_per_kernel": round(8 * len(encoded.data) / kernels, 3),
        "psnr_fit": exact["psnr"],
        "psnr_file": decoded["psnr"],
        "loss": round(exact["psnr"] - decoded["psnr"], 4),
        "encode_s": round(encoded.seconds, 3),
        "decode_ms": round(statistics.median(spent), 2),
    }


def hit(picture: Picture, **asked: float) -> dict[str, Any]:
    """Ask for a rate or a PSNR and see what the file gives."""
    start = time.perf_counter()
    try:
        file = ours(picture, **asked)
    except MoesaicError as refusal:
        return {"refused": str(refusal), "seconds": round(time.perf_counter() - start, 2)}
    (kind, value), *_ = asked.items()
    miss = file[kind] / value - 1 if kind == "bpp" else file[kind] - value
    return {
        "bpp": file["bpp"],
        "psnr": file["psnr"],
        "miss": round(miss, 5),
        "seconds": round(file["encode_ms"] / 1e3, 2),
    }


if __name__ == "__main__":
    main()
