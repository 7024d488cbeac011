"""The small restoration network: everything that concerns the whole picture is decided once, before the decoder.

Axis letters as in `moesaic.routing.record`, with L kinds of degradation, S numbers of a summary, D of its reading.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple, TypeVar

import torch
from torch import nn
from torch.nn import functional as F

from moesaic.degrade.batch import LABELS
from moesaic.errors import ArgumentError, ShapeError
from moesaic.memory import within_memory
from moesaic.restore.decision import Decision, Pass
from moesaic.restore.gain_gate import GainGate, checked_price
from moesaic.restore.overruling import drawn, imposed, replaced
from moesaic.restore.pyramid import Block, NullExpert, PyramidExpert
from moesaic.restore.statistics import Reader, moments
from moesaic.routing import Balance, RoutedExperts, Routing
from moesaic.routing.gate import conditioned
from moesaic.values import is_number, is_whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

_Layer = TypeVar("_Layer", nn.Linear, nn.Conv2d)

LEVELS = 3  # of the decoder: 1/2, 1/4 and 1/8 of the picture's size; the middle is at 1/16
WORK = 16  # px: pictures are filled up to multiples of this

_SCALES = ((1, 2, 3, 4), (1, 2, 3, 3), (1, 2, 2, 2))  # of the four experts by level: windows of 6 to 48 px everywhere
_READING = 128  # D
_MOST = 2**14  # channels


class Encoded(NamedTuple):
    """Pictures between encoder and decoder."""

    padded: Tensor  # (B, 3, H', W')
    features: list[Tensor]  # of each level, finest first, and of the middle
    reading: Tensor  # (B, D), which the gates see
    size: tuple[int, int]  # of the pictures, px


class MoceLite(nn.Module):
    """A U-net at half resolution whose decoder has experts of growing rank and window, and one that does nothing.

    The encoder runs first. Means of its features over the whole picture, and plain statistics of the picture itself,
    are read into one vector, and from that come, all at once: which expert acts at each decoder level, what is wrong
    with the picture and how badly, how decoder features are scaled, and a global change of tone. So a large picture can
    be restored tile by tile with one decision, and tiles equal the whole (`look`, `forward`).

    restored = x + gain * x + offset + residual, with the gain and offset of each channel from the reading.

    Args:
        width: channels at half resolution; doubled at each level down.
        encoder: blocks at 1/2, 1/4 and 1/8.
        middle: blocks at 1/16.
        decoder: always-on blocks at each decoder level, after the experts.
        ranks: of the experts, as multiples of a level's channels, cheapest first.
        scales: pooled scales of each expert by level, from 1/2 down; those that fit `ranks` unless given.
        null: whether there is an expert 0 that does nothing.
        price: of compute, see `GainGate`.
        noise: of the gates in training, see `Gate`.

    Raises:
        ArgumentError: a size is no whole number or below 1, there is no rank, or one that is no number above 0, the
            scales do not fit the ranks, or the price is no number from 0 to 1000.
        LimitError: there is not enough memory for the network.
    """

    channels: ClassVar[int] = 3
    multiple_of: ClassVar[int] = WORK
    labels: ClassVar[tuple[str, ...]] = LABELS

    def __init__(
        self,
        *,
        width: int = 32,
        encoder: Sequence[int] = (1, 2, 4),
        middle: int = 4,
        decoder: int = 1,
        ranks: Sequence[float] = (0.5, 1.0, 1.75, 2.5),
        scales: Sequence[Sequence[int]] | None = None,
        null: bool = True,
        price: float = 0.0,
        noise: float = 0.0,
    ) -> None:
        super().__init__()
        if not is_whole(width, 4, _MOST):
            raise ArgumentError(f"width is a whole number of channels from 4 to {_MOST}, not {width!r}")
        for name, count in (("middle", middle), ("decoder", decoder), *(("encoder", n) for n in encoder)):
            if not is_whole(count, 0, 64):
                raise ArgumentError(f"{name} is a number of blocks from 0 to 64, not {count!r}")
        if len(encoder) != LEVELS:
            raise ArgumentError(f"encoder names blocks for {LEVELS} levels, not {encoder!r}")
        if not all(is_number(rank) and 0 < rank <= _MOST for rank in ranks):
            raise ArgumentError(f"ranks are numbers above 0, multiples of a level's channels, not {list(ranks)!r}")
        scales = _default_scales(len(ranks)) if scales is None else scales
        if not ranks or len(scales) != LEVELS or any(len(level) != len(ranks) for level in scales):
            raise ArgumentError(f"scales hold {LEVELS} lists of one number for each rank; ranks are {list(ranks)!r}")
        with within_memory(f"a network of width {width}; lower width"):
            self._build(width, encoder, middle, decoder, ranks, scales, null, price, noise)

    def _build(
        self,
        width: int,
        encoder: Sequence[int],
        middle: int,
        decoder: int,
        ranks: Sequence[float],
        scales: Sequence[Sequence[int]],
        null: bool,
        price: float,
        noise: float,
    ) -> None:
        widths = [width * 2**level for level in range(LEVELS + 1)]
        self.stem = nn.Conv2d(4 * self.channels, width, 3, padding=1)
        self.encoder = nn.ModuleList(_blocks(c, n) for c, n in zip(widths, encoder, strict=False))
        self.down = nn.ModuleList(nn.Conv2d(c, 2 * c, 2, 2) for c in widths[:-1])
        self.middle = _blocks(widths[-1], middle)
        self.up = nn.ModuleList(nn.Conv2d(2 * c, 4 * c, 1) for c in widths[:-1])
        self.decoder = nn.ModuleList(_blocks(c, decoder) for c in widths[:-1])
        self.head = _zero(nn.Conv2d(width, 4 * self.channels, 3, padding=1))  # training begins at the picture itself

        self.reader = Reader(width + widths[-1], _READING)
        self.detector = nn.Linear(_READING, 2 * len(self.labels))
        self.tone = _zero(nn.Linear(_READING, 2 * self.channels))
        self.film = _zero(nn.Linear(_READING, 2 * sum(widths[:-1])))

        banks: list[list[nn.Module]] = []
        for c, level in zip(widths, scales, strict=False):
            bank: list[nn.Module] = [NullExpert()] if null else []
            bank += [PyramidExpert(c, max(1, round(rank * c)), n) for rank, n in zip(ranks, level, strict=True)]
            banks.append(bank)
        share = [[_macs(expert) / 4**level for expert in bank] for level, bank in enumerate(banks)]
        fixed = sum((8 * c * c / 4 + decoder * (6 * c * c + 18 * c)) / 4**level for level, c in enumerate(widths[:-1]))
        fixed += width * 4 * self.channels * 9
        dearest = fixed + sum(max(level) for level in share)
        self.fixed_cost = fixed / dearest  # share of the decoder that runs whatever is chosen
        self.experts = nn.ModuleList(
            RoutedExperts(
                bank,
                GainGate(_READING, [macs / dearest for macs in level], price=price, noise=noise),
                halo=0,
                balance=Balance("none"),
            )
            for bank, level in zip(banks, share, strict=True)
        )

    @property
    def price(self) -> float:
        """DB that the compute of a whole decoder must be worth; the same for all levels."""
        return next(iter(self.gates())).price

    @price.setter
    def price(self, price: float) -> None:
        for gate in self.gates():
            gate.price = checked_price(price)

    def forward(
        self,
        x: Tensor,  # (B, 3, H, W)
        decision: Decision | None = None,
    ) -> Tensor:  # (B, 3, H, W), not clipped
        """The restored pictures.

        Args:
            x: of any size.
            decision: what `look` decided for these pictures, or for the one picture that x is a tile of; made from x
                itself unless given.

        Raises:
            ShapeError: x is no batch of RGB pictures, or the decision is for another number of pictures.
        """
        padded = _filled(x, self.channels)
        features = self._encode(padded)
        summary = self._summary(padded, features) if decision is None else decision.summary
        if summary is None or summary.shape[0] not in (1, x.shape[0]):
            raise ShapeError(f"the decision is not one for {x.shape[0]} pictures, nor one for all of them")
        reading = self._read(summary.expand(x.shape[0], -1))
        routings = decision.routings.values() if decision else ()
        with conditioned(self, reading), imposed(self.routed(), routings):
            restored = self._decode(padded, features, reading)
        return restored[..., : x.shape[2], : x.shape[3]]

    @torch.no_grad()
    def look(self, pieces: Sequence[Tensor]) -> Decision:
        """Decide for one picture, or for a batch of equal size, from one or more pieces of it.

        Args:
            pieces: each (B, 3, h, w), cut from the same B pictures; features are averaged over all their pixels.

        Raises:
            ArgumentError: there is no piece.
            ShapeError: a piece is no batch of RGB pictures.
        """
        if not pieces:
            raise ArgumentError("pieces is empty: give at least one piece of the picture")
        total, pixels = torch.zeros(()), 0
        for piece in pieces:
            area = piece.shape[2] * piece.shape[3]
            padded = _filled(piece, self.channels)
            total = total + area * self._summary(padded, self._encode(padded))
            pixels += area
        return self.decide(total / pixels)

    def decide(
        self,
        summary: Tensor,  # (B, S)
    ) -> Decision:
        """The decision that follows from a summary."""
        reading = self._read(summary)
        flat = reading[..., None, None]  # gates ask for a map; theirs only counts the pictures
        with conditioned(self, reading):
            routings = {f"experts.{i}": layer.gate(flat, (1, 1)) for i, layer in enumerate(self.routed())}
        present, severity = self.detector(reading).chunk(2, dim=-1)
        return Decision(
            routings=routings,
            summary=summary,
            present=present.sigmoid(),
            severity=severity.sigmoid(),
            cost=self.cost(routings),
        )

    @torch.no_grad()
    def restore_and_decide(
        self,
        x: Tensor,  # (B, 3, H, W)
    ) -> tuple[Tensor, Decision]:  # (B, 3, H, W), not clipped
        """What `look([x])` decides and `forward` makes of it, for the price of one pass; without gradients.

        Raises:
            ShapeError: x is no batch of RGB pictures.
        """
        padded = _filled(x, self.channels)
        features = self._encode(padded)
        summary = self._summary(padded, features)
        decision, reading = self.decide(summary), self._read(summary)
        with conditioned(self, reading), imposed(self.routed(), decision.routings.values()):
            restored = self._decode(padded, features, reading)
        return restored[..., : x.shape[2], : x.shape[3]], decision

    def training_pass(
        self,
        x: Tensor,  # (B, 3, H, W)
        explore: float,
        generator: torch.Generator | None = None,
    ) -> Pass:
        """A forward pass with all that a training step needs.

        Args:
            x: degraded pictures.
            explore: share of the pictures whose experts are drawn rather than chosen; see `drawn`.
            generator: of what is drawn, on the CPU.
        """
        padded = _filled(x, self.channels)
        features = self._encode(padded)
        reading = self._read(self._summary(padded, features))
        experts = drawn([gate.experts for gate in self.gates()], x.shape[0], explore, generator)
        with conditioned(self, reading), replaced(self.routed(), experts):
            restored = self._decode(padded, features, reading)[..., : x.shape[2], : x.shape[3]]
        routings = {f"experts.{i}": _held(layer.routing) for i, layer in enumerate(self.routed())}
        present, severity = self.detector(reading).chunk(2, dim=-1)
        expected = sum(
            (r.probabilities[:, 0] * g.costs).sum(-1) for r, g in zip(routings.values(), self.gates(), strict=True)
        )
        return Pass(
            restored=restored,
            routings=routings,
            present=present,
            severity=severity.sigmoid(),
            cost=self.cost(routings),
            expected_cost=self.fixed_cost + torch.as_tensor(expected).mean(),
        )

    def encoded(
        self,
        x: Tensor,  # (B, 3, H, W)
    ) -> Encoded:
        """What the decoder needs of these pictures, whatever experts act."""
        padded = _filled(x, self.channels)
        features = self._encode(padded)
        return Encoded(padded, features, self._read(self._summary(padded, features)), (x.shape[2], x.shape[3]))

    def decoded(
        self,
        held: Encoded,
        experts: Sequence[Tensor],  # of each level (B,) int64; -1 leaves it to the gate
    ) -> Tensor:  # (B, 3, H, W)
        """The pictures as restored by experts that somebody else chose.

        Raises:
            ArgumentError: there are experts for another number of levels.
        """
        with conditioned(self, held.reading), replaced(self.routed(), experts):
            restored = self._decode(held.padded, held.features, held.reading)
        return restored[..., : held.size[0], : held.size[1]]

    def cost(
        self,
        routings: Mapping[str, Routing],
    ) -> Tensor:  # (B,), in (0, 1]
        """The share of the dearest decoder's multiply-adds that the chosen experts leave to do."""
        gates = list(self.gates())
        spent = [gate.costs[routing.chosen[:, 0, 0]] for gate, routing in zip(gates, routings.values(), strict=True)]
        total: Tensor = self.fixed_cost + torch.stack(spent).sum(0)
        return total

    def _encode(self, x: Tensor) -> list[Tensor]:
        """The maps of the three levels, and of the middle."""
        x = F.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last)
        features, x = [], self.stem(x)
        for blocks, down in zip(self.encoder, self.down, strict=True):
            x = blocks(x)
            features.append(x)
            x = down(x)
        return [*features, self.middle(x)]

    @staticmethod
    def _summary(padded: Tensor, features: Sequence[Tensor]) -> Tensor:  # (B, S)
        means = [features[i].mean((2, 3), dtype=torch.float32) for i in (0, -1)]
        return torch.cat([*means, moments(padded)], 1)

    def _read(self, summary: Tensor) -> Tensor:  # (B, D)
        with torch.autocast(summary.device.type, enabled=False):  # decisions need float32
            reading: Tensor = self.reader(summary.float())
        return reading

    def _decode(self, padded: Tensor, features: Sequence[Tensor], reading: Tensor) -> Tensor:
        with torch.autocast(reading.device.type, enabled=False):
            tone, film = self.tone(reading), self.film(reading)
        x, films = features[-1], list(film[..., None, None].split([2 * f.shape[1] for f in features[:-1]], dim=1))
        for level in reversed(range(LEVELS)):
            scale, shift = films[level].to(features[level].dtype).chunk(2, dim=1)
            x = F.pixel_shuffle(self.up[level](x), 2) + features[level]
            x = x * (1 + scale) + shift
            x = self.decoder[level](x + self.experts[level](x))
        residual = F.pixel_shuffle(self.head(x), 2).float()
        gain, offset = tone[..., None, None].chunk(2, dim=1)
        restored: Tensor = padded + gain * padded + offset + residual
        return restored

    def routed(self) -> Iterator[RoutedExperts]:
        """The routed layer of each decoder level, from 1/2 down."""
        for layer in self.experts:
            if isinstance(layer, RoutedExperts):
                yield layer

    def gates(self) -> Iterator[GainGate]:
        """Their gates."""
        for layer in self.routed():
            if isinstance(layer.gate, GainGate):
                yield layer.gate


