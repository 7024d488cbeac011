"""Made the files in v1, once, with the first release of the format. It refuses to touch what is there.

For a new feature of the same version add a case below and run it: only cases that have no folder yet are written.
"""

import json
from pathlib import Path

import numpy as np
from skimage import data

import moesaic
from moesaic.codec import decode_bytes

HERE = Path(__file__).parent / "v1"
SIZES = {"0.5x": 0.5, "1x": 1.0, "4x": 4.0}
PEAK = 2e-4  # each render is within 1e-4 of the exact mixture, whatever the machine


def crop(left: int, top: int, width: int = 45, height: int = 31) -> np.ndarray:
    return np.ascontiguousarray(data.astronaut()[top : top + height, left : left + width])


def with_alpha(picture: np.ndarray) -> np.ndarray:
    rows, columns = np.mgrid[: picture.shape[0], : picture.shape[1]]
    alpha = np.clip(300 - 9 * np.hypot(rows - 15, columns - 22), 0, 255).astype(np.uint8)
    return np.concatenate([picture, alpha[..., None]], axis=2)


CASES = {
    "rgb": lambda: (crop(170, 60), {"experts": 700}),
    "grey": lambda: (crop(170, 60).mean(axis=2).astype(np.uint8), {"experts": 60}),
    "rgb_alpha": lambda: (with_alpha(crop(200, 90)), {"experts": 80}),
    "grey_alpha": lambda: (with_alpha(crop(200, 90))[..., 2:], {"experts": 40}),
    "linear": lambda: (crop(300, 200), {"experts": 50, "order": 1}),
    "sixteen_bits": lambda: ((crop(120, 30).astype(np.uint16) * 257), {"experts": 64}),
    "one_pixel": lambda: (crop(100, 100, 1, 1), {"experts": 1}),
}


def main() -> None:
    for name, case in CASES.items():
        folder = HERE / name
        if folder.exists():
            continue
        folder.mkdir(parents=True)
        picture, how = case()
        made = moesaic.encode(picture, folder / "file.moe", seed=0, steps=150, **how)
        mixture = decode_bytes(made.data).mixture
        for size, scale in SIZES.items():
            pixels = np.clip(mixture.render(scale=scale).numpy(), 0.0, 1.0)
            np.savez_compressed(folder / f"{size}.npz", pixels=np.rint(pixels * 65535).astype(np.uint16))
        (folder / "case.json").write_text(
            json.dumps({"kernels": len(mixture), "peak_error": dict.fromkeys(SIZES, PEAK)}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
