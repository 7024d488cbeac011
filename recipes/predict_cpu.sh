#!/usr/bin/env bash
# The predictor that ships (stages_predict), trained on one core: about half an hour.
#
#     DATA=path/to/train.txt recipes/predict_cpu.sh
#
# DATA is a folder of clean pictures or a text file that lists some. It can be interrupted at any moment; the same call goes
# on. There is no recipe for a GPU: the stages are loops of the CPU, and the network is too small to need one.
set -euo pipefail

DATA=${DATA:?set DATA to a folder or list of clean pictures}
OUT=${OUT:-runs/stages_predict}
STEPS=${STEPS:-16412}
SEED=${SEED:-0}
export OMP_NUM_THREADS=1
moesaic train predict --data "$DATA" -o "$OUT" --stages 8 --densest 15 --sparsest 160 --crop 144 --batch 2 --rate 2e-3 \
    --steps "$STEPS" --seed "$SEED" --validate-every 2000
