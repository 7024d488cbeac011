#!/usr/bin/env bash
# The estimator that ships (severity_net_estimate), trained on one core of a CPU in about a quarter of an hour.
#
#     DATA=path/to/train.txt recipes/estimator_cpu.sh
#
# DATA is a folder of clean pictures or a text file that lists some. A run can be interrupted at any moment; the same call
# goes on.
set -euo pipefail

DATA=${DATA:?set DATA to a folder or list of clean pictures}
OUT=${OUT:-runs/severity_net_estimate}
STEPS=${STEPS:-2000}
SEED=${SEED:-0}
export OMP_NUM_THREADS=1

moesaic train estimator --data "$DATA" -o "$OUT" --steps "$STEPS" --seed "$SEED" --device cpu
