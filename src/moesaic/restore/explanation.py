"""A picture that explains a restoration: before and after, what was found, who was chosen, and what that cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from moesaic.picture import Picture

FOUND = 0.5
"""The probability above which a degradation counts as found."""

WIDTH = 1200  # px, of the sheet
_MARGIN, _GAP = 32, 24
_HIGHEST = 640  # px, of each of the two pictures
_LARGEST = 8  # times that small pictures are enlarged
_LEFT = 424  # px, the width of what was found; the rest is for the experts
_ROW, _CELL, _LINE = 38, 60, 24  # px, the heights of a degradation, of an expert, and of its line on compute
_HEAD, _TEXT, _SMALL = 25, 20, 16  # px, of letters

_Colour = tuple[int, int, int]

_SHEET, _INK, _MUTED, _TRACK = (255, 255, 255), (33, 37, 43), (110, 116, 126), (230, 233, 238)
_BLUE, _ORANGE, _PALE, _GREY = (0, 114, 178), (222, 128, 16), (231, 242, 250), (158, 164, 174)
_SPOKEN = {"jpeg": "JPEG", "low_light": "low light", "resize": "low resolution"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What one routed layer decided for a whole picture.

    Args:
        layer: its name.
        title: its name for people.
        chosen: the expert that acts.
        probabilities: of all experts; they sum to 1.
        costs: of all experts, as shares of the dearest decoder; empty where the network does not say.
    """

    layer: str
    title: str
    chosen: int
    probabilities: tuple[float, ...]
    costs: tuple[float, ...] = ()


def spoken(label: str) -> str:
    """The name of a degradation for people: "low light" for "low_light"."""
    return _SPOKEN.get(label, label.replace("_", " "))


