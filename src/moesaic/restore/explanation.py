"""A picture that explains a restoration: before and after, what was found, who was chosen, and what that cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from moesaic.picture import Picture
from moesaic.sheet import (
    BLUE,
    GAP,
    GREY,
    HEAD,
    INK,
    MARGIN,
    MUTED,
    ORANGE,
    PALE,
    SHEET,
    SMALL,
    TEXT,
    TRACK,
    WIDTH,
    draw_bar,
    draw_key,
    fitted,
    length,
    percent,
    write,
)

FOUND = 0.5
"""The probability above which a degradation counts as found."""

_LEFT = 424  # px, the width of what was found; the rest is for the experts
_ROW, _CELL, _LINE = 38, 60, 24  # px, the heights of a degradation, of an expert, and of its line on compute

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


def found_in_words(detected: Mapping[str, float]) -> str:
    """The degradations that count as found, the most likely first: "rain 97%, JPEG 61%", or "no damage found".

    Args:
        detected: the probability of each; empty where the network names none, and then the text is, too.
    """
    likely = sorted(detected.items(), key=lambda item: -item[1])
    found = [f"{spoken(label)} {percent(probability)}" for label, probability in likely if probability > FOUND]
    return ", ".join(found) or ("no damage found" if detected else "")


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
    left, right = fitted(before), fitted(after)
    high = max(left.height, right.height)
    panel = MARGIN + HEAD + GAP + high + GAP
    labels = max(1, len(detected)) * _ROW
    experts = len(choices) * (_cell(choices) + SMALL + 6 + GAP)
    below = panel + HEAD + SMALL + 2 * GAP + max(labels, experts)
    sheet = Image.new("RGB", (WIDTH, below + HEAD + 3 * GAP + SMALL), SHEET)
    draw = ImageDraw.Draw(sheet)
    half = (WIDTH - 2 * MARGIN - GAP) // 2
    for x, title, picture in ((MARGIN, "Before", left), (MARGIN + half + GAP, "After", right)):
        write(draw, (x, MARGIN), title, HEAD)
        sheet.paste(picture, (x, MARGIN + HEAD + GAP // 2))
    _draw_found(draw, panel, detected, severity)
    _draw_choices(draw, panel, choices)
    _draw_cost(draw, below, choices, cost, model)
    pixels = np.asarray(sheet, np.float32) / np.float32(255)
    return Picture(pixels=pixels, icc=before.icc if before.channels >= 3 else None)


def _draw_found(
    draw: ImageDraw.ImageDraw, top: int, detected: Mapping[str, float], severity: Mapping[str, float]
) -> None:
    """A row for each degradation: its probability, and below it how strong it is where it was found."""
    write(draw, (MARGIN, top), "What was found", HEAD)
    top += HEAD + GAP // 2
    if not detected:
        write(draw, (MARGIN, top), "This network names no degradations.", TEXT, MUTED)
        return
    draw_key(draw, (MARGIN, top), [(BLUE, "probability"), (ORANGE, "severity, where found")])
    top += SMALL + GAP
    name = 20 + max(length(spoken(label), TEXT) for label in detected)
    number = 62
    for label, probability in detected.items():
        found = probability > FOUND
        write(draw, (MARGIN, top + 1), spoken(label), TEXT, INK if found else MUTED)
        box = (MARGIN + name, top + 4, MARGIN + _LEFT - number, top + 16)
        draw_bar(draw, box, probability, BLUE if found else GREY)
        write(draw, (MARGIN + _LEFT, top + 1), percent(probability), TEXT, INK if found else MUTED, "ra")
        if found and label in severity:
            draw_bar(draw, (box[0], top + 19, box[2], top + 25), severity[label], ORANGE)
        top += _ROW


def _draw_choices(draw: ImageDraw.ImageDraw, top: int, choices: Sequence[Choice]) -> None:
    """For each routed layer a row of its experts, with the chosen one lifted out."""
    start, end = MARGIN + _LEFT + 2 * GAP, WIDTH - MARGIN
    write(draw, (start, top), "Who was chosen", HEAD)
    top += HEAD + GAP // 2
    costs = any(choice.costs for choice in choices)
    draw_key(
        draw, (start, top), [(BLUE, "probability"), *([(ORANGE, "compute, of the dearest decoder")] if costs else [])]
    )
    top += SMALL + GAP
    dearest = max((cost for choice in choices for cost in choice.costs), default=0.0)
    high = _cell(choices)
    for choice in choices:
        count = len(choice.probabilities)
        write(draw, (start, top), f"{choice.title}: expert {choice.chosen} of 0 to {count - 1}", SMALL, MUTED)
        top += SMALL + 6
        wide = (end - start - 8 * (count - 1)) // count
        for expert in range(count):
            left = start + expert * (wide + 8)
            _draw_expert(draw, (left, top, left + wide, top + high), choice, expert, dearest)
        top += high + GAP


def _cell(choices: Sequence[Choice]) -> int:
    """Height of an expert, px."""
    return _CELL + (_LINE if any(choice.costs for choice in choices) else 0)


def _draw_expert(
    draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], choice: Choice, expert: int, dearest: float
) -> None:
    left, top, right, _ = box
    acts = expert == choice.chosen
    draw.rounded_rectangle(box, 8, fill=PALE if acts else SHEET, outline=BLUE if acts else TRACK, width=2)
    ink, inner = INK if acts else MUTED, 10
    name = f"expert {expert}" if right - left > 90 else str(expert)
    write(draw, (left + inner, top + 8), name, SMALL, ink)
    rows = [(choice.probabilities[expert], choice.probabilities[expert], BLUE if acts else GREY)]
    if choice.costs:
        share = choice.costs[expert]
        rows.append((share / dearest if dearest else 0.0, share, ORANGE))
    for number, (filled, value, colour) in enumerate(rows):
        y = top + 32 + _LINE * number
        told = percent(value)
        room = length("100%", SMALL) + 6
        draw_bar(draw, (left + inner, y + 5, right - inner - room, y + 13), filled, colour)
        write(draw, (right - inner, y), told, SMALL, ink, "ra")


def _draw_cost(draw: ImageDraw.ImageDraw, top: int, choices: Sequence[Choice], cost: float, model: str) -> None:
    """What was spent of the dearest decoder: the part that always runs, then the experts'."""
    write(draw, (MARGIN, top), f"Compute: {percent(cost)} of the dearest decoder", HEAD)
    if model:
        write(draw, (WIDTH - MARGIN, top + 5), model, TEXT, MUTED, "ra")
    top += HEAD + GAP // 2
    experts = sum(choice.costs[choice.chosen] for choice in choices if choice.costs)
    box = (MARGIN, top, WIDTH - MARGIN, top + 16)
    draw_bar(draw, box, cost, ORANGE)
    if any(choice.costs for choice in choices):
        draw_bar(draw, box, cost - experts, GREY, track=None)
        draw_key(draw, (MARGIN, top + 16 + 10), [(GREY, "what runs whoever is chosen"), (ORANGE, "the chosen experts")])
