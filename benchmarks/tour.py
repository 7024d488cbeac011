"""The pictures of docs/gallery.md, and the page itself: each is made by the commands that stand above it.

The photographs are Kodak's, which are free for any use; without them those that come with scikit-image serve.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shlex
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from benchmarks.pictures import gallery
from benchmarks.record import ROOT
from moesaic.cli import main as moesaic
from moesaic.image import to_pillow
from moesaic.sheet import INK, SMALL, length, write

WIDTH, GAP, LABEL = 960, 8, 26  # px
QUALITY = 88  # of JPEG
Box = tuple[int, int, int, int]  # left, top, right, bottom, px
Panel = tuple[str, Image.Image]  # with what is written above it
HEAD = """# Gallery

Each picture is made by the commands above it; `python -m benchmarks.tour` makes them all again. The photographs are
Kodak's. [The tour](index.md) says what each command is for.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One picture of the gallery."""

    name: str
    title: str
    photo: str  # of Kodak's, by number
    file: str  # its name in the commands
    commands: tuple[str, ...]
    panels: Callable[[Path], Sequence[Panel]]  # from the folder in which the commands ran
    told: str
    prepare: Callable[[Image.Image], Image.Image] = lambda photo: photo
    quality: int = 90  # of the photograph, where it is a JPEG


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--docs", type=Path, default=ROOT / "docs", metavar="DIR")
    options.add_argument("--only", metavar="NAME", help="one picture alone; the page is left as it is")
    asked = options.parse_args(arguments)
    sources = gallery().sources
    text = [HEAD]
    for place, scene in enumerate(SCENES):
        if asked.only in (None, scene.name):
            source = next((one for one in sources if one.name == f"kodim{scene.photo}"), sources[place % len(sources)])
            picture = side_by_side(shown(scene, to_pillow(source.read())))
            path = asked.docs / "images" / f"gallery_{scene.name}.jpg"
            picture.save(path, quality=QUALITY, optimize=True)
            print(f"{path.name}: {picture.size}, {path.stat().st_size} bytes", flush=True)
        commands = "\n".join(f"moesaic {command}" for command in scene.commands)
        text.append(f"## {scene.title}\n\n```sh\n{commands}\n```\n\n![{scene.told}](images/gallery_{scene.name}.jpg)\n")
    if asked.only is None:
        (asked.docs / "gallery.md").write_text("\n".join(text), encoding="utf-8")


