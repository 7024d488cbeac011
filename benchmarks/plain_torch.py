"""The rival: a mixture drawn by tiles with nothing but torch's vectorised operations, in the fastest form we know.

Tiles are sorted by the length of their lists and taken in chunks, padded to the longest list of the chunk, so that a
chunk's weights stay in cache. Two forms of the arithmetic:

- "direct": offsets, whitened offsets, logits and weights by broadcasting, the way one writes the formula down.
- "matrix": a logit is a polynomial of degree 2 in the pixel's place, so the logits of a chunk are one matrix product
  with the six monomials of a tile's 256 pixels; weights are one exponential; sums and all gradients are batched matrix
  products again, each in the order of operands that runs fastest.

Two kinds of lists:

- "boxes": tiles that a box of 3.3 standard deviations touches; usual, short, and not exact (the picture has small steps
  at the boxes' edges, and a floor under the sum of weights where no box reaches).
- "exact": moesaic's own lists, by a margin between logits, with the tile's bar taken off every logit.

Two drivers: torch's own threads inside each operation ("inner"), or a pool that hands whole chunks to threads while
each operation stays on one ("outer"). Gradients are written by hand in the matrix form and left to autograd by chunk in
the direct one; either way forward and backward of a chunk follow each other while its weights are in cache.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from moesaic.mixture.model import Mixture

TILE = 16  # px
AREA = TILE * TILE
DEVIATIONS = 3.3
LOG2E = math.log2(math.e)
_FLOOR = 1e-30
_LEAST = -100.0  # of a weight's power of two: what underflows is an order of magnitude slower to compute


@dataclass(frozen=True, kw_only=True)
class Form:
    """One way to write the renderer."""

    arithmetic: str  # "direct" or "matrix"
    lists: str  # "boxes" or "exact"
    chunk: int  # tiles
    driver: str  # "inner" or "outer"

    @property
    def words(self) -> str:
        """For tables."""
        return f"{self.arithmetic}, {self.lists} lists, {self.chunk} tiles a chunk, {self.driver} threads"


@dataclass(frozen=True, kw_only=True)
class Chunks:
    """Tiles in chunks of similar list length, with padded lists of kernels."""

    tiles: list[Tensor]  # (T,) int64 each
    kernels: list[Tensor]  # (T, K) int64 each; padding repeats kernel 0
    empty: list[Tensor]  # (T, K) bool each, True where padded
    bars: list[Tensor]  # (T,) float32 each, taken off the logits
    pairs: int


def list_boxes(mixture: Mixture) -> tuple[Tensor, Tensor, Tensor]:
    """Kernel of each pair in order of tiles, lengths of the tiles' lists, and bars of 0."""
    columns, rows = -(-mixture.width // TILE), -(-mixture.height // TILE)
    l0, l1, l2 = mixture.factors.unbind(1)
    half_x = DEVIATIONS * torch.sqrt(l1 * l1 + l2 * l2) / (l0 * l2)
    half_y = DEVIATIONS / l2
    x, y = mixture.centres.unbind(1)
    first_x = ((x - half_x) / TILE).floor().long().clamp(0, columns)
    last_x = ((x + half_x) / TILE).floor().long().clamp(-1, columns - 1)
    first_y = ((y - half_y) / TILE).floor().long().clamp(0, rows)
    last_y = ((y + half_y) / TILE).floor().long().clamp(-1, rows - 1)
    across, down = (last_x - first_x + 1).clamp(min=0), (last_y - first_y + 1).clamp(min=0)
    count = across * down
    kernel = torch.repeat_interleave(count)
    within = torch.arange(len(kernel)) - torch.repeat_interleave(count.cumsum(0) - count, count)
    tile = (first_y[kernel] + within // across[kernel]) * columns + first_x[kernel] + within % across[kernel]
    order = torch.argsort(tile, stable=True)
    return kernel[order], torch.bincount(tile, minlength=columns * rows), torch.zeros(columns * rows)


def list_exact(mixture: Mixture, threads: int) -> tuple[Tensor, Tensor, Tensor]:
    """As `list_boxes`, from moesaic's lists with their bars."""
    from moesaic.mixture.backends.cover import cover, exact_margin

    geometry = torch.cat([mixture.factors, mixture.log_priors[:, None]], 1).numpy()
    found = cover(
        mixture.centres.double().numpy(), geometry, mixture.width, mixture.height, exact_margin(len(mixture)), threads
    )
    kernel = torch.from_numpy(found.pair_kernel[found.tile_pairs].astype(np.int64))
    return kernel, torch.from_numpy(np.diff(found.tile_start)), torch.from_numpy(found.bars)


def lists(mixture: Mixture, form: Form, threads: int) -> Chunks:
    """List kernels by tile and pad the lists of each chunk."""
    still = mixture.detach()
    kernel, lengths, bars = list_boxes(still) if form.lists == "boxes" else list_exact(still, threads)
    start = lengths.cumsum(0) - lengths
    order = torch.argsort(lengths, descending=True, stable=True)
    made = Chunks(tiles=[], kernels=[], empty=[], bars=[], pairs=len(kernel))
    for tiles in order.split(form.chunk):
        longest = max(1, int(lengths[tiles[0]]))
        places = torch.arange(longest)
        empty = places >= lengths[tiles, None]
        made.tiles.append(tiles)
        made.kernels.append(kernel[(start[tiles, None] + places).masked_fill(empty, 0)].masked_fill(empty, 0))
        made.empty.append(empty)
        made.bars.append(bars[tiles])
    return made


def _power(logits: Tensor) -> Tensor:
    """2^logits, in place where no gradient is wanted; four times faster than torch.exp on one thread."""
    if torch.is_grad_enabled():
        return torch.exp2(logits.clamp(min=_LEAST))
    return logits.clamp_(min=_LEAST).exp2_()


class PlainRenderer:
    """Draws a mixture (order 0) and goes back from a squared error, in one form."""

    def __init__(self, mixture: Mixture, form: Form, threads: int) -> None:
        self.mixture, self.form, self.threads = mixture.detach(), form, threads
        self.columns, self.rows = -(-mixture.width // TILE), -(-mixture.height // TILE)
        x = torch.arange(TILE, dtype=torch.float32) - (TILE - 1) / 2
        self.px, self.py = x.repeat(TILE), x.repeat_interleave(TILE)  # (256,), px from the tile's middle
        self.monomials = torch.stack(
            [self.px**2, self.px * self.py, self.py**2, self.px, self.py, torch.ones(AREA)]
        )  # (6, 256)
        self.pool = ThreadPoolExecutor(threads) if form.driver == "outer" and threads > 1 else None

    def prepare(self) -> Chunks:
        """The lists, made anew."""
        return lists(self.mixture, self.form, self.threads)

    def render(self, chunks: Chunks | None = None) -> Tensor:  # (C, H, W)
        """The picture."""
        chunks = self.prepare() if chunks is None else chunks
        out = torch.empty(self.columns * self.rows, self.mixture.channels, AREA)
        draw = self._draw_matrix if self.form.arithmetic == "matrix" else self._draw_direct

        def one(i: int) -> None:
            with torch.no_grad():
                tiles = chunks.tiles[i]
                weights = draw(*self._gather(chunks, i))
                out[tiles] = self._blend(weights, self.mixture.colours[chunks.kernels[i]])[0]

        self._each(one, len(chunks.tiles))
        return self._assemble(out)

    def gradient(
        self,
        target: Tensor,  # (C, H, W)
        chunks: Chunks | None = None,
        mask: Tensor | None = None,  # (H, W), weights of pixels in the loss; 1 when None
    ) -> Tensor:  # (N, 6 + C)
        """Gradient of the sum of squared errors by centre, factors, log prior and colour."""
        chunks = self.prepare() if chunks is None else chunks
        aims = self._cut(target)
        shares = self._cut(torch.ones_like(target[:1]) if mask is None else mask[None])
        parts: list[Tensor] = [torch.empty(0)] * len(chunks.tiles)
        back = self._back_matrix if self.form.arithmetic == "matrix" else self._back_direct

        def one(i: int) -> None:
            parts[i] = back(chunks, i, aims[chunks.tiles[i]], shares[chunks.tiles[i]])

        self._each(one, len(chunks.tiles))
        kept = [p.flatten(0, 1)[~e.flatten()] for p, e in zip(parts, chunks.empty, strict=True)]
        which = torch.cat([k[~e] for k, e in zip(chunks.kernels, chunks.empty, strict=True)])
        rows = torch.cat(kept)
        total = torch.zeros(len(self.mixture), rows.shape[1]).index_add_(0, which, rows)
        return self._chain(total) if self.form.arithmetic == "matrix" else total

    def _each(self, work, n: int) -> None:  # type: ignore[no-untyped-def]
        if self.pool is None:
            for i in range(n):
                work(i)
        else:

            def share(first: int) -> None:
                torch.set_num_threads(1)  # for this thread of the pool
                for i in range(first, n, self.threads):
                    work(i)

            list(self.pool.map(share, range(self.threads)))

    def _gather(self, chunks: Chunks, i: int) -> tuple[Tensor, Tensor, Tensor]:
        """Centres (T, K, 2) from the tile's middle, factors (T, K, 3), and log priors (T, K) over the bar."""
        tiles, kernels = chunks.tiles[i], chunks.kernels[i]
        middle = torch.stack([tiles % self.columns, tiles // self.columns], 1) * float(TILE) + TILE / 2
        priors = self.mixture.log_priors[kernels] - chunks.bars[i][:, None]
        return (
            self.mixture.centres[kernels] - middle[:, None],
            self.mixture.factors[kernels],
            priors.masked_fill(chunks.empty[i], -1e4),
        )

    def _draw_direct(self, centres: Tensor, factors: Tensor, priors: Tensor) -> Tensor:  # (T, K, 256)
        dx = self.px - centres[..., :1]  # (T, K, 256)
        dy = self.py - centres[..., 1:]
        u = factors[..., 0:1] * dx + factors[..., 1:2] * dy
        v = factors[..., 2:3] * dy
        return _power(LOG2E * priors[..., None] - (0.5 * LOG2E) * (u * u + v * v))

    def _draw_matrix(self, centres: Tensor, factors: Tensor, priors: Tensor) -> Tensor:  # (T, K, 256)
        (x, y), (l0, l1, l2) = centres.unbind(-1), factors.unbind(-1)
        xx, xy, yy = -0.5 * l0 * l0, -l0 * l1, -0.5 * (l1 * l1 + l2 * l2)
        terms = [xx, xy, yy, -2 * xx * x - xy * y, -2 * yy * y - xy * x, priors + xx * x * x + xy * x * y + yy * y * y]
        polynomials = torch.stack(terms, -1).flatten(0, 1).mul_(LOG2E)  # (T K, 6)
        return _power(polynomials @ self.monomials).view(*priors.shape, AREA)

    def _blend(self, weights: Tensor, colours: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels (T, C, 256) and sums of weights (T, 1, 256)."""
        with_one = torch.cat([colours, torch.ones_like(colours[..., :1])], -1)  # (T, K, C + 1)
        sums = torch.bmm(with_one.transpose(1, 2).contiguous(), weights)
        total = sums[:, -1:].clamp(min=_FLOOR)
        return sums[:, :-1] / total, total

    def _back_matrix(self, chunks: Chunks, i: int, aims: Tensor, shares: Tensor) -> Tensor:  # (T, K, 6 + C)
        with torch.no_grad():
            colours = self.mixture.colours[chunks.kernels[i]]
            placed = self._gather(chunks, i)
            weights = self._draw_matrix(*placed)
            pixels, total = self._blend(weights, colours)
            slope = 2.0 * shares * (pixels - aims) / total  # (T, C, 256)
            base = (slope * pixels).sum(1, keepdim=True)
            by_colour = torch.bmm(slope, weights.transpose(1, 2)).transpose(1, 2)  # (T, K, C)
            extended = torch.cat([colours, torch.full_like(colours[..., :1], -1.0)], -1)
            by_logit = torch.bmm(extended, torch.cat([slope, base], 1)).mul_(weights)
            moments = torch.mm(self.monomials, by_logit.flatten(0, 1).T).T  # (T K, 6)
            return torch.cat([self._recentre(moments.reshape(*colours.shape[:2], 6), placed[0]), by_colour], -1)

    def _recentre(self, moments: Tensor, centres: Tensor) -> Tensor:  # (T, K, 6)
        """Sums of dL/dlogit times 1, dx, dy, dx dx, dx dy, dy dy, with offsets from the kernel's centre."""
        x, y = centres.unbind(-1)
        xx, xy, yy, first_x, first_y, one = moments.unbind(-1)
        return torch.stack(
            [
                one,
                first_x - x * one,
                first_y - y * one,
                xx - 2 * x * first_x + x * x * one,
                xy - x * first_y - y * first_x + x * y * one,
                yy - 2 * y * first_y + y * y * one,
            ],
            -1,
        )

    def _chain(self, sums: Tensor) -> Tensor:  # (N, 6 + C)
        """From moments by kernel to its parameters."""
        l0, l1, l2 = self.mixture.factors.unbind(1)
        one, x, y, xx, xy, yy = sums[:, :6].unbind(1)
        along = l0 * x + l1 * y
        columns = [l0 * along, l1 * along + l2 * l2 * y, -(l0 * xx + l1 * xy), -(l0 * xy + l1 * yy), -l2 * yy, one]
        return torch.cat([torch.stack(columns, 1), sums[:, 6:]], 1)

    def _back_direct(self, chunks: Chunks, i: int, aims: Tensor, shares: Tensor) -> Tensor:  # (T, K, 6 + C)
        with torch.enable_grad():
            leaves = [t.requires_grad_() for t in (*self._gather(chunks, i), self.mixture.colours[chunks.kernels[i]])]
            pixels, _ = self._blend(self._draw_direct(*leaves[:3]), leaves[3])
            loss = (shares * (pixels - aims) ** 2).sum()
            centres, factors, priors, colours = torch.autograd.grad(loss, leaves)
        return torch.cat([centres, factors, priors[..., None], colours], -1)

    def _cut(self, picture: Tensor) -> Tensor:  # (tiles, C, 256)
        channels, height, width = picture.shape
        padded = torch.zeros(channels, self.rows * TILE, self.columns * TILE)
        padded[:, :height, :width] = picture
        cut = padded.view(channels, self.rows, TILE, self.columns, TILE).permute(1, 3, 0, 2, 4)
        return cut.reshape(self.rows * self.columns, channels, AREA)

    def _assemble(self, tiles: Tensor) -> Tensor:  # (C, H, W)
        whole = tiles.view(self.rows, self.columns, -1, TILE, TILE).permute(2, 0, 3, 1, 4)
        return whole.reshape(-1, self.rows * TILE, self.columns * TILE)[
            :, : self.mixture.height, : self.mixture.width
        ].contiguous()
