"""Models by name: what builds each architecture, and where trained weights lie."""

from __future__ import annotations

import difflib
import fnmatch
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from moesaic.errors import ArgumentError, ModelError
from moesaic.weights_file import DEFAULT_LIMITS, Card, WeightLimits, read_card, read_weights, with_card

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

_log = logging.getLogger(__name__)

Network = TypeVar("Network")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shipped:
    path: Path
    missing: str  # what to do where the file is not there


@dataclass(slots=True)
class Registry:
    """Architectures and trained weights, each under a name of its own; filled by visible lines, never by scanning."""

    _builders: dict[str, Callable[..., nn.Module]] = field(default_factory=dict)
    _weights: dict[str, _Shipped] = field(default_factory=dict)

    def add(self, name: str, build: Callable[..., nn.Module]) -> None:
        """An architecture: `build` takes keyword arguments that JSON can hold, and returns a fresh network.

        Raises:
            ModelError: the name is taken.
        """
        self._refuse_taken(name)
        self._builders[name] = build

    def add_weights(self, name: str, path: str | os.PathLike[str], *, missing: str) -> None:
        """Trained weights, a file that `write_weights` wrote; it is read when it is asked for.

        Args:
            name: what to call them.
            path: the file, which need not be there.
            missing: what the user can do where it is not.

        Raises:
            ModelError: the name is taken.
        """
        self._refuse_taken(name)
        self._weights[name] = _Shipped(path=Path(path), missing=missing)

    @classmethod
    def joined(cls, registries: Iterable[Registry]) -> Registry:
        """One registry that holds what several hold.

        Raises:
            ModelError: two of them use the same name.
        """
        whole = cls()
        for one in registries:
            for name, build in one._builders.items():
                whole.add(name, build)
            for name, shipped in one._weights.items():
                whole.add_weights(name, shipped.path, missing=shipped.missing)
        return whole

    def names(self, pattern: str = "*") -> list[str]:
        """The names that match a shell pattern, in alphabetical order; weights only where their file is there.

        Raises:
            ArgumentError: the pattern is no text.
        """
        if not isinstance(pattern, str):
            raise ArgumentError(f"pattern is a text such as '*camvid*', not {pattern!r}")
        there = [*self._builders, *(name for name, shipped in self._weights.items() if shipped.path.is_file())]
        return sorted(name for name in there if fnmatch.fnmatchcase(name, pattern))

    def card(self, name: str) -> Card | None:
        """The card of trained weights; None for an architecture.

        Raises:
            ModelError: the name is unknown, or its weights are missing or damaged.
        """
        return None if name in self._builders else read_card(self._path(name))

    def create(self, name: str, pretrained: bool = False, **options: Any) -> nn.Module:
        """A network by name, in training mode unless it is pretrained.

        Args:
            name: an architecture, or trained weights, whose architecture and options are then taken from their card.
            pretrained: load the weights of that name.
            options: keyword arguments of the architecture; with the name of weights, instead of those in the card.

        Raises:
            ModelError: the name is unknown, or no weights belong to it.
            ArgumentError: an option is wrong, or options are given together with `pretrained`.
        """
        if pretrained:
            if name in self._builders:
                raise ModelError(f"{name} is an architecture without weights; {self._trained(name)}")
            if options:
                raise ArgumentError(
                    f"{', '.join(options)}: a pretrained model is built as it was trained; leave it out"
                )
            return self.load(name)
        if name in self._builders:
            return _built(name, self._builders[name], options)
        card = read_card(self._path(name))
        return _built(name, self._builder(card, name), _from_json(card.options) | options)

    def load(
        self,
        model: str | os.PathLike[str],
        *,
        device: str | torch.device | None = None,
        limits: WeightLimits = DEFAULT_LIMITS,
    ) -> nn.Module:
        """A trained network, in evaluation mode, that carries its card (see `card_of`).

        Args:
            model: the name of trained weights, a file that `write_weights` wrote, or the folder of a finished training
                run, which holds `model.safetensors`.
            device: where to put it; the CPU unless given.
            limits: the largest file to accept.

        Raises:
            ModelError: the name is unknown, the file is missing or damaged, or its weights do not fit what its card
                says to build.
            LimitError: the file is larger than `limits` allows.
            ArgumentError: the device is unknown.
            BackendError: the device is not here.
        """
        from moesaic.training.device import pick_device

        where = None if device is None else pick_device(device)
        path = self._path(model)
        weights, card = read_weights(path, limits=limits)
        build, options = self._builder(card, path), _from_json(card.options)
        network = _filled(path, card.architecture, build, options, weights)
        if path in {shipped.path for shipped in self._weights.values()}:
            _log.info("%s: weights under %s, trained on %s", card.name, card.licence, card.data)
        return with_card(network.eval() if where is None else network.eval().to(where), card)

    def _path(self, model: str | os.PathLike[str]) -> Path:
        if isinstance(model, str) and model in self._weights:
            shipped = self._weights[model]
            if not shipped.path.is_file():
                raise ModelError(f"the weights of {model} are not in this installation; {shipped.missing}")
            return shipped.path
        if isinstance(model, str) and model in self._builders:
            raise ModelError(f"{model} is an architecture without weights; {self._trained(model)}")
        if not isinstance(model, str | os.PathLike):
            raise ModelError(f"a model is the name of weights or a path, not {type(model).__name__}")
        if model == "":
            raise ModelError("a model has an empty name; write '.' for the run in the folder that you are in")
        place = Path(model)
        if os.path.isdir(place):  # noqa: PTH112 - unlike Path.is_dir, it never raises, whatever the name holds
            return place / "model.safetensors"
        if not isinstance(model, str) or place.suffix == ".safetensors" or os.path.lexists(place):
            return place
        raise ModelError(f"{model!r} is no model here and no file; {self._suggested(model)}")

    def _suggested(self, name: str) -> str:
        known = sorted({*self._builders, *self._weights})
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        return f"did you mean {' or '.join(close)}?" if close else f"known here are {', '.join(known) or 'none'}"

    def _trained(self, architecture: str) -> str:
        names = [name for name in self.names() if name in self._weights]
        trained = [name for name in names if read_card(self._path(name)).architecture == architecture]
        return f"trained on it are {', '.join(trained)}" if trained else "train it, and name the file that was written"

    def _builder(self, card: Card, source: str | Path) -> Callable[..., nn.Module]:
        if card.architecture not in self._builders:
            raise ModelError(
                f"{source}: its architecture {card.architecture!r}, of the task {card.task!r}, is unknown here; "
                f"{self._suggested(card.architecture)}"
            )
        return self._builders[card.architecture]

    def _refuse_taken(self, name: str) -> None:
        if name in self._builders or name in self._weights:
            raise ModelError(f"the name {name!r} is taken; give the model another")


