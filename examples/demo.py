"""`make demo`: a photograph becomes a .moe file and comes back, at its own size and at four times that.

    python examples/demo.py [PHOTO]

writes ./demo/NAME.moe, NAME.png, NAME.x4.png and comparison.png, and prints one table. Without PHOTO it takes the cat
that scikit-image ships. A photograph of more than a megapixel is shrunk first, so that the demo stays short.
"""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table

import moesaic
from moesaic import metrics

FOLDER = Path("demo")
LARGEST = 1_000_000  # pixels
SCALE = 4
PANEL = 640  # px: larger photographs are shown smaller in the comparison
GAP, LABEL = 10, 24  # px
CAT, EYE = "chelsea.png", (0.375, 0.385)  # where to enlarge it, as shares of width and height


def main(arguments: list[str]) -> int:
    console = Console()
    try:
        path, focus = (Path(arguments[0]), None) if arguments else (_cat(), EYE)
        photo = _prepared(moesaic.read_picture(path))
        FOLDER.mkdir(exist_ok=True)
        demonstrate(photo, path.stem, focus, console)
    except moesaic.MoesaicError as error:
        Console(stderr=True).print(str(error), markup=False)
        return 2
    return 0


def demonstrate(photo: moesaic.Picture, name: str, focus: tuple[float, float] | None, console: Console) -> None:
    file = FOLDER / f"{name}.moe"
    with Progress(
        TextColumn("fitting {task.fields[psnr]:.2f} dB"), BarColumn(), TaskProgressColumn(), console=console
    ) as bar:
        task = bar.add_task("", total=1.0, psnr=0.0)

        def watch(now: moesaic.mixture.fitting.Progress) -> None:
            bar.update(task, completed=now.seconds / (now.seconds + now.seconds_left), psnr=now.psnr)

        started = time.perf_counter()
        encoded = moesaic.encode(photo, file, progress=watch, force=True, metadata="strip")
        encoding = time.perf_counter() - started
    (same, decoding), (large, enlarging) = (_timed_decode(file, scale) for scale in (1, SCALE))
    moesaic.write_picture(same, FOLDER / f"{name}.png", force=True)
    moesaic.write_picture(large, FOLDER / f"{name}.x{SCALE}.png", force=True)
    started = time.perf_counter()
    jpeg = _jpeg_of_size(photo, len(encoded.data))
    jpeg_seconds = time.perf_counter() - started

    table = Table(title=f"{name}: {photo.width}x{photo.height}, {len(encoded.mixture):,} experts")
    table.add_column("")
    for heading in ("PSNR, dB", "SSIM", "bytes", "bpp", "seconds"):
        table.add_column(heading, justify="right")
    size = (f"{len(encoded.data):,}", f"{encoded.bpp:.3f}")
    table.add_row(f"encode to {file.name}", "", "", *size, f"{encoding:.2f}")
    table.add_row("decode x1", *_quality(photo, same), *size, f"{decoding:.3f}")
    table.add_row(f"decode x{SCALE} ({large.width}x{large.height})", "", "", *size, f"{enlarging:.3f}")
    table.add_row(
        "JPEG of that size",
        *_quality(photo, moesaic.read_picture(jpeg)),
        f"{len(jpeg):,}",
        f"{metrics.bits_per_pixel(len(jpeg), photo.width, photo.height):.3f}",
        f"{jpeg_seconds:.3f}",
    )
    console.print(table)
    sheet = comparison(photo, same, large, focus, f"moesaic, {len(encoded.data):,} bytes, {encoded.psnr:.1f} dB")
    sheet.save(FOLDER / "comparison.png", optimize=True)
    console.print(f"See {FOLDER / 'comparison.png'}", highlight=False)


def _cat() -> Path:
    import skimage.data

    return Path(skimage.data.__file__).with_name(CAT)


def _prepared(photo: moesaic.Picture) -> moesaic.Picture:
    """Eight bits without alpha, as JPEG can hold it too, and at most a megapixel."""
    photo = photo.over(1.0).with_depth(8)
    shrink = (LARGEST / (photo.width * photo.height)) ** 0.5
    if shrink >= 1:
        return photo
    image = moesaic.image.to_pillow(photo)
    size = (max(1, round(photo.width * shrink)), max(1, round(photo.height * shrink)))
    return moesaic.read_picture(image.resize(size, Image.Resampling.LANCZOS))


