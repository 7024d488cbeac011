"""Kinds under names that are not theirs, so that an error can say which one was meant."""

from __future__ import annotations

from difflib import get_close_matches

from moesaic.degrade.ranges import KINDS

ALIASES: dict[str, tuple[str, ...]] = {
    "blur": ("motion_blur", "defocus"),
    "shake": ("motion_blur",),
    "focus": ("defocus",),
    "fog": ("haze",),
    "mist": ("haze",),
    "dark": ("low_light",),
    "night": ("low_light",),
    "gaussian": ("noise",),
    "film": ("grain",),
    "compression": ("jpeg",),
    "downscale": ("resize",),
    "mixed": ("composite",),
    "real": ("wild",),
}
"""What people call a kind, or several."""


def did_you_mean(
    name: object,  # of a kind that there is not
) -> str:
    """The end of an error's text: "; did you mean haze?", or nothing where no kind is close."""
    if not isinstance(name, str):
        return ""
    close = get_close_matches(name.lower(), [*KINDS, *ALIASES], n=2)
    meant = dict.fromkeys(kind for one in close for kind in ALIASES.get(one, (one,)))
    return f"; did you mean {' or '.join(meant)}?" if meant else ""
