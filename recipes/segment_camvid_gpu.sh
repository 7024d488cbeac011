#!/usr/bin/env bash
# ENet on CamVid at full size on one CUDA device: the patch mixture, and every arm that it must beat, five seeds of each.
#
#     DATA=path/to/camvid recipes/segment_camvid_gpu.sh
#
# DATA holds train/ trainannot/ val/ valannot/ test/ testannot/ (see docs/segmentation.md). A call works for MINUTES and
# ends with exit code 75 if something is left; the next call goes on at the same step. To go through it in one night:
#
#     while DATA=path/to/camvid recipes/segment_camvid_gpu.sh; (($? == 75)); do :; done
set -euo pipefail

DATA=${DATA:?set DATA to the folder of CamVid}
OUT=${OUT:-runs/camvid_gpu}
MINUTES=${MINUTES:-10}
SEEDS=${SEEDS:-0 1 2 3 4}

# The schedule that all arms share: pictures as in the files (480x360), 22 steps an epoch. The rate is that of the
# comparison on the CPU and was not tuned for this batch; a choice of another one belongs on val, before test is seen.
COMMON=(--network enet --batch 16 --epochs 200 --rate 4e-3 --precision bfloat16 --device cuda)

# The mixture: two of eight experts in each of 3x3 patches, at the network's own place.
ROUTED=(--experts 8 --k 2 --grid 3)

later() {
    echo "not done yet; the same call goes on"
    exit 75
}

# train ARM SEED OPTION...: go on with a run until it is finished, or this call's minutes are over.
train() {
    local run=$OUT/$1/$2 seed=$2 left=$((60 * MINUTES - SECONDS))
    shift 2
    if [[ -f $run/model.safetensors ]]; then return; fi
    if ((left < 60)); then later; fi
    moesaic train segment --data "$DATA" -o "$run" "${COMMON[@]}" --seed "$seed" --minutes $((left / 60)) "$@"
    if [[ ! -f $run/model.safetensors ]]; then later; fi
}

# The width at which the dense network has as many parameters as the mixture in total.
WIDTH=$(python -c '
from moesaic.segment.arms import arm
from moesaic.segment.recipe import SegmentRecipe

print(arm(SegmentRecipe(network="enet", experts=8, k=2, grid=3), "widened", classes=11).width)')

# Seed by seed, so that complete pairs are there early. Arms of one seed see the same pictures in the same order.
for seed in $SEEDS; do
    train moe "$seed" "${ROUTED[@]}"
    train dense "$seed"
    train widened "$seed" --width "$WIDTH"
    train position "$seed" --experts 9 --k 1 --grid 3 --gate position --balance none
    train uniform "$seed" --experts 8 --k 8 --grid 3 --gate uniform --balance none
    train random "$seed" "${ROUTED[@]}" --gate random --balance none
    train frozen "$seed" "${ROUTED[@]}" --gate frozen --balance none
done

# Each mixture against its rivals of the same seed and against itself under controls, on the test split. Ten frames in a
# row look alike, so they are drawn together.
for seed in $SEEDS; do
    if [[ -f $OUT/moe-$seed.audit.json ]]; then continue; fi
    if ((SECONDS > 60 * MINUTES)); then later; fi
    against=()
    for arm in dense widened position uniform random frozen; do against+=(--against "$arm=$OUT/$arm/$seed"); done
    moesaic audit "$OUT/moe/$seed" "$DATA" --split test --block 10 "${against[@]}" --device cuda \
        -o "$OUT/moe-$seed.audit.json"
done
