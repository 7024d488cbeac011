"""Real camera noise with sigma told instead of estimated: what it is worth to name a level where none is found."""

from __future__ import annotations

from functools import partial

from benchmarks.denoise import Scores, describe, mixtures, non_local_means, real, run, untouched, warm_up
from benchmarks.pictures import numbers, parser
from benchmarks.record import Record
from moesaic import read_picture
from moesaic.mixture.backends.threads import default_threads
from moesaic.mixture.denoise import MODELS

SIGMAS = (5, 10)


def main(arguments: list[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--sigmas", type=numbers, default=SIGMAS, metavar="5,10")
    asked = options.parse_args(arguments)
    threads = asked.threads or default_threads()
    settings = {"threads": threads, "models": MODELS, "sigmas": list(asked.sigmas)}
    record = Record("denoise_real", settings=settings, folder=asked.results, resume=asked.resume)
    ours = partial(mixtures, models=MODELS, threads=threads)
    warm_up(ours)
    for name, pairs in real().items():
        for sigma in asked.sigmas:
            if record.has("told", f"{name}/{sigma}"):
                continue
            scores = Scores()
            for noisy_path, clean_path in pairs if asked.only is None else pairs[: len(asked.only)]:
                noisy, clean = read_picture(noisy_path).pixels, read_picture(clean_path).pixels
                for method in (untouched, ours, non_local_means):
                    for result in run(method, noisy, sigma, clean):
                        scores.add(result)
            row = {"set": name, "sigma": sigma, "all": scores.summary()}
            record.put("told", f"{name}/{sigma}", row)
            print(describe(row), flush=True)


if __name__ == "__main__":
    main()
