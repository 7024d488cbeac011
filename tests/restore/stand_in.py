"""A network and a damage as small as can be, which draw from every generator that a run seeds."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import nn

from moesaic.restore.build import Parts
from moesaic.restore.decision import Pass
from moesaic.routing.record import Routing

MIX = {"noise": 3.0, "dark": 1.0, "clean": 1.0}


class StandIn(nn.Module):
    """Two experts, one for each picture; the gate says the probabilities, and chance decides as far as it explores."""

    multiple_of = 4
    labels = ("noise", "dark")

    def __init__(self, width: int = 4, dropout: float = 0.1) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.dropout = nn.Dropout(dropout)
        self.experts = nn.ModuleList(nn.Conv2d(width, 3, 3, padding=1) for _ in range(2))
        self.gate = nn.Linear(3, 2)
        self.detector = nn.Linear(3, 4)

    def forward(self, x, decision=None):
        return self._restored(x, self.gate(x.mean((2, 3))).argmax(1))

    def training_pass(self, x, explore, generator):
        logits = self.gate(x.mean((2, 3)))
        chance = torch.rand(len(x), generator=generator).to(x.device)
        chosen = torch.where(chance < explore, (chance * 1000).long() % 2, logits.argmax(1))
        p = logits.float().softmax(1)
        record = {"probabilities": p[:, None], "logits": logits[:, None], "chosen": chosen[:, None, None]}
        routing = Routing(weights=torch.ones(len(x), 1, 1), grid=(1, 1), **record)
        present, severity = self.detector(x.mean((2, 3))).chunk(2, dim=1)
        return Pass(
            restored=self._restored(x, chosen),
            routings={"experts": routing},
            present=present,
            severity=severity.sigmoid(),
            cost=0.5 + 0.5 * chosen.float(),
            expected_cost=(0.5 + 0.5 * p[:, 1]).mean(),
        )

    def _restored(self, x, chosen):
        features = self.dropout(self.first(x).relu())
        out = x.clone()
        for number, expert in enumerate(self.experts):
            mine = (chosen == number).nonzero()[:, 0]
            if len(mine):  # an expert that nobody chose has no gradient
                out = out.index_add(0, mine, expert(features[mine]).to(out.dtype))
        return out


@dataclass
class Damage:
    """Noise or darkness; counts its calls."""

    calls: int = 0

    def __call__(self, clean, generator, mix):
        self.calls += 1
        names = list(mix)
        shares = torch.tensor([float(share) for share in mix.values()])
        sort = torch.multinomial(shares, len(clean), replacement=True, generator=generator)
        noise = torch.randn(clean.shape, generator=generator).to(clean.device)
        kinds = [names[number] for number in sort.tolist()]
        present = torch.tensor([[float(kind == label) for label in StandIn.labels] for kind in kinds])
        noisy, dark = present.to(clean.device).T[:, :, None, None, None]
        pictures = clean * (1 - 0.5 * dark) + 0.1 * noisy * noise
        return SimpleNamespace(pictures=pictures, present=present, severity=0.5 * present, sort=sort)


def parts() -> Parts:
    return Parts(network=lambda name, **options: StandIn(**options), degrade=Damage(), mix=MIX)
