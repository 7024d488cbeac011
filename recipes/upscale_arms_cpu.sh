#!/usr/bin/env bash
# Control arms of upscaling, trained alike on a CPU from one frozen base: as many steps on the same crops in the same order.
#
#     DATA=path/to/train.txt recipes/upscale_arms_cpu.sh
#
# free is what ships: no rank is always on, 7 are chosen of 16 and of 7 slots that do nothing. mor is as in the paper, in
# proportion: 3 ranks always on, 4 of 13 chosen and of 2 empty slots. Against it: lora_active has as many ranks as act,
# lora_total as many as there are; whole chooses 2 of 4 LoRAs of 4 ranks; no_zero has no empty slots; plain counts them
# like others whatever the severity; constant, shuffled and oracle are told other scores. JOBS runs go on at a time, of
# one thread each. What is finished is left alone; what was interrupted goes on. Scored by
# `python -m benchmarks.upscale_arms --arm "free=$OUT/free/*" ... --arm "oracle:oracle=$OUT/oracle/*"`.
set -euo pipefail

export DATA=${DATA:?set DATA to a folder or list of clean pictures}
export START=${START:-runs/compact_upscale/base/model.safetensors}  # of recipes/upscale_cpu.sh
export OUT=${OUT:-runs/upscale_arms}
export STEPS=${STEPS:-400}
export OMP_NUM_THREADS=1
SEEDS=${SEEDS:-0 1 2}
JOBS=${JOBS:-2}

# train ARM SEED: one run, until it is finished.
train() {
    local run=$OUT/$1/$2 told=estimator balance=degradation
    local ranks='"shared":3,"routed":13,"active":4,"zero":2'
    if [[ -f $run/model.safetensors ]]; then return; fi
    case $1 in
    free) ranks='"shared":0,"routed":16,"active":7,"zero":7' ;;
    lora_active) ranks='"shared":7,"routed":0' ;;
    lora_total) ranks='"shared":16,"routed":0' ;;
    whole) ranks='"shared":0,"routed":4,"active":2,"zero":0,"expert_rank":4' ;;
    no_zero) ranks='"shared":3,"routed":13,"active":4,"zero":0' ;;
    plain) balance=plain ;;
    constant | shuffled | oracle) told=$1 ;;
    esac
    moesaic train upscale --data "$DATA" -o "$run" --start "$START" --mix bicubic=0.15,full=0.85 --scales 4=1 \
        --options "{\"width\":64,\"blocks\":8,\"ranks\":{\"scores\":4,$ranks}}" --told "$told" --balance "$balance" \
        --crop 32 --batch 16 --rate 1e-3 --warm-up 50 --average 0.99 --precision bfloat16 --validate-every 10000 \
        --steps "$STEPS" --seed "$2" --device cpu
}
export -f train

# Seed by seed, so that complete comparisons are there early. Arms of one seed see the same crops in the same order.
for seed in $SEEDS; do
    for arm in free mor lora_active lora_total whole no_zero plain constant shuffled oracle; do echo "$arm $seed"; done
done | xargs -n 2 -P "$JOBS" bash -c 'set -euo pipefail; train "$@"' train
