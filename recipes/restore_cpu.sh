#!/usr/bin/env bash
# Restoration weights such as ship (moce_lite_restore), trained on a CPU.
#
#     DATA=path/to/train.txt recipes/restore_cpu.sh                          # from nothing
#     DATA=path/to/train.txt START=model.safetensors recipes/restore_cpu.sh  # from weights that are there
#
# DATA is a folder of clean pictures or a text file that lists some. A run can be interrupted at any moment; the same call
# goes on. The shipped weights came by several such runs, each begun from the weights of the one before; their card says
# which. `-m --` keeps torchrun from taking --start for an option of its own.
set -euo pipefail

DATA=${DATA:?set DATA to a folder or list of clean pictures}
OUT=${OUT:-runs/moce_lite_restore}
STEPS=${STEPS:-20000}
SEED=${SEED:-0}
export OMP_NUM_THREADS=1
begin=()
if [[ -n "${START:-}" ]]; then begin=(--start "$START"); fi

# Decibels of each picture count, with a floor that falls from an error of 1e-2: at first no picture can gain by being
# left as it is, so that a fresh network does not stay at the picture itself.
torchrun --nproc-per-node 2 -m -- moesaic train restore --data "$DATA" -o "$OUT" ${begin[@]+"${begin[@]}"} --batch 8 \
    --rate 1e-3 --fourier 0.02 --labels 0.1 --precision bfloat16 --pixel-loss decibel --floor-begin 1e-2 \
    --steps "$STEPS" --late-crop 160 --late-share 0.2 --trials 6000 --grey 0.12 --seed "$SEED" --device cpu \
    --mix noise=.16,poisson=.03,grain=.18,rain=.05,heavy_rain=.05,haze=.09,snow=.04,motion_blur=.08,defocus=.04,low_light=.06,jpeg=.08,resize=.03,composite=.10,clean=.10
