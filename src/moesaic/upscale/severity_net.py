"""A tiny network that tells how degraded a picture is, and the estimator around it.

Noise and the blocks of JPEG are seen at full resolution, so the first convolution has no stride; what lies at the
scale of a pixel is shown to it amplified. Means and deviations of all maps over the whole picture are all that is left
of it, so that a picture's are the mean of those of its pieces, and any size will do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from moesaic.errors import ArgumentError
from moesaic.upscale.pieces import checked, spread
from moesaic.upscale.scores import Scores
from moesaic.upscale.truth import NAMES, typical_scores
from moesaic.upscale.typical import Typical
from moesaic.values import is_whole

if TYPE_CHECKING:
    from torch import Tensor

_AMPLIFIED = 8.0  # what differs from the mean of 3 x 3 pixels is small, and says most


class SeverityNet(nn.Module):
    """A picture to scores: strided convolutions, moments of all their maps, and two layers on top.

    Args:
        channels: of the stages; each but the first halves the sides.
        hidden: size of the layer between moments and scores.
        names: of the scores.
        typical: a row of typical scores for each severity 0, 0.1, ... 1; the mean truth of drawn chains unless given.

    Raises:
        ArgumentError: an option is outside its values.
    """

    multiple_of = 1  # px; every size from 8 px will do

    def __init__(
        self,
        channels: Sequence[int] = (16, 32, 48, 64),
        hidden: int = 64,
        names: Sequence[str] = NAMES,
        typical: Sequence[Sequence[float]] | None = None,
    ) -> None:
        super().__init__()
        if not (
            len(channels) > 0 and all(is_whole(count, 1, 1024) for count in channels) and is_whole(hidden, 1, 4096)
        ):
            raise ArgumentError(
                f"channels {channels!r} and hidden {hidden!r} are whole numbers from 1 to 1024 and 4096"
            )
        self.names = tuple(str(name) for name in names)
        rows = typical_scores().tolist() if typical is None and self.names == NAMES else typical
        if rows is None:
            raise ArgumentError(f"typical scores of {', '.join(self.names)} are not known; pass typical")
        self.typical = Typical(self.names, tuple(tuple(float(value) for value in row) for row in rows))
        self.stages = nn.ModuleList()
        before = 6
        for place, count in enumerate(channels):
            layers: list[nn.Module] = [nn.Conv2d(before, count, 3, stride=2 if place else 1, padding=1), nn.SiLU()]
            if place >= 2:  # where maps are small, a second one costs little
                layers += [nn.Conv2d(count, count, 3, padding=1), nn.SiLU()]
            self.stages.append(nn.Sequential(*layers))
            before = count
        self.features = 2 * sum(channels)
        self.norm = nn.LayerNorm(self.features)
        self.first = nn.Linear(self.features, hidden)
        self.last = nn.Linear(hidden, len(self.names) + 1)

    def moments(
        self,
        x: Tensor,  # (B, 3, H, W), in [0, 1]
    ) -> Tensor:  # (B, features), means of all maps, then those of their squares
        """What is left of pictures, or of pieces of one: the moments of a whole are the means of its pieces'."""
        around = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        maps, means, squares = torch.cat([4 * x - 2, _AMPLIFIED * (x - around)], 1), [], []
        for stage in self.stages:
            maps = stage(maps)
            means.append(maps.mean((2, 3)))
            squares.append(maps.square().mean((2, 3)))
        return torch.cat([*means, *squares], 1)

    def read(
        self,
        moments: Tensor,  # (B, features)
    ) -> Tensor:  # (B, S + 1)
        """Scores and then the severity, before the sigmoid."""
        mean, square = moments.chunk(2, dim=1)
        deviation = (square - mean.square()).clamp_min(1e-6).sqrt()
        seen = torch.cat([mean, deviation.log()], 1)
        read: Tensor = self.last(F.silu(self.first(self.norm(seen))))
        return read

    def forward(
        self,
        x: Tensor,  # (B, 3, H, W), in [0, 1]
    ) -> Tensor:  # (B, S + 1), in [0, 1]
        """Scores and then the severity, of pictures in one piece."""
        return self.read(self.moments(x)).sigmoid()


class NetEstimator:
    """The estimator around a `SeverityNet`: any size, checked input, and a name that its weights decide.

    Args:
        network: in evaluation mode from here on; it stays on its device.
    """

    def __init__(self, network: SeverityNet) -> None:
        self.network = network.eval()
        self._identity = f"severity_net:{_digest(network)[:12]}"

    @property
    def names(self) -> tuple[str, ...]:
        """What is scored, in the order of the values."""
        return self.network.names

    @property
    def identity(self) -> str:
        """Kind, and the first 12 hexadecimal digits of a hash of its weights."""
        return self._identity

    @torch.no_grad()
    def __call__(
        self,
        pictures: Tensor,  # (B, 3, H, W), float32 in [0, 1]
    ) -> Scores:
        """The scores of pictures, which are on the pictures' device.

        Of pictures of more than 1.6 megapixels 16 pieces of 320 px are looked at, and their moments averaged.

        Raises:
            ShapeError: another shape than (B, 3, H, W), or sides below 8 px.
            ArgumentError: no tensor of floats, or values that are no finite numbers.
        """
        return self.of_pieces(spread(checked(pictures)))

    @torch.no_grad()
    def of_pieces(self, pieces: Sequence[Tensor]) -> Scores:
        """The scores of pictures of which `moesaic.upscale.pieces.spread` has taken these, each (B, 3, h, w)."""
        home, device = pieces[0].device, next(self.network.parameters()).device
        with torch.autocast(device.type, enabled=False):  # whatever the caller computes in, scores are the same
            moments = sum((self.network.moments(piece.to(device)) for piece in pieces), torch.zeros((), device=device))
            read = self.network.read(moments / len(pieces)).sigmoid().to(home)
        return Scores(names=self.names, values=read[:, :-1].contiguous(), severity=read[:, -1].contiguous())

    def at(self, severity: float) -> Scores:
        """What the network says of the mean picture of that severity, as it was measured after its training; B is 1.

        Raises:
            ArgumentError: the severity is no number in [0, 1].
        """
        return self.network.typical.at(severity)


def _digest(network: nn.Module) -> str:
    """A hash of all weights as float32, in the order of their names."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"\n{name} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
