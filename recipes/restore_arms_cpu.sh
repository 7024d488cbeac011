#!/usr/bin/env bash
# Control arms of restoration, trained alike on a CPU: as many steps on the same crops, each from nothing.
#
#     DATA=path/to/train.txt recipes/restore_arms_cpu.sh
#
# moce is the network that ships: four experts of growing rank and one that does nothing. Against it: equal has four
# experts of one size that together have its ranks; dense_parameters one expert of all its ranks; dense_macs one expert
# as dear as its dearest; labelless is never told what is wrong with a picture. JOBS runs go on at a time, of one thread
# each. What is finished is left alone; what was interrupted goes on. Scored by
# `python -m benchmarks.restore_routing --skip-routes --arm "moce=$OUT/moce/*" --arm "equal=$OUT/equal/*" ...`.
set -euo pipefail

export DATA=${DATA:?set DATA to a folder or list of clean pictures}
export OUT=${OUT:-runs/restore_arms}
export STEPS=${STEPS:-2000}
export OMP_NUM_THREADS=1
SEEDS=${SEEDS:-0 1}
JOBS=${JOBS:-2}

# train ARM SEED: one run, until it is finished.
train() {
    local run=$OUT/$1/$2 options='{}' labels=0.1
    if [[ -f $run/model.safetensors ]]; then return; fi
    case $1 in
    equal) options='{"ranks":[1.4375,1.4375,1.4375,1.4375],"scales":[[3,3,3,3],[2,2,2,2],[2,2,2,2]]}' ;;
    dense_parameters) options='{"ranks":[5.75],"null":false}' ;;
    dense_macs) options='{"ranks":[2.5],"null":false}' ;;
    labelless) labels=0 ;;
    esac
    moesaic train restore --data "$DATA" -o "$run" --options "$options" --steps "$STEPS" --crop 64 --batch 16 \
        --rate 1e-3 --fourier 0.02 --labels "$labels" --precision bfloat16 --pixel-loss decibel --floor-begin 1e-2 \
        --mix noise=.24,poisson=.03,rain=.06,heavy_rain=.06,haze=.12,snow=.05,motion_blur=.09,defocus=.05,low_light=.07,jpeg=.08,resize=.04,composite=.10,clean=.05 \
        --trials 800 --validate-every 1000 --seed "$2" --device cpu
}
export -f train

# Seed by seed, so that complete comparisons are there early. Arms of one seed see the same crops in the same order.
for seed in $SEEDS; do
    for arm in moce equal dense_parameters dense_macs labelless; do echo "$arm $seed"; done
done | xargs -n 2 -P "$JOBS" bash -c 'set -euo pipefail; train "$@"' train
