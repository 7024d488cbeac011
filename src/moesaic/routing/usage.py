"""What a gate did over a whole data set: who acted, how evenly, how decidedly, where, and on which classes.

Counts are added up batch by batch, and every figure is computed from the sums: the largest share is the maximum of the
shares over the data set, never a mean of maxima of batches, which says 1 for a gate that turns to one expert in each
picture and to another in the next. Shares come in two definitions that differ by a factor k: of assignments (they sum
to 1; even is 1/E) and of patches (they sum to k; even is k/E).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from moesaic.errors import ArgumentError, ShapeError
from moesaic.routing.grid import bounds

if TYPE_CHECKING:
    from moesaic.routing.record import Routing


@dataclass(slots=True)
class _Sums:
    """What has been counted; all tensors float64 on the CPU."""

    grid: tuple[int, int]
    acts: Tensor  # (P, E), pictures in which an expert acts at a position
    mass: Tensor  # (P, E), gate weights
    p: Tensor  # (P, E), probabilities
    together: Tensor  # (E, E), places in which two experts act
    classes: Tensor  # (E, classes), pixels by gate weight
    entropy: float = 0.0  # of the probabilities of each place
    choices: int = 0


class Usage:
    """Adds up the routings of one layer.

    An expert acts at a place when it is chosen there with a weight above 0; a choice whose weight is 0, as a full
    expert leaves behind, counts as dropped. Entropies are in nats.

    Args:
        classes: how many classes the labels have that come with the routings; 0 for no table of classes.
        ignore: the label that belongs to no class.

    Raises:
        ArgumentError: `classes` is below 0, or (from every figure) no routing has been added yet.
    """

    def __init__(self, classes: int = 0, *, ignore: int = 255) -> None:
        if classes < 0:
            raise ArgumentError(f"classes must be 0 or more, not {classes}")
        self._n_classes, self._ignore = classes, ignore
        self._counted: _Sums | None = None
        self._pictures = 0

    def add(
        self,
        routing: Routing,
        labels: Tensor | None = None,  # (B, H, W), integers
    ) -> None:
        """Count one batch.

        Args:
            routing: of B pictures.
            labels: what each pixel shows, at any size: places are cut out of it as out of the map.

        Raises:
            ShapeError: the grid or the number of experts differs from the first batch's, or there is not one label map
                for each picture.
            ArgumentError: a label is neither a class nor `ignore`.
        """
        with torch.no_grad():
            weights = routing.dense().detach().double().cpu()  # (B, P, E)
            table = None
            if labels is not None and self._n_classes:
                if labels.ndim != 3 or labels.shape[0] != weights.shape[0]:
                    raise ShapeError(
                        f"labels must be ({weights.shape[0]}, H, W) for {weights.shape[0]} pictures, "
                        f"not {tuple(labels.shape)}"
                    )
                table = class_counts(labels.cpu(), routing.grid, self._n_classes, ignore=self._ignore).double()
            sums = self._fitting(routing)
            acts = (weights > 0).double()
            p = routing.probabilities.detach().double().cpu()
            self._pictures += weights.shape[0]
            sums.choices += routing.chosen.numel()
            sums.acts += acts.sum(0)
            sums.mass += weights.sum(0)
            sums.p += p.sum(0)
            sums.entropy += float(torch.special.entr(p).sum())
            flat = acts.flatten(0, 1)
            sums.together += flat.T @ flat
            if table is not None:
                sums.classes += torch.einsum("bpe,bpc->ec", weights, table)

    def state_dict(self) -> dict[str, Any]:
        """Everything that was counted, for a checkpoint: numbers, lists and tensors."""
        counted = self._counted
        sums = {} if counted is None else {name: getattr(counted, name) for name in _Sums.__dataclass_fields__}
        return {"pictures": self._pictures, **sums}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        sums = {name: value for name, value in state.items() if name != "pictures"}
        self._pictures = int(state["pictures"])
        self._counted = None
        if sums:
            rows, columns = sums.pop("grid")
            tensors = {name: _own(value) for name, value in sums.items()}
            self._counted = _Sums(grid=(rows, columns), **tensors)

    def _fitting(self, routing: Routing) -> _Sums:
        """The sums that a routing is added to."""
        P, E = routing.places, routing.experts
        if self._counted is None:
            acts, mass, p = (torch.zeros(P, E, dtype=torch.float64) for _ in range(3))
            together = torch.zeros(E, E, dtype=torch.float64)
            classes = torch.zeros(E, self._n_classes, dtype=torch.float64)
            self._counted = _Sums(routing.grid, acts, mass, p, together, classes)
        elif (routing.grid, E) != (self.grid, self.experts):
            rows, columns = self.grid
            raise ShapeError(
                f"a routing of {E} experts on a grid of {routing.grid[0]}x{routing.grid[1]} cannot be added to "
                f"{self.experts} experts on {rows}x{columns}"
            )
        return self._counted

    @property
    def _sums(self) -> _Sums:
        if self._counted is None:
            raise ArgumentError("no routing has been added: run the model over some pictures first")
        return self._counted

    @property
    def pictures(self) -> int:
        """How many pictures were counted."""
        return self._pictures

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of places in a picture."""
        return self._sums.grid

    @property
    def experts(self) -> int:
        """E, how many experts there are."""
        return self._sums.acts.shape[1]

    @property
    def places(self) -> int:
        """How many places were counted: those of a picture times the pictures."""
        rows, columns = self.grid
        return rows * columns * self._pictures

    @property
    def k(self) -> float:
        """How many experts act at a place, on average."""
        return float(self._sums.acts.sum()) / self.places

    @property
    def dropped(self) -> float:
        """The share of choices that came to nothing, in [0, 1]."""
        return 1 - float(self._sums.acts.sum()) / self._sums.choices

    @property
    def assignment_share(self) -> Tensor:  # (E,)
        """Of all pairs of a place and an expert that acts there, the share of each expert; sums to 1, even is 1/E."""
        acts = self._sums.acts.sum(0)
        return acts / acts.sum()

    @property
    def patch_share(self) -> Tensor:  # (E,)
        """Of all places, the share in which each expert acts, its usage; sums to k, even is k/E."""
        return self._sums.acts.sum(0) / self.places

    @property
    def weight_share(self) -> Tensor:  # (E,)
        """The mean gate weight of each expert over all places; sums to 1."""
        mass = self._sums.mass.sum(0)
        return mass / mass.sum()

    @property
    def routing_entropy(self) -> float:
        """Entropy of the assignment shares over log E, in [0, 1]: 1 is even use, low is collapse; NaN for one expert.

        Source: the collapse metric NRE of arXiv 2604.13761. Even use may also mean an undecided gate: see `flatness`.
        """
        return _over_log(float(torch.special.entr(self.assignment_share).sum()), self.experts)

    @property
    def weight_entropy(self) -> float:
        """Entropy of the weight shares over log E, in [0, 1]; NaN for one expert.

        Far below `routing_entropy` where experts are chosen second with hardly any weight: then shares of use look even
        although few experts do all the work.
        """
        return _over_log(float(torch.special.entr(self.weight_share).sum()), self.experts)

    @property
    def idle(self) -> tuple[int, ...]:
        """The experts that act, but with less than a tenth of an even share of the weight."""
        light = (self.weight_share < 0.1 / self.experts) & (self.patch_share > 0)
        return tuple(torch.nonzero(light).flatten().tolist())

    @property
    def place_entropy(self) -> float:
        """The mean over places of the entropy of a place's probabilities, in nats: 0 is decided, log E undecided."""
        return self._sums.entropy / self.places

    @property
    def flatness(self) -> float:
        """`place_entropy` over log E, in [0, 1]: near 1 the gate hardly prefers any expert; NaN for one expert."""
        return _over_log(self.place_entropy, self.experts)

    @property
    def dead(self) -> tuple[int, ...]:
        """The experts that never act."""
        return tuple(torch.nonzero(self._sums.acts.sum(0) == 0).flatten().tolist())

    @property
    def position_share(self) -> Tensor:  # (P, E)
        """Of all pictures, the share in which an expert acts at a position of the grid; each row sums to k."""
        return self._sums.acts / self._pictures

    @property
    def position_probabilities(self) -> Tensor:  # (P, E)
        """The mean probabilities at each position of the grid; each row sums to 1."""
        return self._sums.p / self._pictures

    @property
    def position_information(self) -> float:
        """How much of the choice, by gate weight, the position alone explains: I(expert; position) / H(expert).

        In [0, 1]. At 1 the position decides, whatever a place shows; at 0 it plays no part.
        """
        return _explained(self._sums.mass)

    @property
    def coactivation(self) -> Tensor:  # (E, E)
        """Of all places, the share in which two experts act together; the diagonal is `patch_share`."""
        return self._sums.together / self.places

    @property
    def class_table(self) -> Tensor:  # (E, classes)
        """Of the pixels of each class, the share that each expert speaks for, by gate weight; columns sum to 1.

        A place's pixels are divided among the experts that act there as the gate divides them. The column of a class
        without pixels holds NaN.
        """
        table = self._sums.classes
        return table / table.sum(0)

    @property
    def class_information(self) -> float:
        """How much of the expert is explained by the class of a pixel: I(expert; class) / H(expert), in [0, 1].

        Classes keep to positions (sky is above, road below), so a gate that knows positions only is above 0 as well.
        """
        return _explained(self._sums.classes.T)

    def figures(self) -> dict[str, Any]:
        """All of the above as plain numbers and lists, for JSON; figures without a meaning are None."""
        top, most = int(self.assignment_share.argmax()), float(self.assignment_share.max())
        figures: dict[str, Any] = {
            "pictures": self.pictures,
            "grid": list(self.grid),
            "experts": self.experts,
            "k": self.k,
            "dropped": self.dropped,
            "assignment_share": self.assignment_share.tolist(),
            "patch_share": self.patch_share.tolist(),
            "weight_share": self.weight_share.tolist(),
            "top_expert": top,
            "top_assignment_share": most,
            "top_patch_share": float(self.patch_share.max()),
            "routing_entropy": self.routing_entropy,
            "weight_entropy": self.weight_entropy,
            "place_entropy": self.place_entropy,
            "flatness": self.flatness,
            "dead": list(self.dead),
            "idle": list(self.idle),
            "position_information": self.position_information,
            "position_share": self.position_share.tolist(),
            "coactivation": self.coactivation.tolist(),
        }
        if self._n_classes and float(self._sums.classes.sum()) > 0:
            figures["class_table"] = self.class_table.tolist()
            figures["class_information"] = self.class_information
        return {name: _plain(value) for name, value in figures.items()}


