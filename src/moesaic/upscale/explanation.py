"""A picture that explains an enlargement: before and after, how degraded the picture is, and which ranks act where."""

from __future__ import annotations

from collections.abc import Mapping
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
    SHEET,
    SMALL,
    TEXT,
    TRACK,
    WIDTH,
    draw_bar,
    draw_key,
    fitted,
    length,
    write,
)

_LEFT = 400  # px, the width of what was estimated; the rest is for the ranks
_ROW, _LINE = 38, 20  # px, the heights of a score and of a layer
_CELL = 20  # px, the widest that a slot is drawn
_MOST = 40  # layers; of more, as many are drawn, evenly spread


@dataclass(frozen=True, slots=True, kw_only=True)
class RanksUsed:
    """What one layer's mixture of ranks decided for a whole picture."""

    shared: int  # ranks that always act
    routed: int  # ranks that may
    zero: int  # slots that do nothing; the slots are numbered from the routed ranks on
    chosen: tuple[int, ...]  # slots that were
    probabilities: tuple[float, ...]  # of all slots; empty where nothing is routed

    @property
    def active(self) -> int:
        """Ranks that act."""
        return self.shared + sum(slot < self.routed for slot in self.chosen)

    @property
    def idle(self) -> int:
        """Choices that fell on slots that do nothing."""
        return sum(slot >= self.routed for slot in self.chosen)


def explanation(
    before: Picture,
    after: Picture,
    ranks: Mapping[str, RanksUsed],
    *,
    scores: Mapping[str, float],
    severity: float | None,
    model: str = "",
) -> Picture:
    """Before and after side by side above a panel that says how degraded the picture is, and which ranks act.

    The sheet is 1200 px wide, in 8 bits and colour. What is transparent lies on white.

    Args:
        before: the picture as it came; it is shown as large as what was made of it.
        after: as it was enlarged.
        ranks: by layer, in the order in which they are shown; empty for a network without ranks.
        scores: how degraded the picture is, by name, in [0, 1].
        severity: all of it in one number; None for a network without ranks.
        model: its name.
    """
    right = fitted(after)
    left = fitted(before).resize(right.size, Image.Resampling.NEAREST)
    panel = MARGIN + HEAD + GAP + right.height + GAP
    names = _spread(list(ranks))
    rows = max((len(scores) + 1) * _ROW + SMALL, len(names) * _LINE + SMALL + GAP, _ROW)
    image = Image.new("RGB", (WIDTH, panel + HEAD + 2 * GAP + rows + GAP), SHEET)
    draw = ImageDraw.Draw(image)
    half = (WIDTH - 2 * MARGIN - GAP) // 2
    for x, title, picture in ((MARGIN, "Before", left), (MARGIN + half + GAP, "After", right)):
        write(draw, (x, MARGIN), title, HEAD)
        image.paste(picture, (x, MARGIN + HEAD + GAP // 2))
    _draw_scores(draw, panel, scores, severity)
    _draw_ranks(draw, panel, {name: ranks[name] for name in names}, len(ranks))
    if model:
        write(draw, (WIDTH - MARGIN, MARGIN + 5), model, TEXT, MUTED, "ra")
    pixels = np.asarray(image, np.float32) / np.float32(255)
    return Picture(pixels=pixels, icc=before.icc if before.channels >= 3 else None)


def _draw_scores(draw: ImageDraw.ImageDraw, top: int, scores: Mapping[str, float], severity: float | None) -> None:
    """A bar for the severity, and one for each score."""
    write(draw, (MARGIN, top), "How degraded it is", HEAD)
    top += HEAD + GAP
    if severity is None:
        write(draw, (MARGIN, top), "This network looks for no damage.", TEXT, MUTED)
        return
    rows = [("severity", severity, INK), *((name, score, BLUE) for name, score in scores.items())]
    wide = 20 + max(length(name, TEXT) for name, _, _ in rows)
    for name, score, colour in rows:
        write(draw, (MARGIN, top), name, TEXT)
        draw_bar(draw, (MARGIN + wide, top + 6, MARGIN + _LEFT - 60, top + 18), score, colour)
        write(draw, (MARGIN + _LEFT, top), f"{score:.2f}", TEXT, INK, "ra")
        top += _ROW


def _draw_ranks(draw: ImageDraw.ImageDraw, top: int, ranks: Mapping[str, RanksUsed], total: int) -> None:
    """For each layer a row of its ranks and empty slots, with those that act filled."""
    start, end = MARGIN + _LEFT + 2 * GAP, WIDTH - MARGIN
    active = sum(used.active for used in ranks.values())
    acts = "" if not ranks else f": {active}" if active else ": none, the base alone"
    write(draw, (start, top), f"Which ranks act{acts}", HEAD)
    top += HEAD + GAP // 2
    if not ranks:
        write(draw, (start, top + GAP // 2), "This network has no ranks.", TEXT, MUTED)
        return
    told = "" if len(ranks) == total else f" ({len(ranks)} of {total} layers)"
    keys = [(GREY, "always on")] if any(used.shared for used in ranks.values()) else []
    draw_key(draw, (start, top), [*keys, (BLUE, "chosen"), (ORANGE, f"chosen empty slot, does nothing{told}")])
    top += SMALL + GAP // 2
    name_wide = 16 + max(length(name, SMALL) for name in ranks)
    count_wide = 16 + length("000", SMALL)
    most = max(used.shared + used.routed + used.zero for used in ranks.values())
    cell = min(_CELL, max(2, (end - start - name_wide - count_wide) // most))
    gap = 2 if cell > 4 else 0
    for name, used in ranks.items():
        write(draw, (start, top), name, SMALL, MUTED)
        for place in range(used.shared + used.routed + used.zero):
            slot = place - used.shared
            colour = GREY if slot < 0 else TRACK
            if slot in used.chosen:
                colour = BLUE if slot < used.routed else ORANGE
            x = start + name_wide + place * cell
            draw.rectangle((x, top + 2, x + cell - 1 - gap, top + _LINE - 5), fill=colour)
        write(draw, (end, top), str(used.active), SMALL, INK, "ra")
        top += _LINE


def _spread(names: list[str]) -> list[str]:
    """At most `_MOST` of them, evenly spread."""
    if len(names) <= _MOST:
        return names
    return [names[round(place * (len(names) - 1) / (_MOST - 1))] for place in range(_MOST)]
