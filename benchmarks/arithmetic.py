"""What the processor can do at most, and what the renderer asks of it, in floating-point operations."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import njit

# Additions, multiplications, roundings and maxima by kernel-pixel of the inner loops (RGB, order 0), a fused
# multiply-add as two. Left out: integer operations, and all that is done by row, by pair or by pixel.
FORWARD = {
    "u = across + slant_u * row": 1,
    "logit = top - u * u": 2,
    "2^logit: rounding, difference, five fused multiply-adds, scaling": 13,
    "sum of weights": 1,
    "three weighted sums": 6,
}
BACKWARD = {  # from weights that are kept
    "worth of the kernel: three products with dL/dpicture, less the base": 6,
    "three sums for the colours": 6,
    "dL/dlogit, its sum, and two running sums of that": 4,
}
FORWARD_FLOPS = sum(FORWARD.values())
BACKWARD_FLOPS = FORWARD_FLOPS + sum(BACKWARD.values())  # of a backward by itself, or of a step both ways


@njit(nogil=True, fastmath={"contract"}, error_model="numpy")
def _chains(x: np.ndarray, times: int, m: np.float32, c: np.float32) -> None:
    """Sixteen fused multiply-adds in a row for each number; the numbers are independent, so vectors of them overlap."""
    for _ in range(times):
        for i in range(x.size):
            v = x[i]
            v = v * m + c
            v = v * m + c
            v = v * m + c
            v = v * m + c
            v = v * m + c
            v = v * m + c
            v = v * m + c
            v = v * m + c
            v = v * m + c
            v = v * m + c
            v = v * m + c
            v = v * m + c
            v = v * m + c
            v = v * m + c
            v = v * m + c
            v = v * m + c
            x[i] = v


def peak_gflops(threads: int, *, turns: int = 7, milliseconds: float = 60.0) -> float:
    """The most that fused multiply-adds in float32 reach on so many threads, in 10^9 operations a second.

    A fused multiply-add counts two. The best turn counts: what disturbs a turn only makes it slower.
    """
    size = 4096  # 16 KiB: in the first-level cache
    numbers = [np.ones(size, np.float32) for _ in range(threads)]
    times = _times(numbers[0], milliseconds)
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(turns):
            start = time.perf_counter()
            list(pool.map(lambda x: _chains(x, times, _M, _C), numbers))
            best = max(best, 2.0 * 16 * size * times * threads / (time.perf_counter() - start) / 1e9)
    return best


def peak_of_thread(*, turns: int = 21, milliseconds: float = 20.0) -> float:
    """The same for this thread alone, by the processor's time that it gets, on a machine that does other things too."""
    numbers = np.ones(4096, np.float32)
    times = _times(numbers, milliseconds)
    best = 0.0
    for _ in range(turns):
        start = time.thread_time()
        _chains(numbers, times, _M, _C)
        best = max(best, 2.0 * 16 * numbers.size * times / (time.thread_time() - start) / 1e9)
    return best


_M, _C = np.float32(0.999), np.float32(1e-3)


def _times(numbers: np.ndarray, milliseconds: float) -> int:
    _chains(numbers, 1, _M, _C)
    start = time.thread_time()
    _chains(numbers, 200, _M, _C)
    return max(1, int(200 * milliseconds / 1e3 / (time.thread_time() - start)))