def _timed_decode(file: Path, scale: int) -> tuple[moesaic.Picture, float]:
    started = time.perf_counter()
    picture = moesaic.decode(file, scale=scale)
    return picture, time.perf_counter() - started


def _jpeg_of_size(photo: moesaic.Picture, most: int) -> bytes:
    """The best JPEG file of at most so many bytes; of the lowest quality if none is so small."""
    image, best = moesaic.image.to_pillow(photo.without_metadata()), b""
    for quality in range(1, 96):
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality, optimize=True)
        if best and len(file.getvalue()) > most:
            break
        best = file.getvalue()
    return best


def _quality(photo: moesaic.Picture, other: moesaic.Picture) -> tuple[str, str]:
    a, b = (np.asarray(moesaic.image.to_pillow(one), np.float32) / 255 for one in (photo, other))
    return f"{metrics.psnr(a, b):.2f}", f"{metrics.ssim(a, b):.4f}" if min(a.shape[:2]) > 10 else ""


def comparison(
    photo: moesaic.Picture,
    same: moesaic.Picture,
    large: moesaic.Picture,
    focus: tuple[float, float] | None,
    label: str,
) -> Image.Image:
    """Original and decoded side by side; below, one detail enlarged by nearest pixels, bicubic and moesaic."""
    original, decoded, enlarged = (moesaic.image.to_pillow(one).convert("RGB") for one in (photo, same, large))
    shown = min(1.0, PANEL / photo.width)
    size = (round(photo.width * shown), round(photo.height * shown))
    whole = [image.resize(size, Image.Resampling.LANCZOS) for image in (original, decoded)]
    wide = max(1, (2 * size[0] - GAP) // 3 // SCALE)  # px of the photograph, so that three crops fill the row
    box_size = (min(wide, photo.width), min(max(1, round(wide * 0.8)), photo.height))
    left, top = _corner(photo, box_size, focus)
    box = (left, top, left + box_size[0], top + box_size[1])
    target = (box_size[0] * SCALE, box_size[1] * SCALE)
    details = [
        original.crop(box).resize(target, Image.Resampling.NEAREST),
        original.resize(target, Image.Resampling.BICUBIC, box=box),
        enlarged.crop(tuple(SCALE * side for side in box)),
    ]
    for image in whole:
        corners = [side * shown for side in box]
        ImageDraw.Draw(image).rectangle(corners, outline="white", width=1)
    rows = [
        list(zip((f"original, {photo.width}x{photo.height}", label), whole, strict=True)),
        list(zip(("enlarged x4: pixels of the original", "bicubic", "moesaic"), details, strict=True)),
    ]
    sheet = Image.new("RGB", (2 * size[0] + 3 * GAP, size[1] + target[1] + 2 * LABEL + 2 * GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    y = 0
    for row in rows:
        space = (sheet.width - 2 * GAP - sum(image.width for _, image in row)) / max(1, len(row) - 1)
        x = float(GAP)
        for text, image in row:
            draw.text((x, y + 5), text, fill="black", font=font)
            sheet.paste(image, (round(x), y + LABEL))
            x += image.width + space
        y += LABEL + row[0][1].height + GAP // 2
    return sheet


def _corner(photo: moesaic.Picture, size: tuple[int, int], focus: tuple[float, float] | None) -> tuple[int, int]:
    """Left and top of a window of this size around the focus, or where there is most detail."""
    width, height = size
    if focus is not None:
        left, top = round(focus[0] * photo.width - width / 2), round(focus[1] * photo.height - height / 2)
        return max(0, min(left, photo.width - width)), max(0, min(top, photo.height - height))
    grey = photo.pixels.mean(axis=2)
    detail = np.abs(np.diff(grey, axis=0, append=grey[-1:])) + np.abs(np.diff(grey, axis=1, append=grey[:, -1:]))
    total: NDArray[np.float64] = np.pad(detail, ((1, 0), (1, 0))).cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
    sums = total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    top, left = np.unravel_index(np.argmax(sums), sums.shape)
    return int(left), int(top)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