def explanation(
    before: Picture,
    after: Picture,
    choices: Sequence[Choice],
    *,
    detected: Mapping[str, float],
    severity: Mapping[str, float],
    cost: float,
    model: str = "",
) -> Picture:
    """Before and after side by side above a panel that says what was found, who was chosen, and what that cost.

    The sheet is 1200 px wide, in 8 bits and colour. The pictures on it are made smaller where they do not fit, and
    those much smaller than their place are enlarged to show their pixels. What is transparent lies on white.

    Args:
        before: the picture as it came.
        after: as it was restored.
        choices: of the routed layers, in the order in which they are shown.
        detected: the probability of each degradation; empty where the network does not say.
        severity: how strong each is, in [0, 1]; shown for those found.
        cost: share of the dearest decoder that was spent.
        model: its name.
    """
    left, right = _shown(before), _shown(after)
    high = max(left.height, right.height)
    panel = _MARGIN + _HEAD + _GAP + high + _GAP
    labels = max(1, len(detected)) * _ROW
    experts = len(choices) * (_cell(choices) + _SMALL + 6 + _GAP)
    below = panel + _HEAD + _SMALL + 2 * _GAP + max(labels, experts)
    sheet = Image.new("RGB", (WIDTH, below + _HEAD + 3 * _GAP + _SMALL), _SHEET)
    draw = ImageDraw.Draw(sheet)
    half = (WIDTH - 2 * _MARGIN - _GAP) // 2
    for x, title, picture in ((_MARGIN, "Before", left), (_MARGIN + half + _GAP, "After", right)):
        _write(draw, (x, _MARGIN), title, _HEAD)
        sheet.paste(picture, (x, _MARGIN + _HEAD + _GAP // 2))
    _draw_found(draw, panel, detected, severity)
    _draw_choices(draw, panel, choices)
    _draw_cost(draw, below, choices, cost, model)
    pixels = np.asarray(sheet, np.float32) / np.float32(255)
    return Picture(pixels=pixels, icc=before.icc if before.channels >= 3 else None)


def _shown(picture: Picture) -> Image.Image:
    """The picture as it fits its place on the sheet."""
    wide, high = (WIDTH - 2 * _MARGIN - _GAP) // 2, _HIGHEST
    scale = min(wide / picture.width, high / picture.height)
    size = tuple(max(1, int(side * min(scale, 1))) for side in (picture.width, picture.height))
    step = max(1, int(0.5 / scale))  # of a large picture no more is converted than can be seen
    pixels = Picture(pixels=picture.pixels[::step, ::step]).over(1.0).pixels
    bytes_ = np.rint(pixels * np.float32(255)).astype(np.uint8)
    image = Image.fromarray(bytes_[..., 0] if bytes_.shape[2] == 1 else bytes_).convert("RGB")
    if scale < 1:
        return image.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    times = min(_LARGEST, int(scale))
    return image.resize((times * image.width, times * image.height), Image.Resampling.NEAREST)


def _draw_found(
    draw: ImageDraw.ImageDraw, top: int, detected: Mapping[str, float], severity: Mapping[str, float]
) -> None:
    """A row for each degradation: its probability, and below it how strong it is where it was found."""
    _write(draw, (_MARGIN, top), "What was found", _HEAD)
    top += _HEAD + _GAP // 2
    if not detected:
        _write(draw, (_MARGIN, top), "This network names no degradations.", _TEXT, _MUTED)
        return
    _key(draw, (_MARGIN, top), [(_BLUE, "probability"), (_ORANGE, "severity, where found")])
    top += _SMALL + _GAP
    name = 20 + max(_length(spoken(label), _TEXT) for label in detected)
    number = 62
    for label, probability in detected.items():
        found = probability > FOUND
        _write(draw, (_MARGIN, top + 1), spoken(label), _TEXT, _INK if found else _MUTED)
        box = (_MARGIN + name, top + 4, _MARGIN + _LEFT - number, top + 16)
        _bar(draw, box, probability, _BLUE if found else _GREY)
        _write(draw, (_MARGIN + _LEFT, top + 1), _percent(probability), _TEXT, _INK if found else _MUTED, "ra")
        if found and label in severity:
            _bar(draw, (box[0], top + 19, box[2], top + 25), severity[label], _ORANGE)
        top += _ROW


def _draw_choices(draw: ImageDraw.ImageDraw, top: int, choices: Sequence[Choice]) -> None:
    """For each routed layer a row of its experts, with the chosen one lifted out."""
    start, end = _MARGIN + _LEFT + 2 * _GAP, WIDTH - _MARGIN
    _write(draw, (start, top), "Who was chosen", _HEAD)
    top += _HEAD + _GAP // 2
    costs = any(choice.costs for choice in choices)
    _key(
        draw, (start, top), [(_BLUE, "probability"), *([(_ORANGE, "compute, of the dearest decoder")] if costs else [])]
    )
    top += _SMALL + _GAP
    dearest = max((cost for choice in choices for cost in choice.costs), default=0.0)
    high = _cell(choices)
    for choice in choices:
        count = len(choice.probabilities)
        _write(draw, (start, top), f"{choice.title}: expert {choice.chosen} of 0 to {count - 1}", _SMALL, _MUTED)
        top += _SMALL + 6
        wide = (end - start - 8 * (count - 1)) // count
        for expert in range(count):
            left = start + expert * (wide + 8)
            _draw_expert(draw, (left, top, left + wide, top + high), choice, expert, dearest)
        top += high + _GAP


def _cell(choices: Sequence[Choice]) -> int:
    """Height of an expert, px."""
    return _CELL + (_LINE if any(choice.costs for choice in choices) else 0)


def _draw_expert(
    draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], choice: Choice, expert: int, dearest: float
) -> None:
    left, top, right, _ = box
    acts = expert == choice.chosen
    draw.rounded_rectangle(box, 8, fill=_PALE if acts else _SHEET, outline=_BLUE if acts else _TRACK, width=2)
    ink, inner = _INK if acts else _MUTED, 10
    name = f"expert {expert}" if right - left > 90 else str(expert)
    _write(draw, (left + inner, top + 8), name, _SMALL, ink)
    rows = [(choice.probabilities[expert], choice.probabilities[expert], _BLUE if acts else _GREY)]
    if choice.costs:
        share = choice.costs[expert]
        rows.append((share / dearest if dearest else 0.0, share, _ORANGE))
    for number, (filled, value, colour) in enumerate(rows):
        y = top + 32 + _LINE * number
        told = _percent(value)
        room = _length("100%", _SMALL) + 6
        _bar(draw, (left + inner, y + 5, right - inner - room, y + 13), filled, colour)
        _write(draw, (right - inner, y), told, _SMALL, ink, "ra")


def _draw_cost(draw: ImageDraw.ImageDraw, top: int, choices: Sequence[Choice], cost: float, model: str) -> None:
    """What was spent of the dearest decoder: the part that always runs, then the experts'."""
    _write(draw, (_MARGIN, top), f"Compute: {_percent(cost)} of the dearest decoder", _HEAD)
    if model:
        _write(draw, (WIDTH - _MARGIN, top + 5), model, _TEXT, _MUTED, "ra")
    top += _HEAD + _GAP // 2
    experts = sum(choice.costs[choice.chosen] for choice in choices if choice.costs)
    box = (_MARGIN, top, WIDTH - _MARGIN, top + 16)
    _bar(draw, box, cost, _ORANGE)
    if any(choice.costs for choice in choices):
        _bar(draw, box, cost - experts, _GREY, track=None)
        _key(draw, (_MARGIN, top + 16 + 10), [(_GREY, "what runs whoever is chosen"), (_ORANGE, "the chosen experts")])


def _bar(
    draw: ImageDraw.ImageDraw,
    box: tuple[int, int, int, int],
    share: float,
    colour: _Colour,
    *,
    track: _Colour | None = _TRACK,
) -> None:
    """A bar that is filled by a share of its length."""
    left, top, right, bottom = box
    if track is not None:
        draw.rounded_rectangle(box, 3, fill=track)
    length = round((right - left) * min(max(share, 0.0), 1.0))
    if length:
        draw.rounded_rectangle((left, top, left + length, bottom), min(3, length // 2), fill=colour)


def _key(draw: ImageDraw.ImageDraw, place: tuple[int, int], entries: Sequence[tuple[_Colour, str]]) -> None:
    """What the colours of the bars mean."""
    x, y = place
    for colour, text in entries:
        draw.rounded_rectangle((x, y + 3, x + 12, y + 15), 3, fill=colour)
        _write(draw, (x + 20, y), text, _SMALL, _MUTED)
        x += 20 + _length(text, _SMALL) + _GAP


def _write(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    size: int,
    colour: _Colour = _INK,
    anchor: str = "la",
) -> None:
    draw.text(place, text, fill=colour, font=ImageFont.load_default(size), anchor=anchor)


def _length(text: str, size: int) -> int:
    return int(np.ceil(ImageFont.load_default(size).getlength(text)))


def _percent(share: float) -> str:
    return "<1%" if 0 < share < 0.005 else f"{share:.0%}"
