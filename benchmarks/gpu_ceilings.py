"""What the device can do at most, and how its work is timed."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl

CHAIN = 64  # fused multiply-adds in a row


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


def ceilings(
    device: torch.device, *, gibibytes: float, times: int, size: int = 2**21, turns: int = 7
) -> dict[str, float]:
    """Bandwidth of a large copy, read and written bytes counted, and the rate of fused multiply-adds in float32."""
    source = torch.rand(int(gibibytes * 2**28), device=device)
    into = torch.empty_like(source)
    copied = timed(lambda: into.copy_(source), device, turns=turns)
    numbers = torch.rand(size, device=device)
    grid = (size // 1024,)
    computed = timed(
        lambda: chains[grid](numbers, times, 0.999, 1e-3, WIDTH=1024, CHAIN=CHAIN, num_warps=4), device, turns=turns
    )
    return {
        "copy_gb_per_s": float(f"{2 * 4 * source.numel() / (1e6 * copied):.4g}"),
        "fma_gflops": float(f"{2.0 * size * times * CHAIN / (1e6 * computed):.4g}"),
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
