"""What the device can do at most, what the renderer asks of it, and how its work is timed."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl

# Additions, multiplications and exponentials by kernel-pixel (RGB, order 0), a fused multiply-add as two. Left out: all
# that is done by pair, by pixel or by kernel.
FORWARD = {
    "u = u0 + f1 y + f0 x": 4,
    "v = v0 + f2 y": 2,
    "logit = base - v v - u u, less the peak": 5,
    "2^logit": 1,
    "sum of weights": 1,
    "three weighted sums": 6,
}
BACKWARD = {
    "the gate again": 12,
    "offset from the centre": 2,
    "worth of the kernel: three products with dL/dpicture, less the base": 6,
    "three sums for the colours": 6,
    "dL/dlogit, times the offset": 3,
    "six moments": 9,
}
FORWARD_FLOPS = sum(FORWARD.values())
BACKWARD_FLOPS = sum(BACKWARD.values())
AREA = 256  # px of a tile
RECORD = 11 * 4  # bytes of a pair in its tile's coordinates (RGB, order 0)
PARTIAL = 9 * 4  # bytes of a pair's moments
SOURCE = 16 + 16 + 12 + 4  # bytes of a pair's kernel: centre, geometry, colours; and its place in the list
CHAIN = 64  # fused multiply-adds in a row


def frame(pairs: int, pixels: int) -> dict[str, int]:
    """Bytes and floating-point operations of one frame whose lists are there: each array read or written once."""
    return {
        "bytes": pairs * (SOURCE + 2 * RECORD) + pixels * (3 + 1) * 4,
        "flops": pairs * AREA * FORWARD_FLOPS,
    }


def step(pairs: int, pixels: int, kernels: int) -> dict[str, int]:
    """The same of one step of a fit: drawing against a target, the way back, the sums, and Adam."""
    planes = 3 + 2 * (3 + 2) + 1  # target; slope, level and base written and read; error
    adam = 2 * (16 + 16 + 12 + 2 * 9 * 4) + 2 * 9 * 4
    return {
        "bytes": pairs * (SOURCE + 3 * RECORD + 2 * PARTIAL + 8) + pixels * planes * 4 + kernels * adam,
        "flops": pairs * AREA * (FORWARD_FLOPS + BACKWARD_FLOPS),
    }


def shares(work: dict[str, int], milliseconds: float, ceilings: dict[str, float]) -> dict[str, float]:
    """The floors that the two ceilings set to some work, in milliseconds, and the share of each that was reached."""
    by_bytes = 1e3 * work["bytes"] / (ceilings["copy_gb_per_s"] * 1e9)
    by_flops = 1e3 * work["flops"] / (ceilings["fma_gflops"] * 1e9)
    return {
        "floor_by_bytes_ms": round(by_bytes, 5),
        "floor_by_flops_ms": round(by_flops, 5),
        "share_of_bandwidth": round(by_bytes / milliseconds, 4),
        "share_of_arithmetic": round(by_flops / milliseconds, 4),
    }


@triton.jit
def chains(x, times, m, c, WIDTH: tl.constexpr, CHAIN: tl.constexpr):
    """Fused multiply-adds in a row on every number, eight independent numbers a thread."""
    i = tl.program_id(0) * WIDTH + tl.arange(0, WIDTH)
    v = tl.load(x + i)
    t = 0
    while t < times:
        for _ in tl.static_range(CHAIN):
            v = v * m + c
        t += 1
    tl.store(x + i, v)


def ceilings(device: torch.device, *, gibibytes: float = 4.0, times: int = 2000, turns: int = 7) -> dict[str, float]:
    """Bandwidth of a large copy, read and written bytes counted, and the rate of fused multiply-adds in float32."""
    source = torch.rand(int(gibibytes * 2**28), device=device)
    into = torch.empty_like(source)
    copied = timed(lambda: into.copy_(source), device, turns=turns)
    size = 2**21
    numbers = torch.rand(size, device=device)
    grid = (size // 1024,)
    computed = timed(
        lambda: chains[grid](numbers, times, 0.999, 1e-3, WIDTH=1024, CHAIN=CHAIN, num_warps=4), device, turns=turns
    )
    return {
        "copy_gb_per_s": round(2 * 4 * source.numel() / (1e6 * copied), 1),
        "fma_gflops": round(2.0 * size * times * CHAIN / (1e6 * computed), 1),
    }


def timed(work: Callable[[], Any], device: torch.device, *, turns: int = 50, warm: int = 3) -> float:
    """The median time of some work in milliseconds, by the device's own clock where it has one."""
    for _ in range(warm):
        work()
    if device.type != "cuda":
        import time

        spent = []
        for _ in range(turns):
            began = time.perf_counter()
            work()
            spent.append(1e3 * (time.perf_counter() - began))
        return statistics.median(spent)
    marks = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(turns)]
    for begin, end in marks:
        begin.record()
        work()
        end.record()
    torch.cuda.synchronize(device)
    return statistics.median(begin.elapsed_time(end) for begin, end in marks)


def replayed(work: Callable[[], Any], device: torch.device, *, turns: int = 50, inner: int = 20) -> float:
    """As `timed`, of work captured as a graph that holds it `inner` times, so that launches cost what they must."""
    if device.type != "cuda":
        return timed(work, device, turns=turns, warm=1)
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        for _ in range(3):
            work()
    torch.cuda.current_stream(device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(inner):
            work()
    spent = timed(graph.replay, device, turns=turns)
    return spent / inner
