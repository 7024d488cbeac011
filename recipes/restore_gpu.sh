#!/usr/bin/env bash
# Goes on from the shipped restoration weights on one GPU, for about 25 minutes in pieces of ten.
#
#     DATA=path/to/train.txt recipes/restore_gpu.sh          # from the shipped weights
#     DATA=path/to/train.txt WIDTH=48 recipes/restore_gpu.sh  # a larger network (about 10 MB as float16), from nothing
#
# Not run yet: no device was at hand when it was written. Call it again after each piece until it says "finished".
set -euo pipefail

DATA=${DATA:?set DATA to a folder or list of clean pictures}
OUT=${OUT:-runs/moce_lite_gpu}
if [[ -n "${WIDTH:-}" ]]; then
    begin=(--options "{\"width\": $WIDTH, \"encoder\": [2, 2, 4]}")
else
    begin=(--start "$(python -c 'import moesaic, pathlib; print(pathlib.Path(moesaic.__file__).parent / "weights" / "moce_lite_restore.safetensors")')")
fi

moesaic train restore --data "$DATA" -o "$OUT" "${begin[@]}" --minutes 25 --piece 9.5 --batch 64 --crop 128 \
    --late-crop 192 --late-share 0.15 --rate 1e-3 --pixel-loss decibel --floor-begin 1e-2 --fourier 0.02 --labels 0.1 \
    --average 0.999 --trials 6000 --grey 0.12 --seed 0 --device cuda \
    --mix noise=.16,poisson=.03,grain=.18,rain=.05,heavy_rain=.05,haze=.09,snow=.04,motion_blur=.08,defocus=.04,low_light=.06,jpeg=.08,resize=.03,composite=.10,clean=.10