def class_counts(
    labels: Tensor,  # (B, H, W), integers
    grid: tuple[int, int],
    classes: int,
    *,
    ignore: int = 255,
) -> Tensor:  # (B, P, classes) int64
    """How many pixels of each class every place holds.

    Raises:
        ShapeError: `labels` has other axes, or a grid finer than its pixels.
        ArgumentError: a label is neither below `classes` nor `ignore`.
    """
    if labels.ndim != 3:
        raise ShapeError(f"labels must be (B, H, W), not {tuple(labels.shape)}")
    B, H, W = labels.shape
    rows, columns = grid
    if rows > H or columns > W:
        raise ShapeError(f"a grid of {rows}x{columns} is finer than labels of {H}x{W} pixels")
    labels = labels.long()
    counted = labels != ignore
    wrong = counted & ((labels < 0) | (labels >= classes))
    if bool(wrong.any()):
        raise ArgumentError(
            f"labels hold {int(labels[wrong][0])}: they must be 0 to {classes - 1}, or {ignore} for no class"
        )
    place = _position(H, rows, labels)[:, None] * columns + _position(W, columns, labels)  # (H, W)
    picture = torch.arange(B, device=labels.device)[:, None, None]
    bins = ((picture * (rows * columns) + place) * classes + labels)[counted]
    return torch.bincount(bins, minlength=B * rows * columns * classes).view(B, rows * columns, classes)