def make_named(builders: Mapping[str, Callable[..., Network]], name: str, options: Mapping[str, Any]) -> Network:
    """A network with fresh weights from a table of what makes each.

    Args:
        builders: by the name of the architecture.
        name: one of them.
        options: keyword arguments.

    Raises:
        ArgumentError: an unknown name or option, or what the network refuses.
    """
    if name not in tuple(builders):  # a name may be anything, also what cannot be a key
        close = difflib.get_close_matches(str(name), builders, n=1)
        hint = f"did you mean {close[0]!r}? There are" if close else "choose one of"
        raise ArgumentError(f"network {name!r} is unknown; {hint} {', '.join(builders)}")
    try:
        return builders[name](**options)
    except TypeError as cause:
        raise ArgumentError(f"options {dict(options)} do not fit {name!r}: {cause}") from cause


def _from_json(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a card as Python has them: JSON knows no tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}


def _built(name: str, build: Callable[..., nn.Module], options: Mapping[str, Any]) -> nn.Module:
    try:
        return build(**options)
    except TypeError as cause:
        raise ArgumentError(f"{name} cannot be built with {', '.join(options) or 'no options'}: {cause}") from cause


def _filled(
    path: Path,
    architecture: str,
    build: Callable[..., nn.Module],
    options: Mapping[str, Any],
    weights: Mapping[str, Tensor],
) -> nn.Module:
    import torch

    from moesaic.shapes import as_shapes

    try:
        # a card that asks for too much is found before it gets it
        shapes = as_shapes(lambda: build(**options))
        forms = {name: _form(value) for name, value in shapes.state_dict().items()}
        wrong = sorted(forms.keys() ^ weights.keys()) or [n for n in forms if forms[n] != _form(weights[n])]
        if wrong:
            raise ModelError(
                f"{path}: its weights do not fit {architecture} as its card says to build it: {len(wrong)} of "
                f"{len(forms)} differ, the first is {wrong[0]}"
            )
        with torch.random.fork_rng(devices=[]):  # numbers that are replaced at once must not cost the caller's any
            network = build(**options)
        network.load_state_dict(dict(weights))
    except ModelError:
        raise
    except Exception as cause:  # a card may ask for anything
        reason = " ".join(str(cause).split()) or type(cause).__name__
        raise ModelError(f"{path}: {architecture} cannot be built as its card says: {reason}") from cause
    return network


def _form(value: Tensor) -> tuple[object, ...]:
    """Shape and type of a tensor; all floats are alike, as files hold halves of what networks compute in."""
    return (*value.shape, "float" if value.is_floating_point() else value.dtype)
