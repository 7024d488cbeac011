#!/usr/bin/env bash
# A larger compact upscaler on one GPU, for about 25 minutes in pieces of ten: 12 for the base, 10 for its ranks.
#
#     DATA=path/to/train.txt recipes/upscale_gpu.sh
#
# Not run yet: no device was at hand when it was written. Call it again after each piece until both runs are finished.
set -euo pipefail

DATA=${DATA:?set DATA to a folder or list of clean pictures}
OUT=${OUT:-runs/compact_upscale_gpu}
SEED=${SEED:-0}
moesaic train upscale --data "$DATA" -o "$OUT/base" --options '{"width":96,"blocks":16}' --mix bicubic=0.6,mild=0.4 \
    --scales 4=0.7,2=0.3 --crop 64 --batch 32 --rate 6e-4 --minutes 12 --piece 9.5 --seed "$SEED" --device cuda
if [[ ! -f "$OUT/base/model.safetensors" ]]; then
    echo "the base is not finished: call this again" >&2
    exit 75
fi
moesaic train upscale --data "$DATA" -o "$OUT/ranks" --start "$OUT/base/model.safetensors" \
    --options '{"width":96,"blocks":16,"ranks":{"scores":4,"shared":0,"routed":24,"active":10,"zero":10}}' \
    --mix bicubic=0.15,full=0.85 --scales 4=0.7,2=0.3 --crop 64 --batch 32 --rate 6e-4 --minutes 10 --piece 9.5 \
    --seed "$SEED" --device cuda
