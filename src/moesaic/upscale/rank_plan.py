"""How many ranks a layer has, which of them are always on, and how the others are chosen."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

from moesaic.errors import ArgumentError
from moesaic.routing.choice import MOST_EXPERTS
from moesaic.values import is_a, is_number, is_whole

GateNorm = Literal["none", "topk", "real"]

_NARROW = 4  # ranks are at most the full rank of a layer over this
_WIDEST = 2**14  # numbers between the layers of a router


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """The ranks of one layer, and its router.

    An expert is `expert_rank` ranks that share a gate: one in a mixture of ranks, more where whole adapters are
    experts. A zero expert has none and adds nothing. With `routed=0` this is plain LoRA.

    Args:
        shared: ranks that are always on, with a gate of 1.
        routed: experts to choose from; the zero experts count as some of these where `zero_inside_routed` says so.
        active: how many are chosen, zero experts among them.
        zero: experts that do nothing.
        zero_inside_routed: whether the zero experts are some of the `routed` ones, or come on top; the paper's readers
            disagree.
        gate_norm: what gates are. "none": the probability of the chosen times the number of experts, about 1 at the
            start, so that a picture that takes more zero experts gets less of an adapter. "topk": the softmax over the
            chosen. "real": the softmax over the chosen that are not zero experts.
        expert_rank: ranks of each expert.
        hidden: width between the two layers of the router; None: one layer.
        noise: standard deviation of the noise on a router's scores in training, as a share of their spread.

    Raises:
        ArgumentError: a value is outside what is said here.
    """

    shared: int
    routed: int
    active: int
    zero: int
    zero_inside_routed: bool = False
    gate_norm: GateNorm = "none"
    expert_rank: int = 1
    hidden: int | None = None
    noise: float = 0.0

    def __post_init__(self) -> None:
        for name, least in (("shared", 0), ("routed", 0), ("active", 0), ("zero", 0), ("expert_rank", 1)):
            if not is_whole(getattr(self, name), least, MOST_EXPERTS):
                raise ArgumentError(
                    f"{name} is a whole number from {least} to {MOST_EXPERTS}, not {getattr(self, name)!r}"
                )
        if not is_a(self.zero_inside_routed, bool):
            raise ArgumentError(f"zero_inside_routed is True or False, not {self.zero_inside_routed!r}")
        if self.gate_norm not in get_args(GateNorm):
            raise ArgumentError(f"gate_norm is 'none', 'topk' or 'real', not {self.gate_norm!r}")
        if self.hidden is not None and not is_whole(self.hidden, 1, _WIDEST):
            raise ArgumentError(f"hidden is a whole number from 1 to {_WIDEST}, or None, not {self.hidden!r}")
        if not is_number(self.noise) or not 0 <= self.noise < math.inf:
            raise ArgumentError(f"noise is a standard deviation from 0 up, not {self.noise!r}")
        if not self.routed:
            if self.active or self.zero:
                raise ArgumentError(f"without routed ranks active and zero are 0, not {self.active} and {self.zero}")
            if not self.shared:
                raise ArgumentError("shared and routed are both 0: that is no adapter; give one of them ranks")
            return
        if self.real < 1:
            raise ArgumentError(f"all {self.routed} routed experts are zero experts; lower zero={self.zero}")
        if not 1 <= self.active <= self.experts:
            raise ArgumentError(f"active is {self.active}, but there are {self.experts} experts to choose from")
        if self.experts > MOST_EXPERTS or self.total > MOST_EXPERTS:
            raise ArgumentError(f"there are {self.total} ranks and {self.experts} experts; {MOST_EXPERTS} are the most")

    @property
    def real(self) -> int:
        """Routed experts that do something; they come first, zero experts after them."""
        return self.routed - self.zero if self.zero_inside_routed else self.routed

    @property
    def experts(self) -> int:
        """N, what the router chooses from."""
        return self.real + self.zero

    @property
    def total(self) -> int:
        """R, the ranks that are stored: shared ones first."""
        return self.shared + self.real * self.expert_rank

    def fitted(self, most: int) -> Ranks:
        """About `most` ranks in the same proportions.

        Where whole adapters are experts, these become narrower rather than fewer. One of each kind that there is
        always stays.
        """
        share = most / self.total
        if not self.routed:
            return replace(self, shared=max(1, most))
        shared = max(1, round(self.shared * share)) if self.shared else 0
        rest = max(1, most - shared)
        expert_rank, real = 1, rest
        if self.expert_rank > 1:
            expert_rank = max(1, min(round(self.expert_rank * share), rest // self.real))
            real = min(self.real, rest)
        share = real / self.real
        zero = max(1, round(self.zero * share)) if self.zero else 0
        return replace(
            self,
            shared=shared,
            routed=real + zero if self.zero_inside_routed else real,
            active=min(max(1, round(self.active * share)), real + zero),
            zero=zero,
            expert_rank=expert_rank,
        )

    def fitted_to(self, inputs: int, outputs: int) -> Ranks:
        """As they are, or fewer for a narrow layer: a quarter of its full rank.

        Forty ranks in a layer of 32 outputs would be more than all that it can learn.

        Args:
            inputs: numbers that one output depends on; of a convolution, channels times the area of its kernel.
            outputs: features or channels.
        """
        most = min(inputs, outputs) // _NARROW
        return self.fitted(most) if most < self.total else self


PAPER = Ranks(shared=8, routed=32, active=8, zero=4)
"""Those of MoR-DASR in Stable Diffusion (arXiv 2511.16024), with the zero experts on top of the routed ranks."""
