#!/usr/bin/env bash
# Upscaling weights such as ship (compact_upscale), trained on a CPU: the base, then its ranks.
#
#     DATA=path/to/train.txt recipes/upscale_cpu.sh
#
# DATA is a folder of clean pictures or a text file that lists some. Either run can be interrupted at any moment; the same
# call goes on. The base sees clean shrinks and mild damage alone: had it seen all, no rank would have anything to learn.
# No rank is always on, and there are as many slots that do nothing as are chosen: a clean picture can be left to the base.
set -euo pipefail

DATA=${DATA:?set DATA to a folder or list of clean pictures}
OUT=${OUT:-runs/compact_upscale}
STEPS=${STEPS:-6500}
SEED=${SEED:-0}
export OMP_NUM_THREADS=1
torchrun --nproc-per-node 2 -m -- moesaic train upscale --data "$DATA" -o "$OUT/base" --options '{"width":64,"blocks":8}' \
    --mix bicubic=0.6,mild=0.4 --scales 4=0.7,2=0.3 --crop 48 --batch 8 --rate 1e-3 --precision bfloat16 \
    --steps "$STEPS" --seed "$SEED" --device cpu
torchrun --nproc-per-node 2 -m -- moesaic train upscale --data "$DATA" -o "$OUT/ranks" --start "$OUT/base/model.safetensors" \
    --options '{"width":64,"blocks":8,"ranks":{"scores":4,"shared":0,"routed":16,"active":7,"zero":7}}' \
    --mix bicubic=0.15,full=0.85 --scales 4=0.7,2=0.3 --crop 48 --batch 8 --rate 1e-3 --precision bfloat16 \
    --steps $((STEPS * 2 / 13)) --seed "$SEED" --device cpu
