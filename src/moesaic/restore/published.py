"""MoCE-IR as published (arXiv 2411.18466): a U-net whose decoder picks one of four experts for each picture and block.

Written from a description of the paper and of its reference code `eduardzamfir/MoCE-IR`. Sizes and parameter counts are
those of the code; what is wrong there is put right:

- noise on the routers' scores acts in training only, so that a picture's result depends on nothing but the picture;
- each picture of a batch meets its own experts, in use as in training;
- pictures of any size are filled up to a multiple of 8 px by reflection, and the result is cut to their size;
- the chosen expert acts with weight 1, where the code shrinks its output by its probability, as `published_gate=True`
  does;
- noise decides which expert is tried, never with what weight.

Parameters come out at 11.478 M (width 32) and 25.354 M (width 48), and each expert's exactly as counted in the code,
with these choices, found by matching those counts: all convolutions in the dense blocks of encoder, latent stage and
refinement add constants; those in the decoder's blocks do not, but for the two 1x1 maps that part the shared path from
the experts' and for those within experts (see `WindowMixing`); neither stem nor steps between levels do, the head does;
norms have a scale and a shift. Multiply-adds of convolutions, linear maps and attention at 224x224 then are those
measured on the code, too: 32.5 G with the cheapest expert everywhere to 36.6 G with the dearest; 70.9 G to 79.6 G.

Axis letters: B batch, C channels, H W rows and columns, D numbers of a picture's summary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from moesaic.errors import ArgumentError, ShapeError
from moesaic.memory import within_memory
from moesaic.restore.blocks import DenseBlock
from moesaic.restore.complexity_decoder import ComplexityBlock, Decoder, Down, Up
from moesaic.restore.cost import Work, work
from moesaic.restore.decision import Decision, Pass
from moesaic.restore.picture_gate import drawing, imposing, picture_gates
from moesaic.routing import collect, recording
from moesaic.routing.choice import whole
from moesaic.routing.gate import FrequencyEmbedding, conditioned
from moesaic.values import is_number

LEVELS = 4  # resolutions: 1, 1/2, 1/4, 1/8
WIDEST = 1024  # more channels at full size are refused: a typing error


class MoceIR(nn.Module):
    """MoCE-IR. `MoceIR()` is the published size S, 11.478 M parameters; `MoceIR(48)` the full one, 25.354 M.

    Pictures are float in [0, 1]; the network adds what it found to them and does not clamp.

    Args:
        width: C, channels at full size, doubled at each of three smaller levels.
        blocks: of the encoder's levels and the latent stage.
        decoder_blocks: of the decoder's levels, from the smallest map up.
        heads: of the attention at each level, from full size down.
        refinement: dense blocks at full size after the decoder.
        experts: in each decoder block, n; ranks C / 2^(n-1) ... C with windows of 4, 8, 16 ... px.
        noise: standard deviation of the normal noise on the scores in training; None: one over `experts`.
        published_gate: the expert's output is scaled by its probability, as in the reference code.
        balance: factor of the auxiliary loss, averaged over the routers; `moesaic.routing.balance_loss` takes it.
        weigh_complexity: the auxiliary loss weighs each expert by its parameters over the largest expert's.

    Raises:
        ArgumentError: a count is not a whole number of at least 1 (0 dense blocks of refinement are none), the lists
            are not of 4, 3 and 4 counts, a level's channels are not divided by its heads, `width` is not a multiple of
            2^(n-1), or noise or balance is not a number from 0 up.
        LimitError: there is not enough memory for such a network.
    """

    channels: ClassVar[int] = 3
    multiple_of: ClassVar[int] = 2 ** (LEVELS - 1)  # px: what heights and widths are filled up to
    labels: ClassVar[tuple[str, ...]] = ()  # no degradation is named: what the experts stand for emerges

    def __init__(
        self,
        width: int = 32,
        *,
        blocks: Sequence[int] = (4, 6, 6, 8),
        decoder_blocks: Sequence[int] = (4, 4, 2),
        heads: Sequence[int] = (1, 2, 4, 8),
        refinement: int = 4,
        experts: int = 4,
        noise: float | None = None,
        published_gate: bool = False,
        balance: float = 0.01,
        weigh_complexity: bool = True,
    ) -> None:
        super().__init__()
        self.width = whole("width", width, WIDEST)
        _check_counts("blocks", blocks, LEVELS)
        _check_counts("decoder_blocks", decoder_blocks, LEVELS - 1)
        _check_counts("heads", heads, LEVELS)
        whole("experts", experts, 8)
        if refinement != 0:
            whole("refinement", refinement)
        widths = [width << level for level in range(LEVELS)]
        if width % (1 << (experts - 1)) or any(c % h for c, h in zip(widths, heads, strict=True)):
            raise ArgumentError(
                f"width {width} does not fit: with {experts} experts it is a multiple of {1 << (experts - 1)},"
                f" and the heads {tuple(heads)} divide {widths}"
            )
        noise = 1 / experts if noise is None else noise
        for name, value in (("noise", noise), ("balance", balance)):
            if not (is_number(value) and value >= 0):
                raise ArgumentError(f"{name} is a number from 0 up, not {value!r}")

        def dense(level: int, count: int) -> nn.Sequential:
            return nn.Sequential(*(DenseBlock(widths[level], heads[level]) for _ in range(count)))

        def routed(level: int, count: int) -> nn.Sequential:
            return nn.Sequential(
                *(
                    ComplexityBlock(
                        widths[level],
                        heads[level],
                        experts=experts,
                        summary=widths[-1],
                        noise=noise,
                        published_gate=published_gate,
                        balance=balance / sum(decoder_blocks),
                        weigh_complexity=weigh_complexity,
                    )
                    for _ in range(count)
                )
            )

        with within_memory(f"a network of width {width} and as many blocks; lower one of them"):
            self.stem = nn.Conv2d(self.channels, width, 3, padding=1, bias=False)
            self.encoder = nn.ModuleList(dense(level, blocks[level]) for level in range(LEVELS - 1))
            self.downs = nn.ModuleList(Down(c) for c in widths[:-1])
            self.latent = dense(LEVELS - 1, blocks[-1])
            self.embedding = FrequencyEmbedding(widths[-1])
            levels = range(LEVELS - 2, -1, -1)
            self.decoder = Decoder(
                [Up(widths[level + 1]) for level in levels],
                [routed(level, count) for level, count in zip(levels, decoder_blocks, strict=True)],
            )
            self.refinement = dense(0, refinement)
            self.head = nn.Conv2d(width, self.channels, 3, padding=1)
        self._work: Work | None = None

    def forward(
        self,
        x: Tensor,  # (B, 3, H, W), in [0, 1]
        decision: Decision | None = None,
    ) -> Tensor:  # (B, 3, H, W)
        """The restored pictures, not clamped.

        Args:
            x: pictures of any size.
            decision: made before, for one picture, of which those of the batch are tiles, or for each of the batch;
                None: the routers decide.

        Raises:
            ShapeError: x is no batch of pictures of 3 channels, is empty, or holds no floats; or the decision is for
                another number of pictures.
            ArgumentError: the decision is another network's.
        """
        if decision is None:
            return self._restored(x)
        self._check(x)
        with imposing(self, decision.routings, x.shape[0]):
            return self._restored(x, routers=False)

    def training_pass(self, x: Tensor, explore: float = 0.0, generator: torch.Generator | None = None) -> Pass:
        """One forward pass and all that a loss may want of it.

        Args:
            x: (B, 3, H, W), in [0, 1].
            explore: not used: this network explores by the noise on its routers' scores.
            generator: of that noise; torch's global one when None.

        Raises:
            ShapeError: as in `forward`.
        """
        del explore  # part of what all restoration networks take
        with recording(self), drawing(self, generator):
            restored = self._restored(x)
        routings = collect(self)
        return Pass(
            restored=restored,
            routings=routings,
            present=None,
            severity=None,
            cost=self.decoder_work.cost(routings),
            expected_cost=self.decoder_work.expected_cost(routings),
        )

    @torch.no_grad()
    def look(self, pieces: Sequence[Tensor]) -> Decision:
        """Decide once for a whole picture from one or more of its pieces, without noise in evaluation mode.

        Each piece passes through encoder and decoder and is routed by itself on the way; then the scores of each router
        are averaged over the pieces by their pixels, and the best expert of each is chosen. Of a single piece that is
        what `forward` decides.

        Args:
            pieces: each (B, 3, h, w), in [0, 1], cut from the same B pictures; they may differ in size.

        Raises:
            ArgumentError: there are no pieces.
            ShapeError: a piece is what `forward` refuses, or they are of different numbers of pictures.
        """
        if not pieces:
            raise ArgumentError("pieces is empty: give the picture, or some tiles of it")
        summary: list[Tensor] = []
        scores: dict[str, list[Tensor]] = {name: [] for name in picture_gates(self)}
        for piece in pieces:
            if piece.shape[:1] != pieces[0].shape[:1]:
                raise ShapeError(f"pieces are of {pieces[0].shape[0]} and of {piece.shape[0]} pictures: cut all alike")
            with recording(self):
                summary.append(self._decoded(self._filled_up(piece))[1])
            for name, routing in collect(self).items():
                scores[name].append(routing.logits)
        areas = [piece.shape[-2] * piece.shape[-1] for piece in pieces]

        def mean(values: list[Tensor]) -> Tensor:
            return torch.stack([area / sum(areas) * value for area, value in zip(areas, values, strict=True)]).sum(0)

        routings = {name: gate.routing_of(mean(scores[name]), (1, 1)) for name, gate in picture_gates(self).items()}
        return Decision(
            routings=routings,
            summary=mean(summary),
            present=None,
            severity=None,
            cost=self.decoder_work.cost(routings),
        )

    @property
    def decoder_work(self) -> Work:
        """Multiply-adds of the decoder, from the latent map to the last complexity block, for a picture of 256x256."""
        if self._work is None:
            self._work = work(self, within="decoder")
        return self._work

    def _restored(self, x: Tensor, *, routers: bool = True) -> Tensor:
        filled = self._filled_up(x)
        y, _ = self._decoded(filled, routers=routers)
        restored: Tensor = self.head(self.refinement(y)) + filled
        return restored[..., : x.shape[-2], : x.shape[-1]]

    def _decoded(
        self,
        x: Tensor,  # (B, 3, H, W), multiples of `multiple_of`
        *,
        routers: bool = True,
    ) -> tuple[Tensor, Tensor]:  # (B, C, H, W), (B, D)
        """The map before refinement, and the embedding that routers read, empty where none does."""
        skips: list[Tensor] = []
        y = self.stem(x)
        for stage, down in zip(self.encoder, self.downs, strict=True):
            skips.insert(0, stage(y))
            y = down(skips[0])
        y = self.latent(y)
        if not routers:
            return self.decoder(y, skips), y.new_empty(y.shape[0], 0)
        summary = self.embedding(y)
        with conditioned(self, summary):
            return self.decoder(y, skips), summary

    def _filled_up(self, x: Tensor) -> Tensor:
        """The picture continued below and to the right to multiples of `multiple_of`."""
        if not torch.compiler.is_compiling():  # a comparison would tie a compiled network to its sizes
            self._check(x)
        right, bottom = -x.shape[-1] % self.multiple_of, -x.shape[-2] % self.multiple_of
        # A reflection is closer to a picture than a repeated edge, but needs more pixels than it adds.
        fits = right < x.shape[-1] and bottom < x.shape[-2]
        return pad(x, (0, right, 0, bottom), mode="reflect" if fits else "replicate")

    def _check(self, x: Tensor) -> None:
        if x.ndim != 4 or x.shape[1] != self.channels or x.numel() == 0:
            raise ShapeError(f"pictures have shape {tuple(x.shape)}, this network takes (B, {self.channels}, H, W)")
        if not x.is_floating_point():
            raise ShapeError(f"pictures hold floats in [0, 1], not {x.dtype}: divide bytes by 255")


def _check_counts(name: str, counts: Sequence[int], wanted: int) -> None:
    """Refuse what is no list of that many counts."""
    if len(counts) != wanted:
        raise ArgumentError(f"{name} holds {wanted} counts, one for each level, not {counts!r}")
    for count in counts:
        whole(name, count)
