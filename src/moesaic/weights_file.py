"""A trained network as one file: its weights, and a card that says what they are and how to build what takes them.

The file is safetensors: numbers and names, nothing that runs. Its metadata hold the card as JSON under "moesaic", so
the file alone is enough; a copy of the card stands beside it for people (`model.safetensors`, `model.json`).
"""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from moesaic import __version__
from moesaic.errors import LimitError, ModelError
from moesaic.files import atomic_write, refuse_existing
from moesaic.values import is_a

if TYPE_CHECKING:
    import os

    from torch import Tensor

_Model = TypeVar("_Model")

_KEY = "moesaic"  # of the metadata
_HALF_MAX = 65504.0  # the largest float16
_DEEPEST = 32  # tables within tables that a card may hold
_LONGEST = 2**14  # px, of a side of the training pictures
_MOST_CLASSES = 256
_LINE = 1000  # characters of a name


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightLimits:
    """The largest sizes that a reader of weights accepts; raise a field to accept more."""

    file_bytes: int = 2**31
    header_bytes: int = 2**22  # names, shapes and the card
    tensors: int = 2**16


DEFAULT_LIMITS = WeightLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What is to be known of a set of weights."""

    name: str  # of these weights; the architecture has a name of its own
    architecture: str  # what builds the network, by its name in the registry
    task: str  # "segment"
    options: Mapping[str, Any] = field(default_factory=dict)  # keyword arguments that build it; plain JSON values
    licence: str = "NOASSERTION"  # SPDX id of the weights; the code's licence is another matter
    data: str = ""  # what they were trained on, and its licence
    recipe: Mapping[str, Any] = field(default_factory=dict)  # everything that defined the training run
    classes: tuple[str, ...] = ()  # names, in the order of the outputs
    colours: tuple[tuple[int, int, int], ...] = ()  # sRGB of each class, 0 to 255
    size: tuple[int, int] | None = None  # height and width of the training pictures, px
    multiple_of: int = 1  # px; tiles have sides that are multiples of this
    parameters: int = 0  # how many numbers were learned
    scores: Mapping[str, float] = field(default_factory=dict)  # what was measured; the name says on what
    notes: str = ""
    version: str = __version__  # of the moesaic that wrote the file
    sha256: str = ""  # of the card without this line, and of every tensor's name, type, shape and values

    def to_json(self) -> str:
        """The card as JSON text, indented for people."""
        return json.dumps(asdict(self), indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, *, source: str = "the card") -> Card:
        """A card from JSON text; lines that this moesaic does not know are left out.

        Args:
            text: what `to_json` wrote.
            source: what to call the card in an error.

        Raises:
            ModelError: it is no card.
        """
        try:
            held = json.loads(text, parse_constant=_refuse)
        except (ValueError, RecursionError) as cause:
            raise ModelError(f"{source}: the card is no JSON: {cause}") from None
        if not isinstance(held, dict):
            raise ModelError(f"{source}: the card is a JSON object, not {type(held).__name__}")
        known: dict[str, Any] = {}
        for line in fields(cls):
            if line.name in held:
                known[line.name] = _read_line(line.name, held[line.name], source)
        if missing := {"name", "architecture", "task"} - known.keys():
            raise ModelError(f"{source}: the card lacks {', '.join(sorted(missing))}")
        return cls(**known)


def write_weights(
    path: str | os.PathLike[str], weights: Mapping[str, Tensor], card: Card, *, force: bool = False
) -> Card:
    """Write `weights` and `card` into one safetensors file, and the card once more as JSON beside it.

    Kernels and matrices are stored as float16, except where a value would overflow; vectors (biases, the statistics of
    norms) stay float32, integers as they are.

    Args:
        path: where; the name ends in `.safetensors`.
        weights: a network's `state_dict()`.
        card: what to say of them; its version and hash are filled in.
        force: replace files that are there.

    Returns:
        The card as written.

    Raises:
        ModelError: the name has another suffix, an entry is no tensor, a weight is not finite, or the card holds what
            JSON has no form for.
        OutputExistsError: a file is there and `force` is False.
        ArgumentError: the path cannot be written.
    """
    import safetensors.torch

    place = Path(path)
    if place.suffix != ".safetensors":
        raise ModelError(f"{place}: weights are written to a file whose name ends in .safetensors")
    for wanted in (place, place.with_suffix(".json")):
        refuse_existing(wanted, force=force)
    stored = {name: _stored(name, value) for name, value in weights.items()}
    try:  # what will be read is what is hashed: lists for tuples, and so on
        card = Card.from_json(replace(card, version=__version__, sha256="").to_json())
    except (TypeError, ValueError) as cause:
        raise ModelError(f"the card holds what JSON has no form for: {cause}") from None
    card = replace(card, sha256=_digest(card, stored))
    metadata = {_KEY: json.dumps(asdict(card), allow_nan=False)}
    atomic_write(place, safetensors.torch.save(stored, metadata), force=force)
    atomic_write(place.with_suffix(".json"), card.to_json().encode(), force=force)
    return card


def read_card(path: str | os.PathLike[str], *, limits: WeightLimits = DEFAULT_LIMITS) -> Card:
    """The card of a weights file; no weight is read.

    Raises:
        ModelError: there is no such file, or it is no weights file of moesaic.
        LimitError: its header is larger than `limits` allows.
    """
    place = _place(path)
    try:
        size = _size(place)
        with place.open("rb") as file:
            length = _header_length(file.read(8), size, place, limits)
            return _card_of(file.read(length), place, limits)
    except (OSError, ValueError) as cause:
        raise ModelError(f"{place}: cannot be read: {getattr(cause, 'strerror', None) or cause}") from cause


def read_weights(
    path: str | os.PathLike[str], *, limits: WeightLimits = DEFAULT_LIMITS
) -> tuple[dict[str, Tensor], Card]:
    """The weights, floats as float32, and their card, after the hash in the card has been checked.

    Args:
        path: a file that `write_weights` wrote.
        limits: the largest sizes to accept.

    Raises:
        ModelError: there is no such file, it is no weights file of moesaic, it is damaged, or a weight is not finite.
        LimitError: it is larger than `limits` allows.
    """
    import safetensors
    import safetensors.torch

    place = _place(path)
    try:
        size = _size(place)
        if size > limits.file_bytes:
            raise _beyond(place, "bytes", size, "file_bytes", limits)
        data = place.read_bytes()
    except (OSError, ValueError) as cause:
        raise ModelError(f"{place}: cannot be read: {getattr(cause, 'strerror', None) or cause}") from cause
    length = _header_length(data[:8], len(data), place, limits)
    card = _card_of(data[8 : 8 + length], place, limits)
    try:
        stored = safetensors.torch.load(data)
    except (safetensors.SafetensorError, KeyError, ValueError) as cause:  # KeyError: a type that torch lacks
        raise ModelError(f"{place}: the weights are damaged: {cause}") from None
    if _digest(replace(card, sha256=""), stored) != card.sha256:
        raise ModelError(f"{place}: the weights are damaged: they are not those that the card's sha256 was made of")
    weights = {name: value.float() if value.is_floating_point() else value for name, value in stored.items()}
    for name, value in weights.items():
        if not bool(value.isfinite().all()):
            raise ModelError(f"{place}: the weight {name} is not finite; nothing computed with it would mean a thing")
    return weights, card


def with_card(model: _Model, card: Card) -> _Model:
    """The same model, which now carries `card`; what `card_of` finds."""
    vars(model)["card"] = card  # past nn.Module's own way of setting, which is for tensors and modules
    return model


def card_of(model: object) -> Card | None:
    """The card that a model carries; None for one that was not loaded from a file."""
    card = getattr(model, "card", None)
    return card if isinstance(card, Card) else None


def _place(path: str | os.PathLike[str]) -> Path:
    try:
        return Path(path)
    except TypeError:
        raise ModelError(f"weights are read from a path, not from {type(path).__name__}") from None


def _size(place: Path) -> int:
    """Bytes of a file; a pipe or a device would never end.

    Raises:
        OSError: there is no such file, or it is none.
    """
    held = place.stat()
    if not stat.S_ISREG(held.st_mode):
        raise OSError(None, "it is a folder" if stat.S_ISDIR(held.st_mode) else "it is a pipe or a device")
    return held.st_size


def _stored(name: str, value: Any) -> Tensor:
    import torch

    if not is_a(name, str) or name == "__metadata__":
        raise ModelError(f"{name!r} cannot be the name of a weight; names are texts other than '__metadata__'")
    if not isinstance(value, torch.Tensor):
        raise ModelError(f"{name}: weights are tensors, not {type(value).__name__}")
    if value.is_complex() or value.is_meta or value.layout != torch.strided:
        raise ModelError(f"{name}: weights are dense real numbers, not {value.dtype} ({value.layout}, {value.device})")
    tensor = value.detach().cpu()
    if tensor.is_floating_point():
        if not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{name}: a weight is not finite; a network like this is not worth keeping")
        kernel = sum(side > 1 for side in tensor.shape) > 1  # a vector may be shaped (1, C, 1, 1)
        fits = kernel and bool((tensor.abs() <= _HALF_MAX).all())
        tensor = tensor.to(torch.float16 if fits else torch.float32)
    return tensor.clone(memory_format=torch.contiguous_format)


def _digest(card: Card, stored: Mapping[str, Tensor]) -> str:
    import torch

    digest = hashlib.sha256(json.dumps(asdict(card), sort_keys=True, allow_nan=False).encode())
    for name in sorted(stored):
        tensor = stored[name]
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _header_length(first: bytes, size: int, place: Path, limits: WeightLimits) -> int:
    length = int.from_bytes(first, "little")
    if len(first) < 8 or not 2 <= length <= size - 8:
        raise ModelError(f"{place}: this is no safetensors file, or it was cut off")
    if length > limits.header_bytes:
        raise _beyond(place, "bytes of header", length, "header_bytes", limits)
    return length


def _beyond(place: Path, what: str, value: int, name: str, limits: WeightLimits) -> LimitError:
    limit = getattr(limits, name)
    return LimitError(f"{place}: {value} {what}, the limit is {limit}: pass WeightLimits({name}=...) to accept more")


def _card_of(header: bytes, place: Path, limits: WeightLimits) -> Card:
    try:
        held = json.loads(header)
    except (ValueError, RecursionError):
        raise ModelError(f"{place}: the header is damaged, or this is no safetensors file") from None
    metadata = held.get("__metadata__") if isinstance(held, dict) else None
    text = metadata.get(_KEY) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise ModelError(f"{place}: these weights carry no card; moesaic reads what write_weights wrote")
    if len(held) > limits.tensors:
        raise _beyond(place, "tensors", len(held), "tensors", limits)
    return Card.from_json(text, source=str(place))


def _read_line(name: str, value: Any, source: str) -> Any:
    """One line of a card as its field has it."""
    if name in ("options", "recipe", "scores"):
        right = isinstance(value, dict) and _depth(value) <= _DEEPEST
    elif name == "classes":
        right = isinstance(value, list) and len(value) <= _MOST_CLASSES
        right = right and all(isinstance(one, str) and len(one) <= _LINE for one in value)
        value = tuple(value) if right else value
    elif name == "colours":
        right = isinstance(value, list) and len(value) <= _MOST_CLASSES
        right = right and all(_are_integers(one, 3, 0, 255) for one in value)
        value = tuple(tuple(one) for one in value) if right else value
    elif name == "size":
        right = value is None or _are_integers(value, 2, 1, _LONGEST)
        value = tuple(value) if right and value is not None else value
    elif name in ("multiple_of", "parameters"):
        right = _are_integers([value], 1, int(name == "multiple_of"), 2**50)
    else:
        right = isinstance(value, str) and (len(value) <= _LINE or name in ("data", "notes"))
    if name == "scores" and right:
        right = all(isinstance(one, int | float) and -1e300 < one < 1e300 for one in value.values())
    if not right:
        raise ModelError(f"{source}: the card's {name} is of another form than moesaic {__version__} writes")
    return value


def _depth(value: Any) -> int:
    """How many tables and lists lie within each other, found without as many calls."""
    deep, layer = 0, [value]
    while layer := [one for one in layer if isinstance(one, dict | list)]:
        deep += 1
        layer = [inner for one in layer for inner in (one.values() if isinstance(one, dict) else one)]
    return deep


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is no number")  # Python's JSON would take NaN and infinity


def _are_integers(values: Any, count: int, low: int, high: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == count
        and all(isinstance(one, int) and not isinstance(one, bool) and low <= one <= high for one in values)
    )