def _default_scales(experts: int) -> Sequence[Sequence[int]]:
    """For other than four experts, spread over what four have; a single one looks as far as the dearest."""
    if experts == 1:
        return [[level[-1]] for level in _SCALES]
    return [[level[round(i * 3 / (experts - 1))] for i in range(experts)] for level in _SCALES]


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(Block(channels) for _ in range(count)))


def _zero(layer: _Layer) -> _Layer:
    """The same layer, which now says 0 whatever it reads."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def _macs(expert: nn.Module) -> float:
    return float(getattr(expert, "macs", 0.0))


def _filled(x: Tensor, channels: int) -> Tensor:
    """The picture, filled up to multiples of `WORK` by mirroring, or by repeating the edge where it is too small."""
    if x.ndim != 4 or x.shape[1] != channels or 0 in x.shape:
        raise ShapeError(f"pictures to restore are (B, {channels}, H, W) and not empty, not {tuple(x.shape)}")
    below, right = -x.shape[2] % WORK, -x.shape[3] % WORK
    if not (below or right):
        return x
    mirror = below < x.shape[2] and right < x.shape[3]
    return F.pad(x, (0, right, 0, below), mode="reflect" if mirror else "replicate")


def _held(routing: Routing | None) -> Routing:
    if routing is None:
        raise ArgumentError("training_pass needs the network in training mode: call model.train() first")
    return routing
