#!/usr/bin/env bash
# The GPU backend measured on one CUDA device, in less than eight minutes: writes gpu.json into OUT.
#
#     recipes/bench_gpu.sh path/to/kodak
#
# The argument is a folder of lossless pictures (24 of 768x512 for the figures of docs/gpu.md); DATA may name it instead.
# It runs from the source tree, with moesaic installed or not.
set -euo pipefail

DATA=${1:-${DATA:?give the folder of pictures, or set DATA to it}}
DATA=$(cd "$DATA" && pwd)
OUT=${OUT:-benchmarks/results}
PYTHON=${PYTHON:-python3}
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export PYTHONPATH=$PWD/src:$PWD${PYTHONPATH:+:$PYTHONPATH}
unset TRITON_INTERPRET

"$PYTHON" -m benchmarks.gpu_resources --kinds 3/0,3/1
"$PYTHON" -u -m benchmarks.gpu --pictures "$DATA" --results "$OUT"
