#!/usr/bin/env bash
# The small network for street scenes that ships: ENet with a patch mixture, trained on CamVid on a CPU, in three stages.
#
#     DATA=path/to/camvid recipes/enet_moe_camvid_nc.sh
#
# DATA holds train/ trainannot/ val/ valannot/ test/ testannot/ (see docs/segmentation.md). About 45 minutes on one core of a
# recent machine. The run can be interrupted at any moment; the same call goes on and ends with the same weights.
# CamVid is for personal and research use: so are they. With a CUDA device take recipes/segment_camvid_gpu.sh instead.
set -euo pipefail

DATA=${DATA:?set DATA to the folder of CamVid}
OUT=${OUT:-runs/enet_moe_camvid_nc}

# Weights are the same to the bit only for the same number of threads.
export OMP_NUM_THREADS=${THREADS:-1}

# The dense network, small pictures: most of what is learned is learned here.
moesaic train segment --data "$DATA" -o "$OUT/dense" --network enet --size 192x144 --batch 4 --epochs 16 \
    --rate 4e-3 --warm-up 1 --seed 1 --device cpu

# Upcycled: each of eight experts begins as a copy of the layer; two act in each of 3x3 patches.
moesaic train segment --data "$DATA" -o "$OUT/routed" --network enet --experts 8 --k 2 --grid 3 --gate two_conv \
    --balance switch --balance-weight 0.01 --start "$OUT/dense/model.safetensors" --size 320x240 --batch 4 --epochs 24 \
    --rate 2e-3 --seed 1 --device cpu

# The rare classes weigh more for the last epochs: bicyclists are 0.3 % of the pixels.
moesaic train segment --data "$DATA" -o "$OUT/rare" --network enet --experts 8 --k 2 --grid 3 --gate two_conv \
    --balance switch --balance-weight 0.01 --start "$OUT/routed/model.safetensors" --size 320x240 --batch 4 --epochs 10 \
    --rate 2e-3 --class-weights median --seed 1 --device cpu

# What it scores on the test split, and whether it needs its gate.
moesaic audit "$OUT/rare" "$DATA" --split test --block 10 -o "$OUT/model.audit.json" --force
