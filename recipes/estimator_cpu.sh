#!/usr/bin/env bash
# The estimator that ships (severity_net_estimate), trained on one core of a CPU in about 25 minutes.
#
#     DATA=path/to/train.txt recipes/estimator_cpu.sh
#
# DATA is a folder of clean pictures or a text file that lists some. A run can be interrupted at any moment; the same
# call goes on.
set -euo pipefail

DATA=${DATA:?set DATA to a folder or list of clean pictures}
OUT=${OUT:-runs/severity_net_estimate}
STEPS=${STEPS:-2000}
SEED=${SEED:-0}
export OMP_NUM_THREADS=1

moesaic train estimator --data "$DATA" -o "$OUT/first" --steps "$STEPS" --seed "$SEED" --device cpu

# A lost resolution is hardest to tell, as it looks like blur: the second run shows more of it.
moesaic train estimator --data "$DATA" -o "$OUT/severity_net_estimate" --start "$OUT/first/model.safetensors" \
    --steps "$((STEPS / 2))" --rate 1e-3 --mix wild=.38,noise=.1,blur=.14,jpeg=.12,resolution=.18,clean=.08 \
    --seed "$((SEED + 1))" --device cpu