def _position(length: int, parts: int, like: Tensor) -> Tensor:  # (length,)
    """The part of the grid that each of a row's pixels lies in."""
    edges = torch.tensor(bounds(length, parts), device=like.device)
    return torch.repeat_interleave(torch.arange(parts, device=like.device), edges.diff())


def _own(value: Any) -> Any:
    """Not the tensor of a checkpoint, wherever it was loaded to: sums are added to in place, on the CPU."""
    return value.detach().cpu().clone() if isinstance(value, Tensor) else value


def _over_log(entropy: float, experts: int) -> float:
    """Entropy as a share of the largest that so many experts can have."""
    return entropy / math.log(experts) if experts > 1 else math.nan


def _explained(table: Tensor) -> float:  # (what explains, what is explained), counts
    """Mutual information of rows and columns over the entropy of the columns, in [0, 1]; NaN where that is 0."""
    joint = table / table.sum()
    columns = float(torch.special.entr(joint.sum(0)).sum())
    both = float(torch.special.entr(joint).sum())
    rows = float(torch.special.entr(joint.sum(1)).sum())
    return min(1.0, max(0.0, (rows + columns - both) / columns)) if columns > 1e-12 else math.nan


def _plain(value: Any) -> Any:
    """Lists without NaN, which JSON has no word for."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
