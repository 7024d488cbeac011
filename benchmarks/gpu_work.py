"""What the GPU renderer asks of a device, counted: bytes, floating-point operations, and the floors they set."""

from __future__ import annotations

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
