"""What the page can do: each verb with its options, from which the page is built and by which jobs are checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from moesaic.app.limits import MEGAPIXEL
from moesaic.errors import ArgumentError

Value = str | float | int | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One choice that a verb leaves to people."""

    name: str
    label: str
    help: str
    kind: Literal["choice", "number", "integer", "flag"]
    default: Value
    choices: tuple[tuple[str, str], ...] = ()  # values and labels
    least: float = -math.inf
    most: float = math.inf
    step: float = 1

    def told(self) -> dict[str, Any]:
        """As the page is told of it."""
        told: dict[str, Any] = {
            "name": self.name,
            "label": self.label,
            "help": self.help,
            "kind": self.kind,
            "default": self.default,
        }
        if self.kind == "choice":
            told["choices"] = [{"value": value, "label": label} for value, label in self.choices]
        elif self.kind != "flag":
            told |= {"least": self.least, "most": self.most, "step": self.step}
        return told

    def checked(self, value: Any) -> Value:
        """The value, of the right type and within its bounds.

        Raises:
            ArgumentError: it is not.
        """
        if self.kind == "flag":
            if isinstance(value, bool):
                return value
            raise ArgumentError(f"{self.label} is on or off.")
        if self.kind == "choice":
            if isinstance(value, str) and value in (known for known, _ in self.choices):
                return value
            raise ArgumentError(f"{self.label} is one of: {', '.join(known for known, _ in self.choices)}.")
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not self.least <= value <= self.most or (self.kind == "integer" and value != int(value)):
            what = "a whole number" if self.kind == "integer" else "a number"
            raise ArgumentError(f"{self.label} is {what} from {self.least:g} to {self.most:g}.")
        return int(value) if self.kind == "integer" else float(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """One thing that can be done to a picture."""

    name: str
    label: str
    help: str
    accepts: tuple[Literal["picture", "moe"], ...] = ("picture",)
    makes: Literal["picture", "moe", "labels"]
    options: tuple[Option, ...] = ()
    most_in: int  # px, of the input as it is worked on
    most_out: int = 100 * MEGAPIXEL  # px, of what comes out
    views: tuple[str, ...] = ("before", "after")
    grows: str | None = None  # the option that says how many times as wide the output is

    def told(self) -> dict[str, Any]:
        """As the page is told of it."""
        return {
            "name": self.name,
            "label": self.label,
            "help": self.help,
            "accepts": list(self.accepts),
            "makes": self.makes,
            "pixels": self.most_in,
            "options": [option.told() for option in self.options],
        }

    def checked(self, options: Any) -> dict[str, Value]:
        """All options with their values, the defaults where none was given.

        Raises:
            ArgumentError: one is unknown or outside its bounds.
        """
        if not isinstance(options, Mapping):
            raise ArgumentError("The options are an object of names and values; reload the page and try again.")
        known = {option.name: option for option in self.options}
        for name in options:
            if name not in known:
                raise ArgumentError(f"{self.label!r} has no option {str(name)[:40]!r}; reload the page and try again.")
        return {
            name: option.checked(options[name]) if name in options else option.default for name, option in known.items()
        }

    def refuse_size(self, width: int, height: int, options: Mapping[str, Value]) -> None:
        """Refuse pictures that would take more memory or time than a server has for one person.

        Args:
            width: of the picture, px, as it came.
            height: of the picture, px.
            options: as `checked` gives them.

        Raises:
            ArgumentError: the picture is too large, in a sentence that says what to do.
        """
        wide, high = shrunk(width, height, options)
        if wide * high > self.most_in:
            raise ArgumentError(
                f"This picture has {_millions(wide * high)} megapixels, and {self.label!r} takes at most"
                f" {_millions(self.most_in)} here. Choose a smaller size under 'Make it smaller first'."
            )
        factor = float(options[self.grows]) if self.grows else 1.0
        if wide * high * factor * factor > self.most_out:
            raise ArgumentError(
                f"The result would have {_millions(wide * high * factor * factor)} megapixels, and"
                f" {_millions(self.most_out)} are the most here. Enlarge it less, or make it smaller first."
            )


def shrunk(width: int, height: int, options: Mapping[str, Value]) -> tuple[int, int]:
    """The size that is worked on, px, where `shrink` says how many megapixels there may be."""
    most = options.get("shrink", "no")
    if most == "no" or width * height <= (pixels := float(most) * MEGAPIXEL):
        return width, height
    factor = math.sqrt(pixels / (width * height))
    return max(1, math.floor(width * factor)), max(1, math.floor(height * factor))


def _millions(pixels: float) -> str:
    return f"{pixels / MEGAPIXEL:,.1f}".removesuffix(".0")


def _choice(name: str, label: str, help: str, *choices: tuple[str, str]) -> Option:
    return Option(name=name, label=label, help=help, kind="choice", choices=choices, default=choices[0][0])


_SHRINK = _choice(
    "shrink",
    "Make it smaller first",
    "Large photographs take long. A smaller copy is quicker, and often large enough.",
    ("no", "No, all of it"),
    ("12", "To 12 megapixels"),
    ("4", "To 4 megapixels"),
    ("1", "To 1 megapixel"),
)

VERBS: dict[str, Verb] = {
    verb.name: verb
    for verb in (
        Verb(
            name="restore",
            label="Repair",
            help="Take rain, snow, haze, darkness and noise out of a photograph. What is wrong is found for you.",
            makes="picture",
            most_in=50 * MEGAPIXEL,
            views=("before", "after", "explain", "overlay", "legend"),
            options=(
                Option(
                    name="strength",
                    label="Strength",
                    help="1 is all of the change, 0.5 half of it.",
                    kind="number",
                    default=1.0,
                    least=0.0,
                    most=1.0,
                    step=0.05,
                ),
                _SHRINK,
            ),
        ),
        Verb(
            name="upscale",
            label="Enlarge",
            help="Make a small picture larger and clean it: for pictures from the web, phones and old cameras.",
            makes="picture",
            most_in=4 * MEGAPIXEL,
            most_out=64 * MEGAPIXEL,
            views=("before", "after", "explain", "overlay", "legend"),
            grows="scale",
            options=(
                _choice("scale", "How much", "How many times as wide and high.", ("4", "4 times"), ("2", "2 times")),
                _choice(
                    "severity",
                    "How damaged it is",
                    "Normally this is found for you. More takes out more noise and blocks, and more fine detail.",
                    ("auto", "Find out"),
                    ("0", "Not at all"),
                    ("0.3", "A little"),
                    ("0.6", "Much"),
                    ("1", "Very much"),
                ),
                _SHRINK,
            ),
        ),
        Verb(
            name="encode",
            label="Make it endless",
            help="Turn a photograph into a mixture: a small file without pixels that stays sharp as you zoom in.",
            makes="moe",
            most_in=16 * MEGAPIXEL,
            views=("before", "after", "explain", "overlay", "legend"),
            options=(
                _choice(
                    "quality",
                    "Quality",
                    "Better takes longer; the file stays about as large.",
                    ("good", "Good, in seconds"),
                    ("quick", "Quick"),
                    ("best", "Best, in a minute or so"),
                ),
                _choice(
                    "detail",
                    "Detail",
                    "More detail makes a larger file.",
                    ("normal", "Normal"),
                    ("less", "Less: a small file"),
                    ("more", "More: a large file"),
                ),
                _SHRINK,
            ),
        ),
        Verb(
            name="denoise",
            label="Remove noise",
            help="Take the grain out of a photograph that was made in little light.",
            makes="picture",
            most_in=12 * MEGAPIXEL,
            options=(
                _choice(
                    "noise",
                    "How noisy it is",
                    "Normally this is found for you.",
                    ("auto", "Find out"),
                    ("10", "A little"),
                    ("25", "Much"),
                    ("50", "Very much"),
                ),
                _choice("quality", "Quality", "Better takes longer.", ("quick", "Quick"), ("best", "Best, slow")),
                _SHRINK,
            ),
        ),
        Verb(
            name="enlarge",
            label="Enlarge a clean picture",
            help="Make a clean picture larger without inventing anything: edges stay sharp.",
            makes="picture",
            most_in=4 * MEGAPIXEL,
            most_out=64 * MEGAPIXEL,
            views=("before", "after", "overlay", "legend"),
            grows="scale",
            options=(
                Option(
                    name="scale",
                    label="How much",
                    help="How many times as wide and high.",
                    kind="number",
                    default=2.0,
                    least=1.0,
                    most=8.0,
                    step=0.5,
                ),
                _choice(
                    "sampling",
                    "Where it comes from",
                    "A camera's pixels are not those of a picture that a program has made smaller.",
                    ("bicubic", "Made smaller by a program"),
                    ("area", "As a camera made it"),
                ),
                _SHRINK,
            ),
        ),
        Verb(
            name="segment",
            label="Find what is where",
            help="Colour roads, cars, people, houses and trees in a photograph of a street.",
            makes="labels",
            most_in=50 * MEGAPIXEL,
            views=("before", "after", "explain", "overlay", "legend"),
            options=(_SHRINK,),
        ),
        Verb(
            name="decode",
            label="Open an endless picture",
            help="Show a .moe file, zoom into it, and save it as a picture of any size.",
            accepts=("moe",),
            makes="picture",
            most_in=100 * MEGAPIXEL,
            views=("after", "explain", "overlay", "legend"),
            grows="scale",
            options=(
                Option(
                    name="scale",
                    label="Size of the saved picture",
                    help="How many times as wide and high as the photograph was.",
                    kind="number",
                    default=1.0,
                    least=0.25,
                    most=16.0,
                    step=0.25,
                ),
            ),
        ),
    )
}
"""By name, in the order of the page."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a job is to do: a verb and its options, checked."""

    verb: Verb
    options: dict[str, Value] = field(default_factory=dict)

    @classmethod
    def read(cls, name: Any, options: Any) -> Asked:
        """From what a client sent.

        Raises:
            ArgumentError: there is no such verb, or an option is wrong.
        """
        verb = VERBS.get(name) if isinstance(name, str) else None
        if verb is None:
            raise ArgumentError(f"There is nothing called {str(name)[:40]!r} to do; reload the page and try again.")
        return cls(verb, verb.checked(options))
