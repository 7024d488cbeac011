#!/usr/bin/env bash
# The small network for street scenes, ENet with a patch mixture, trained on CamVid on a CPU.
#
#     DATA=path/to/camvid recipes/enet_camvid_moe.sh
#
# DATA holds train/ trainannot/ val/ valannot/ test/ testannot/ (see docs/segmentation.md). The run can be interrupted at
# any moment; the same call goes on and ends with the same weights. CamVid is for personal and research use: so are they.
set -euo pipefail

DATA=${DATA:?set DATA to the folder of CamVid}
OUT=${OUT:-runs/enet_camvid_moe}

# How large pictures are seen, and for how long: the two values that decide the time and the score.
SIZE=${SIZE:-192x144}
EPOCHS=${EPOCHS:-16}
SEED=${SEED:-0}

# Weights are the same to the bit only for the same number of threads.
export OMP_NUM_THREADS=${THREADS:-1}

# Two of eight experts in each of 3x3 patches, at the network's own place.
moesaic train segment --data "$DATA" -o "$OUT" --network enet --experts 8 --k 2 --grid 3 --gate two_conv \
    --balance switch --balance-weight 0.01 --size "$SIZE" --batch 4 --epochs "$EPOCHS" --rate 4e-3 --seed "$SEED" \
    --device cpu

# What it scores on the test split at the size of the training, and whether it needs its gate.
moesaic audit "$OUT" "$DATA" --split test --block 10 -o "$OUT/model.audit.json" --force