def shown(scene: Scene, photo: Image.Image) -> Sequence[Panel]:
    """Run the commands in a folder that holds the photograph, and take the panels from there."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        scene.prepare(photo).save(scene.file, quality=scene.quality)
        photo.save("truth.png")
        for command in scene.commands:
            with contextlib.redirect_stdout(io.StringIO()):
                code = moesaic(shlex.split(command, comments=True))
            if code:
                raise SystemExit(f"moesaic {command} ended with {code}")
        return scene.panels(Path(folder))


def side_by_side(panels: Sequence[Panel]) -> Image.Image:
    """Panels of one height in a row, each with its label above."""
    wide = (WIDTH - GAP * (len(panels) - 1)) // len(panels)
    images = [
        image.convert("RGB").resize((wide, round(wide * image.height / image.width)), _filter(image, wide))
        for _, image in panels
    ]
    whole = Image.new("RGB", (WIDTH, LABEL + max(image.height for image in images)), "white")
    pen = ImageDraw.Draw(whole)
    for place, ((label, _), image) in enumerate(zip(panels, images, strict=True)):
        left = place * (wide + GAP)
        write(pen, (left, 2), label if length(label, SMALL) <= wide else label[:20], SMALL, INK)
        whole.paste(image, (left, LABEL))
    return whole


def _filter(image: Image.Image, wide: int) -> Image.Resampling:
    """Crops are enlarged in whole pixels, so that nothing is smoothed that the program has not."""
    return Image.Resampling.NEAREST if image.width < wide else Image.Resampling.LANCZOS


def _open(path: Path, box: Box | None = None) -> Image.Image:
    image = Image.open(path)
    image.load()
    return image if box is None else image.crop(box)


def _both(
    before: str, after: str, *, labels: tuple[str, str] = ("before", "after"), box: Box | None = None
) -> Callable[[Path], Sequence[Panel]]:
    return lambda folder: [(labels[0], _open(folder / before, box)), (labels[1], _open(folder / after, box))]


def _shrunk(factor: int) -> Callable[[Image.Image], Image.Image]:
    return lambda photo: photo.resize((photo.width // factor, photo.height // factor), Image.Resampling.BICUBIC)


def _larger(small: str, large: str, factor: int, box: Box) -> Callable[[Path], Sequence[Panel]]:
    """A part of a small picture as pixels, by bicubic interpolation, and as moesaic has it."""

    def panels(folder: Path) -> Sequence[Panel]:
        image = _open(folder / small).convert("RGB")
        bicubic = image.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)
        part = (box[0] // factor, box[1] // factor, box[2] // factor, box[3] // factor)
        return [
            ("its pixels", image.crop(part)),
            ("bicubic", bicubic.crop(box)),
            ("moesaic", _open(folder / large, box)),
        ]

    return panels


def _zoom(folder: Path) -> Sequence[Panel]:
    photo = _open(folder / "photo.png")
    return [
        ("the photograph", photo.crop((430, 140, 670, 300))),
        ("a part of it, in pixels", photo.crop((485, 172, 545, 212))),
        ("the same part of the mixture", _open(folder / "eye.png")),
    ]


SCENES = (
    Scene(
        name="encode",
        title="A photograph as a mixture, without pixels",
        photo="23",
        file="photo.png",
        commands=(
            "encode photo.png --experts 12000 --fast --refine 200",
            "decode photo.moe --region 485,172,545,212 --size 1200x800 -o eye.png",
        ),
        panels=_zoom,
        told="A parrot, its eye in pixels, and its eye drawn from the mixture at 20 times the size",
    ),
    Scene(
        name="explain",
        title="Who paints what",
        photo="23",
        file="photo.png",
        commands=("encode photo.png --experts 3000 --fast", "explain photo.moe --source photo.png"),
        panels=lambda folder: [("photo.explained.png", _open(folder / "photo.explained.png", (0, 0, 1200, 1300)))],
        told="The picture, the mixture, its kernels as ellipses, the places that each owns, bits and errors by place",
    ),
    Scene(
        name="restore",
        title="Rain taken away",
        photo="19",
        file="photo.png",
        commands=("degrade photo.png --kind rain --seed 2 -o rainy.png", "restore rainy.png"),
        panels=_both("rainy.png", "rainy.restored.png", labels=("with rain", "restored")),
        told="A lighthouse in the rain, and restored",
    ),
    Scene(
        name="low_light",
        title="Light in the dark",
        photo="03",
        file="photo.png",
        commands=("degrade photo.png --kind low_light --seed 5 -o dark.png", "restore dark.png"),
        panels=_both("dark.png", "dark.restored.png", labels=("in little light", "restored")),
        told="Hats in little light, and restored",
    ),
    Scene(
        name="denoise",
        title="Noise taken out, without training",
        photo="23",
        file="photo.png",
        commands=("degrade photo.png --kind noise --severity 0.5 --seed 1 -o noisy.png", "denoise noisy.png"),
        panels=_both("noisy.png", "noisy.denoised.png", labels=("noisy", "denoised"), box=(40, 150, 424, 406)),
        told="A noisy parrot, and without the noise",
    ),
    Scene(
        name="upscale",
        title="A small picture from the web, four times as wide",
        photo="04",
        file="web.jpg",
        commands=("upscale web.jpg",),
        panels=_larger("web.jpg", "web.upscaled.x4.png", 4, (64, 60, 448, 444)),
        prepare=_shrunk(4),
        quality=45,
        told="A small JPEG of a face in pixels, by bicubic interpolation, and upscaled",
    ),
    Scene(
        name="enlarge",
        title="A clean picture, three times as wide",
        photo="19",
        file="small.png",
        commands=("enlarge small.png --scale 3",),
        panels=_larger("small.png", "small.x3.png", 3, (60, 330, 360, 630)),
        prepare=_shrunk(3),
        told="A fence and a house in pixels, by bicubic interpolation, and enlarged",
    ),
    Scene(
        name="segment",
        title="What is where in a street",
        photo="08",
        file="street.jpg",
        commands=("segment street.jpg",),
        panels=_both("street.jpg", "street.segmented.png", labels=("a street", "its classes")),
        told="Houses in a street, and the same with classes in colours",
    ),
    Scene(
        name="degrade",
        title="Damage to try it on",
        photo="21",
        file="photo.png",
        commands=("degrade photo.png --show",),
        panels=lambda folder: [("photo.degradations.png", _open(folder / "photo.degradations.png"))],
        told="One photograph with each kind of damage",
    ),
)


if __name__ == "__main__":
    main()
