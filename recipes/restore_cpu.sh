#!/usr/bin/env bash
# The restoration weights that ship, moce_lite_restore: trained on a CPU, in two stages.
#
#     DATA=path/to/train.txt recipes/restore_cpu.sh
#
# DATA is a folder of clean pictures or a text file that lists some. About 65 minutes on two cores that know bfloat16. Each
# stage can be interrupted at any moment; the same call goes on. The shipped weights began from the first 1,623 steps of a
# schedule of 11,000; the first stage here is the same length with a schedule of its own. Their gates were taught on 1,600
# crops of 96 px. `-m --` keeps torchrun from taking --start for an option of its own.
set -euo pipefail

DATA=${DATA:?set DATA to a folder or list of clean pictures}
OUT=${OUT:-runs/moce_lite_restore}
export OMP_NUM_THREADS=1

run() { torchrun --nproc-per-node 2 -m -- moesaic train restore --data "$DATA" --batch 8 --rate 1e-3 --fourier 0.02 \
    --labels 0.01 --precision bfloat16 --seed 0 --device cpu "$@"; }

# Absolute errors first: by decibels alone a fresh network stays close to the picture itself for long.
run -o "$OUT/warm" --steps 1623 --pixel-loss charbonnier --trials 160

run -o "$OUT/model" --start "$OUT/warm/model.safetensors" --steps 10000 --late-crop 128 --late-share 0.2 \
    --pixel-loss decibel --trials 1600
